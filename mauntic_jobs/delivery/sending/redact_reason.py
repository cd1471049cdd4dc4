"""Redaction of refusals that repeat a message's recipient or content."""

import re
from functools import lru_cache
from urllib.parse import unquote

from mauntic_jobs.delivery.render.headers import HeaderError, unsubscribe_address
from mauntic_jobs.delivery.render.mime import Email
from mauntic_jobs.delivery.render.push import Push
from mauntic_jobs.delivery.render.sms import Sms
from mauntic_jobs.delivery.sending.providers.config import hide

_MASK = "<content>"
# So many characters in a row are in the reason because they are in the message.
_SHORTEST = 16
_BLOCK = _SHORTEST // 2
_NUMBER = re.compile(r"\+\d{7,15}")


def without(reason: str, content: object) -> str:
    """Return a reason without what it repeats of a message: its recipient, and passages of its texts."""
    recipients, texts = _told(content)
    reason = hide(reason, recipients)
    for number in filter(_NUMBER.fullmatch, recipients):
        reason = _digits(number).sub("<phone>", reason)
    decoded = unquote(reason)
    reason = decoded if decoded.isprintable() else reason
    for text in texts:
        reason = _unquoted(reason, " ".join(text.split()).lower().replace("+", " "))
    return reason


def _told(content: object) -> tuple[list[str], list[str]]:
    match content:
        case Email():
            to, answers = content.recipient, [content.reply_to.spec] if content.reply_to else []
            recipients = [to.spec, to.plain, to.local, to.name, *_addresses_of(content.unsubscribe_url), *answers]
            return recipients, [content.subject, content.html or "", content.text or "", *content.headers.values()]
        case Sms():
            return [content.recipient], [content.text]
        case Push():
            return [content.token, *content.data.values()], [content.title or "", content.body or ""]
        case _:
            return [], []


def _addresses_of(url: str | None) -> list[str]:
    """Return an unsubscribe URL as it was given and as it is sent."""
    try:
        return [url, unsubscribe_address(url)] if url else []
    except HeaderError:
        return [url] if url else []


@lru_cache(maxsize=64)
def _digits(number: str) -> re.Pattern[str]:
    """Return what finds a phone number without its plus, or with marks between its digits."""
    between = r"(?:[ ()./+-]|%2[0-9A-F]){0,3}"
    return re.compile(rf"(?:\+|%2B)?{between.join(number[1:])}", re.IGNORECASE)


def _unquoted(reason: str, text: str) -> str:
    """Return a reason without its passages that are in a text, which is in small letters and has spaces for pluses."""
    # One by one: a few characters have a small form that is longer.
    lowered = "".join(each.lower()[0] for each in reason).replace("+", " ")
    # Every passage has a whole block in it; most reasons have none, and are done with.
    blocks = [lowered[at : at + _BLOCK] in text for at in range(0, len(reason), _BLOCK)]
    if not any(blocks):
        return reason
    kept, start = [], 0
    while start < len(reason):
        end = start + _SHORTEST
        if end > len(reason) or not blocks[-(-start // _BLOCK)] or lowered[start:end] not in text:
            kept.append(reason[start])
            start += 1
            continue
        while end < len(reason) and lowered[start : end + 1] in text:
            end += 1
        kept.append(_MASK)
        start = end
    return "".join(kept)
