"""Emails as bytes, fast: the standard library's builder takes ten times as long as everything else that is done.

What comes out is parsed back by `email.parser` to what went in, and no relay has a reason to change it: lines are short
enough, ends are CRLF, and nothing is sent in eight bits to a server that has not asked for it.
"""

import secrets
from base64 import encodebytes
from binascii import b2a_qp
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from functools import lru_cache
from hashlib import sha256
from types import MappingProxyType
from typing import NamedTuple
from uuid import UUID

from mauntic_jobs.delivery.addresses import Address
from mauntic_jobs.delivery.render.headers import (
    LONGEST_LINE,
    address_field,
    custom_field,
    one_line,
    text_field,
    unsubscribe_fields,
)

_CONTROL_BYTES = bytes([*range(9), 11, 12, *range(14, 32), 127])
# Relays change them, or once did: lines that end in a space, that are a dot, or that begin like a mailbox's message.
_FRAGILE = (b" \r\n", b"\t\r\n", b"\r\n.\r\n", b"\r\nFrom ")
_NONE: Mapping[str, str] = MappingProxyType({})


class Email(NamedTuple):
    """An email as it is meant. `html` or `text` is given; `date` is aware; `message_id` has its angle brackets.

    `tags` name the message to providers that keep them, by `deliveryId`, `organizationId` and others.
    """

    sender: Address
    recipient: Address
    subject: str
    message_id: str
    date: datetime
    html: str | None = None
    text: str | None = None
    reply_to: Address | None = None
    unsubscribe_url: str | None = None
    headers: Mapping[str, str] = _NONE
    tags: Mapping[str, str] = _NONE


@dataclass(frozen=True, slots=True)
class Mime:
    """The bytes of an email, lines ending in CRLF, and what they ask of a server."""

    content: bytes
    needs_8bit: bool
    needs_smtputf8: bool


def message_id(delivery: str, organization: UUID | str, domain: str) -> str:
    """Return the Message-ID of a delivery: the same each time."""
    return f"<{sha256(f'{organization}:{delivery}'.encode()).hexdigest()[:40]}@{domain}>"


def build(email: Email, *, eight_bit: bool) -> Mime:
    """Return the email's bytes; `eight_bit`: the server announced 8BITMIME. Raises HeaderError."""
    addresses = [email.sender, email.recipient, *([email.reply_to] if email.reply_to else [])]
    headers = [
        address_field("From", email.sender),
        address_field("To", email.recipient),
        *([address_field("Reply-To", email.reply_to)] if email.reply_to else []),
        text_field("Subject", one_line(email.subject)),
        f"Message-ID: {email.message_id}",
        f"Date: {_date(email.date.replace(microsecond=0))}",
        *_further(email),
        "MIME-Version: 1.0",
    ]
    body, needs_8bit = _body(email, eight_bit=eight_bit)
    content = "\r\n".join(headers).encode() + b"\r\n" + body
    return Mime(content, needs_8bit, any(address.needs_smtputf8 for address in addresses))


# Those of one second have the same.
_date = lru_cache(maxsize=4)(format_datetime)


def headers_of(email: Email) -> list[tuple[str, str]]:
    """Return the headers that are the tenant's, and those of List-Unsubscribe, unfolded. Raises HeaderError."""
    _further(email)
    unsubscribe = unsubscribe_fields(email.unsubscribe_url) if email.unsubscribe_url else ()
    return [
        *((name, value) for name, _, value in (each.partition(": ") for each in unsubscribe)),
        *email.headers.items(),
    ]


def _further(email: Email) -> list[str]:
    unsubscribe = unsubscribe_fields(email.unsubscribe_url) if email.unsubscribe_url else ()
    return [*unsubscribe, *(custom_field(name, value) for name, value in email.headers.items())]


def _body(email: Email, *, eight_bit: bool) -> tuple[bytes, bool]:
    if email.html is None:
        return _part("plain", email.text or "", eight_bit=eight_bit)
    text, text_8bit = _part("plain", email.text or "", eight_bit=eight_bit)
    html, html_8bit = _part("html", email.html, eight_bit=eight_bit)
    # No author can have written it into the content.
    boundary = b"=_" + secrets.token_hex(16).encode()
    kind = b'Content-Type: multipart/alternative;\r\n boundary="' + boundary + b'"\r\n'
    # A multipart of eight bits says so too.
    encoding = b"Content-Transfer-Encoding: 8bit\r\n" if text_8bit or html_8bit else b""
    line = b"\r\n--" + boundary
    return b"".join((kind, encoding, line, b"\r\n", text, line, b"\r\n", html, line, b"--\r\n")), text_8bit or html_8bit


def _part(kind: str, text: str, *, eight_bit: bool) -> tuple[bytes, bool]:
    """Return a part with its headers, and whether it has eight bits."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
    data = lines.encode(errors="replace").replace(b"\n", b"\r\n")
    plain = _is_plain(data)
    if plain and data.isascii():
        encoding = b"7bit"
    elif plain and eight_bit:
        encoding = b"8bit"
    else:
        encoding, data = _encoded(data)
    headers = b'Content-Type: text/%b; charset="utf-8"\r\nContent-Transfer-Encoding: %b\r\n\r\n'
    return headers % (kind.encode(), encoding) + data, encoding == b"8bit"


def _is_plain(data: bytes) -> bool:
    """Whether the text can be sent as it is."""
    if len(data) != len(data.translate(None, _CONTROL_BYTES)):
        return False
    framed = b"\r\n%b\r\n" % data
    for each in _FRAGILE:
        if each in framed:
            return False
    return _has_short_lines(framed)


def _has_short_lines(data: bytes) -> bool:
    """Whether no line is too long; `data` ends with CRLF."""
    start, end = 0, len(data)
    while start < end:
        # As many lines at once as are together no longer than one may be, with its CRLF.
        start = data.rfind(b"\n", start, start + LONGEST_LINE + 2) + 1
        if not start:
            return False
    return True


def _encoded(data: bytes) -> tuple[bytes, bytes]:
    """Return what is sent through seven bits, in the encoding that is shorter."""
    quoted = b2a_qp(data, quotetabs=False, istext=True).replace(b"\nFrom ", b"\nFrom=20")
    quoted = b"From=20" + quoted[5:] if quoted.startswith(b"From ") else quoted
    # Soft line breaks take the ends of the text's own lines; a text of one line has none.
    quoted = quoted.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    if len(quoted) * 3 <= len(data) * 4 * 78 // 76 + 3:
        return b"quoted-printable", quoted
    return b"base64", encodebytes(data).replace(b"\n", b"\r\n")
