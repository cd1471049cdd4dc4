"""SMS: from a message, a contact and a template to what an SMS provider sends."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from mauntic_jobs.delivery.addresses import trimmed
from mauntic_jobs.delivery.payload import Message
from mauntic_jobs.delivery.render.lookups import Lookups
from mauntic_jobs.delivery.render.personalize import Filler, Personalization, first, tags_of
from mauntic_jobs.delivery.render.renderer import Draft, WritingError
from mauntic_jobs.settings.types import MessageLimits

_GSM_7 = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM_7_EXTENDED = frozenset("\f^{}\\[~]|€")
_MOST_SEGMENTS = 10
_LONGEST_SEGMENT = 153
_NUMBER = re.compile(r"(?:tel:)?[+\d][\d\s().\-/]{2,40}", re.IGNORECASE)
_SHORT_CODE = re.compile(r"[0-9]{3,8}")
# What phones show of a sender that is no number: 3GPP TS 23.040, 9.1.2.5; at least one letter.
_NAME = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9 &+_\-]{1,11}")


@dataclass(frozen=True, slots=True)
class Sms:
    """A text message. `recipient` is in E.164; `sender` a number, a name or a short code, None for the provider's own.

    `tags` name the message to providers that keep them, by `deliveryId`, `organizationId` and others.
    """

    recipient: str
    text: str
    sender: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def segments(self) -> int:
        """How many messages it is on the air."""
        return segments(self.text)


class SmsRenderer:
    """Writes text messages."""

    def __init__(self, lookups: Lookups, limits: MessageLimits) -> None:
        self._personalization = Personalization(lookups)
        self._limits = limits

    async def write(self, message: Message, sender: str | None) -> Draft[Sms]:  # noqa: ARG002 - it is each provider's own
        """Return the draft, its content an Sms. Raises JobFailedError, which says what is wrong or missing."""
        template = await self._personalization.template(message)
        source = first(message.body, message.text, template.text)
        contact = await self._personalization.contact(message, message.phone_number, source)
        written = first(message.phone_number, contact["phone"] if contact else None)
        if written is None:
            raise WritingError("neither the message nor its contact has a phone number")
        if source is None:
            raise WritingError("neither the message nor a template has a text")
        recipient = e164(written)
        filler = Filler(message, contact, self._limits)
        text = filler.fill(source).strip()
        if not text:
            raise WritingError("its text is empty once it is filled in")
        check_length(text)
        content = Sms(recipient, text, sender_of(message.sender) if message.sender else None, tags_of(message))
        other = written if written != recipient else None
        return Draft(recipient, content, written=other, unknown_fields=filler.unknown_fields)

    def signed(self, draft: Draft[Sms], message_id: str | None) -> Sms:  # noqa: ARG002 - an SMS has no id of its own
        """Return the message as it is."""
        return draft.content


@lru_cache(maxsize=4096)
def e164(text: str) -> str:
    """Return a phone number in E.164, such as +15005550006. Raises WritingError, which says what is wrong with it."""
    import phonenumbers

    text = trimmed(text)
    if not _NUMBER.fullmatch(text):
        raise WritingError("the phone number has characters that no phone number has, or is too short or too long")
    try:
        number = phonenumbers.parse(text)
    except phonenumbers.NumberParseException as error:
        if error.error_type == error.INVALID_COUNTRY_CODE:
            raise WritingError("the phone number must begin with + and the code of its country") from None
        raise WritingError("the phone number is too short or too long") from None
    if not phonenumbers.is_possible_number(number):
        raise WritingError("the phone number is too short or too long for its country")
    formatted: str = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    return formatted


def sender_of(text: str) -> str:
    """Return whom messages are to be from, numbers in E.164. Raises WritingError if they cannot be from that."""
    text = trimmed(text)
    if text.startswith("+"):
        return e164(text)
    if _SHORT_CODE.fullmatch(text) or _NAME.fullmatch(text):
        return text
    raise WritingError("the sender is neither a phone number with + nor a short code nor a name of up to 11 letters")


def check_length(text: str) -> None:
    """Raise WritingError for a text that takes more segments than are allowed."""
    # No text of more characters fits, and counting the segments of a very long one takes long.
    count = segments(text) if len(text) <= _MOST_SEGMENTS * _LONGEST_SEGMENT else len(text) // _LONGEST_SEGMENT + 1
    if count > _MOST_SEGMENTS:
        raise WritingError(f"its text takes {count:,} segments, and {_MOST_SEGMENTS} are allowed")


def segments(text: str) -> int:
    """Return how many messages a text takes: 160 characters of GSM-7 or 70 of UCS-2 alone, else 153 or 67 in each.

    As 3GPP TS 23.038 and 23.040 have it; a character of two units is not divided between two messages.
    """
    if all(each in _GSM_7 or each in _GSM_7_EXTENDED for each in text):
        units, alone, joined = [2 if each in _GSM_7_EXTENDED else 1 for each in text], 160, 153
    else:
        units, alone, joined = [2 if ord(each) > 0xFFFF else 1 for each in text], 70, 67  # noqa: PLR2004 - UTF-16
    if sum(units) <= alone:
        return 1
    count, room = 1, joined
    for unit in units:
        if unit > room:
            count, room = count + 1, joined
        room -= unit
    return count
