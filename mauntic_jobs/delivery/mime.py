"""Emails as bytes, fast: the standard library's builder takes ten times as long as everything else that is done.

What comes out is parsed back by `email.parser` to what went in, and no relay has a reason to change it: lines are short
enough, ends are CRLF, and nothing is sent in eight bits to a server that has not asked for it.
"""

import re
import secrets
from base64 import encodebytes
from binascii import b2a_qp
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.header import Header
from email.utils import format_datetime
from functools import lru_cache
from hashlib import sha256
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

from mauntic_jobs.delivery.addresses import Address
from mauntic_jobs.delivery.writing import ContentError

_LONGEST_LINE = 998
_FOLD_AT = 76
_LONGEST_URL = 900
_MOST_HEADER = 8_000

_HEADER_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,75}")
_ALLOWED_HEADERS = frozenset({
    *("auto-submitted", "feedback-id", "importance", "in-reply-to", "keywords", "list-help", "list-id", "list-owner"),
    *("organization", "precedence", "priority", "references"),
})  # fmt: skip
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_CONTROL_BYTES = bytes([*range(9), 11, 12, *range(14, 32), 127])
# Relays change them, or once did: lines that end in a space, that are a dot, or that begin like a mailbox's message.
_FRAGILE = (b" \r\n", b"\t\r\n", b"\r\n.\r\n", b"\r\nFrom ")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")


_NONE: Mapping[str, str] = MappingProxyType({})


class HeaderError(ContentError):
    """What was to be a header cannot be one."""


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


def message_id(delivery: str, organization: UUID, domain: str) -> str:
    """Return the Message-ID of a delivery: the same each time."""
    return f"<{sha256(f'{organization}:{delivery}'.encode()).hexdigest()[:40]}@{domain}>"


def build(email: Email, *, eight_bit: bool) -> Mime:
    """Return the email's bytes; `eight_bit`: the server announced 8BITMIME. Raises HeaderError."""
    addresses = [email.sender, email.recipient, *([email.reply_to] if email.reply_to else [])]
    headers = [
        _address("From", email.sender),
        _address("To", email.recipient),
        *([_address("Reply-To", email.reply_to)] if email.reply_to else []),
        _text("Subject", one_line(email.subject)),
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


def one_line(text: str) -> str:
    """Return a text without what could end a header and begin another."""
    return _CONTROLS.sub(" ", text)


def headers_of(email: Email) -> list[tuple[str, str]]:
    """Return the headers that are the tenant's, and those of List-Unsubscribe, unfolded. Raises HeaderError."""
    _further(email)
    unsubscribe = _unsubscribe(email.unsubscribe_url) if email.unsubscribe_url else ()
    return [
        *((name, value) for name, _, value in (each.partition(": ") for each in unsubscribe)),
        *email.headers.items(),
    ]


def _further(email: Email) -> list[str]:
    unsubscribe = _unsubscribe(email.unsubscribe_url) if email.unsubscribe_url else ()
    return [*unsubscribe, *(_custom(name, value) for name, value in email.headers.items())]


def _body(email: Email, *, eight_bit: bool) -> tuple[bytes, bool]:
    if email.html is None:
        return _part("plain", email.text or "", eight_bit=eight_bit)
    text, text_8bit = _part("plain", email.text or "", eight_bit=eight_bit)
    html, html_8bit = _part("html", email.html, eight_bit=eight_bit)
    # Nobody can have written it into the content.
    boundary = b"=_" + secrets.token_hex(16).encode()
    kind = b'Content-Type: multipart/alternative;\r\n boundary="' + boundary + b'"\r\n'
    # A multipart of eight bits says so too.
    encoding = b"Content-Transfer-Encoding: 8bit\r\n" if text_8bit or html_8bit else b""
    line = b"\r\n--" + boundary
    return b"".join((kind, encoding, line, b"\r\n", text, line, b"\r\n", html, line, b"--\r\n")), text_8bit or html_8bit


def _part(kind: str, text: str, *, eight_bit: bool) -> tuple[bytes, bool]:
    """Return a part with its headers, and whether it has eight bits."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
    data = lines.replace("\n", "\r\n").encode(errors="replace")
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
        start = data.rfind(b"\n", start, start + _LONGEST_LINE + 2) + 1
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


@lru_cache(maxsize=1024)
def _address(header: str, address: Address) -> str:
    name = one_line(address.name).strip()
    if not name:
        return f"{header}: {address.spec}"
    if name.isascii() and len(name) <= _FOLD_AT - len(header) and "=?" not in name:
        quoted = name if _ATOMS.fullmatch(name) else '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return f"{header}: {quoted}\r\n <{address.spec}>"
    return f"{_encoded_words(header, name)}\r\n <{address.spec}>"


def _text(header: str, value: str) -> str:
    """Return a header of free text, folded."""
    if value.isascii() and len(header) + 2 + len(value) <= _FOLD_AT and "=?" not in value and value == value.strip():
        return f"{header}: {value}" if value else f"{header}:"
    return _encoded_words(header, value)


def _encoded_words(header: str, value: str) -> str:
    value = value.encode(errors="replace").decode()
    return f"{header}: " + Header(value, "utf-8", header_name=header, maxlinelen=_FOLD_AT).encode(linesep="\r\n")


def _custom(name: str, value: str) -> str:
    if not _HEADER_NAME.fullmatch(name):
        raise HeaderError(f"{name[:80]!a} is not the name of a header")
    if name.lower() not in _ALLOWED_HEADERS and not name.lower().startswith("x-"):
        allowed = ", ".join(sorted(_ALLOWED_HEADERS))
        raise HeaderError(f"the header {name} cannot be set: only those that begin with X-, and {allowed}")
    if _CONTROLS.search(value):
        raise HeaderError(f"the value of the header {name} has control characters")
    if len(value) > _MOST_HEADER:
        raise HeaderError(f"the value of the header {name} is longer than {_MOST_HEADER:,} characters")
    return _text(name, value)


def _unsubscribe(url: str) -> tuple[str, ...]:
    if not url.isascii() or not url.isprintable() or re.search(r'[<>,\s"\\]', url) or len(url) > _LONGEST_URL:
        raise HeaderError("the unsubscribe URL has characters that no URL has, or is too long")
    scheme = _scheme(url)
    if scheme not in ("https", "http", "mailto"):
        raise HeaderError("the unsubscribe URL does not begin with https:, http: or mailto:")
    # In one line: folded after its name, it would be read with a space in front.
    header = f"List-Unsubscribe: <{url}>"
    # One click, by RFC 8058, is for https only.
    return (header, "List-Unsubscribe-Post: List-Unsubscribe=One-Click") if scheme == "https" else (header,)


def _scheme(url: str) -> str | None:
    if url.startswith("https://") and "[" not in url and "]" not in url:
        # As nearly all do; brackets may be of what is no address.
        return "https"
    try:
        return urlsplit(url).scheme
    except ValueError:
        return None
