"""Push messages: from a message, a contact and a template to what a push provider sends."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from mauntic_jobs.delivery.addresses import trimmed
from mauntic_jobs.delivery.payload import Message
from mauntic_jobs.delivery.render.lookups import Lookups
from mauntic_jobs.delivery.render.personalize import Filler, Personalization, first, tags_of
from mauntic_jobs.delivery.render.renderer import Draft, WritingError
from mauntic_jobs.settings.types import MessageLimits

_LONGEST_TOKEN = 4096
# Of the platforms' limits on what replaces what: APNs takes 64 bytes, the Web Push protocol 32 characters.
_COLLAPSE_CHARACTERS = 32


@dataclass(frozen=True, slots=True)
class Push:
    """A message to a device. `data` are the app's own values, as texts; `badge` is the number on the app's icon.

    `collapse_id` is the same whenever the message is sent: a device that gets it twice shows it once.
    `tags` name the message by `deliveryId`, `organizationId` and others.
    """

    token: str = field(repr=False)
    title: str | None
    body: str | None
    collapse_id: str
    data: Mapping[str, str] = field(default_factory=dict)
    badge: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


class PushRenderer:
    """Writes push messages."""

    def __init__(self, lookups: Lookups, limits: MessageLimits) -> None:
        self._personalization = Personalization(lookups)
        self._limits = limits

    async def write(self, message: Message, sender: str | None) -> Draft[Push]:  # noqa: ARG002 - they are from the app
        """Return the draft, its content a Push. Raises JobFailedError, which says what is wrong or missing."""
        token = trimmed(message.device_token or "")
        if not token:
            raise WritingError("the message has no device token, and the platform keeps none for its contact")
        if len(token) > _LONGEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
            raise WritingError("the device token has characters that no token has, or is too long")
        template = await self._personalization.template(message)
        title = first(message.title, message.subject, template.subject)
        body = first(message.body, message.text, template.text)
        contact = await self._personalization.contact(message, token, title, body)
        if title is None and body is None and not message.data:
            raise WritingError("neither the message nor a template has a title, a text or data")
        if message.badge is not None and message.badge < 0:
            raise WritingError("its badge is less than zero")
        filler = Filler(message, contact, self._limits)
        title, body = (None if text is None else filler.fill(text).strip() for text in (title, body))
        if not title and not body and not message.data:
            raise WritingError("its title and its text are empty once they are filled in")
        content = Push(
            token=token,
            title=title or None,
            body=body or None,
            collapse_id=_collapse_id(message),
            data={name: _as_text(value) for name, value in (message.data or {}).items()},
            badge=message.badge,
            tags=tags_of(message),
        )
        return Draft(token, content, unknown_fields=filler.unknown_fields)

    def signed(self, draft: Draft[Push], message_id: str | None) -> Push:  # noqa: ARG002 - its collapse id is its own
        """Return the message as it is."""
        return draft.content


def _collapse_id(message: Message) -> str:
    return sha256(f"{message.organization}:{message.key}".encode()).hexdigest()[:_COLLAPSE_CHARACTERS]


def _as_text(value: object) -> str:
    """Return a value as apps get it: texts as they are, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
