"""Recipient guard for installations that are not in production: only recipients that are allowed get messages."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mauntic_jobs.delivery.addresses import parse_address
from mauntic_jobs.delivery.render.mime import Email
from mauntic_jobs.delivery.render.renderer import AnyDraft
from mauntic_jobs.delivery.render.sms import Sms
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.settings.types import recipients_of

REASON = "the recipient is not one of recipients_allow"
# Among what is allowed, all domains of `is_reserved`.
RESERVED = "reserved"
# RFC 2606 and RFC 6761: no mail server of anyone has these names.
_RESERVED_DOMAINS = ("example.com", "example.net", "example.org")
_RESERVED_ENDINGS = (
    *(".test", ".example", ".invalid", ".localhost"),
    *(f".{each}" for each in _RESERVED_DOMAINS),
)


@dataclass(frozen=True)
class RecipientGuard:
    """Recipients that get messages: `allowed` are domains, addresses, numbers with a + and device tokens.

    None of `allowed` lets everything pass. A message to anyone else goes to `redirect`, an email address or a number,
    if there is one of its kind.
    """

    allowed: Sequence[str] | None = None
    redirect: Sequence[str] = ()

    @property
    def sentence(self) -> str | None:
        """What it does, in capitals, None if it lets everything pass."""
        if self.allowed is None:
            return None
        rest = f"; ALL OTHERS TO {', '.join(self.redirect)}" if self.redirect else ""
        return f"MESSAGES GO ONLY TO {', '.join(self.allowed) or 'NO ONE'}{rest}"

    def passed(self, draft: AnyDraft) -> AnyDraft | None:
        """Return the draft as it may be sent, or None if it may not be sent."""
        if self.allowed is None or self._is_allowed(draft):
            return draft
        content = self._redirected(draft.content)
        return None if content is None else replace(draft, content=content)

    def _is_allowed(self, draft: AnyDraft) -> bool:
        if not isinstance(draft.content, Email):
            return draft.address in (self.allowed or ())
        domain = draft.address.rpartition("@")[2].lower()
        names = [each.lower() for each in self.allowed or ()]
        return domain in names or draft.address.lower() in names or (RESERVED in names and is_reserved(domain))

    def _redirected(self, content: object) -> object:
        address = next((each for each in self.redirect if "@" in each), None)
        number = next((each for each in self.redirect if each.startswith("+")), None)
        if isinstance(content, Email) and address is not None:
            return content._replace(recipient=parse_address(address))
        if isinstance(content, Sms) and number is not None:
            return replace(content, recipient=number)
        return None


def guard_of(settings: Settings) -> RecipientGuard:
    """Return the guard of an installation; development servers have one in any case."""
    allowed = settings.recipients_allow
    if allowed is None and settings.embedded:
        allowed = RESERVED
    redirect = recipients_of(settings.recipients_redirect)
    return RecipientGuard(None if allowed is None else recipients_of(allowed), redirect)


def is_reserved(domain: str) -> bool:
    """Return whether a domain is reserved for tests and documentation, so that no one has a mailbox there."""
    return domain in _RESERVED_DOMAINS or domain.endswith(_RESERVED_ENDINGS)
