"""Header fields of emails: folded, and encoded only where a field may hold encoded words.

Fields with a syntax of their own, such as References, are read without decoding encoded words, so that encoding them
breaks threads and instructions to relays. They are folded at blanks, which unfolding restores.
"""

import json
import re
from collections.abc import Iterator
from email.charset import SHORTEST, Charset
from email.header import Header
from functools import lru_cache
from urllib.parse import quote

from mauntic_jobs.delivery.addresses import Address, trimmed
from mauntic_jobs.delivery.render.renderer import ContentError

LONGEST_LINE = 998
_FOLD_AT = 76
_LONGEST_URL = 900
_MOST_HEADER = 8_000

_HEADER_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,75}")
_ALLOWED_HEADERS = frozenset({
    *("auto-submitted", "feedback-id", "importance", "in-reply-to", "keywords", "list-help", "list-id", "list-owner"),
    *("organization", "precedence", "priority", "references"),
})  # fmt: skip
# What these hold is for programs: message ids, URLs, tags. Those with a phrase of words are not among them.
_STRUCTURED = re.compile(
    r"auto-submitted|feedback-id|importance|in-reply-to|list-help|list-owner|precedence|priority|references|x-ses-.*",
    re.IGNORECASE,
)
_LIST_ID = re.compile(r"([^<>]*)(<[^<>]*>)")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")
_STRING_OR_COMMA = re.compile(r'"(?:[^"\\]|\\.)*"|,(?! )')
_PIECE = re.compile(r" *[^ ]+")
# Its own settings: Apprise changes those that the whole process shares.
_UTF_8 = Charset("utf-8")
_UTF_8.header_encoding = SHORTEST

_WEB = re.compile(r"(https?)://([^/?#]*)(.*)", re.IGNORECASE)
_AUTHORITY = re.compile(r"(?:([^@]*)@)?([^@:\[\]]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?")
_IN_NO_URL = re.compile(r'[<>\s"\\]')
# RFC 3986 without the comma, which separates the URLs of List-Unsubscribe.
_URL_CHARACTERS = "!#$&'()*+/:;=?@[]~%-._"
_ENCODED = re.compile(rf"[A-Za-z0-9{re.escape(_URL_CHARACTERS.replace('%', ''))}]*")
_LONE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


class HeaderError(ContentError):
    """What was to be a header cannot be one."""


def one_line(text: str) -> str:
    """Return a text without what could end a header and begin another."""
    return _CONTROLS.sub(" ", text)


def address_field(name: str, address: Address) -> str:
    """Return a header with one address, folded."""
    # A recipient is written once, a sender for each message.
    return _named_field(name, address) if address.name else f"{name}: {address.spec}"


@lru_cache(maxsize=1024)
def _named_field(name: str, address: Address) -> str:
    shown = one_line(address.name).strip()
    if not shown:
        return f"{name}: {address.spec}"
    if shown.isascii() and len(shown) <= _FOLD_AT - len(name) and "=?" not in shown:
        quoted = shown if _ATOMS.fullmatch(shown) else '"' + shown.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return f"{name}: {quoted}\r\n <{address.spec}>"
    return f"{_encoded_words(name, shown)}\r\n <{address.spec}>"


def text_field(name: str, value: str) -> str:
    """Return a header of free text, folded."""
    if value.isascii() and len(name) + 2 + len(value) <= _FOLD_AT and "=?" not in value and value == value.strip():
        return f"{name}: {value}" if value else f"{name}:"
    return _encoded_words(name, value)


def custom_field(name: str, value: str) -> str:
    """Return a header that a tenant has set, folded. Raises HeaderError."""
    _check(name, value)
    value = value.strip()
    if name.lower() == "list-id":
        return _list_id(name, value)
    if value.startswith(("{", "[")):
        value = _ascii_json(value)
    if _STRUCTURED.fullmatch(name):
        if not value.isascii():
            raise HeaderError(f"the value of the header {name} has characters beyond ASCII, which it cannot have")
        return _folded(name, value)
    if value.isascii() and "=?" not in value and len(max(value.split(" "), key=len)) < LONGEST_LINE - len(name) - 1:
        return _folded(name, value)
    return _encoded_words(name, value)


def unsubscribe_fields(url: str) -> tuple[str, ...]:
    """Return the headers by which a recipient unsubscribes. Raises HeaderError."""
    address = unsubscribe_address(url)
    # In one line: folded after its name, it would be read with a space in front.
    field = f"List-Unsubscribe: <{address}>"
    # One click, by RFC 8058, is for https only.
    return (field, "List-Unsubscribe-Post: List-Unsubscribe=One-Click") if address.startswith("https:") else (field,)


def unsubscribe_address(url: str) -> str:
    """Return an unsubscribe URL in ASCII, without commas: percent-encoded, its host in punycode. Raises HeaderError."""
    url = trimmed(url)
    if not url.isprintable() or _IN_NO_URL.search(url):
        raise HeaderError("the unsubscribe URL has characters that no URL has")
    web = _WEB.fullmatch(url)
    if web:
        address = f"{web[1].lower()}://{_authority(web[2])}{_percent_encoded(web[3])}"
    elif url.lower().startswith("mailto:"):
        address = f"mailto:{_percent_encoded(url[len('mailto:') :])}"
    else:
        raise HeaderError("the unsubscribe URL does not begin with https://, http:// or mailto:")
    if len(address) > _LONGEST_URL:
        raise HeaderError(f"the unsubscribe URL is longer than {_LONGEST_URL} characters")
    return address


def _authority(text: str) -> str:
    found = _AUTHORITY.fullmatch(text)
    if found is None:
        raise HeaderError("the unsubscribe URL has no host that can be read")
    user = f"{_percent_encoded(found[1])}@" if found[1] is not None else ""
    return f"{user}{_host(found[2])}{found[3] or ''}"


def _host(host: str) -> str:
    if host.isascii():
        return _percent_encoded(host)
    import idna

    try:
        return idna.encode(host, uts46=True).decode()
    except idna.IDNAError:
        raise HeaderError("the unsubscribe URL has a host that cannot exist") from None


def _percent_encoded(text: str) -> str:
    if _ENCODED.fullmatch(text):
        return text
    return _LONE_PERCENT.sub("%25", quote(text, safe=_URL_CHARACTERS))


def _check(name: str, value: str) -> None:
    if not _HEADER_NAME.fullmatch(name):
        raise HeaderError(f"{name[:80]!a} is not the name of a header")
    if name.lower() not in _ALLOWED_HEADERS and not name.lower().startswith("x-"):
        allowed = ", ".join(sorted(_ALLOWED_HEADERS))
        raise HeaderError(f"the header {name} cannot be set: only those that begin with X-, and {allowed}")
    if _CONTROLS.search(value):
        raise HeaderError(f"the value of the header {name} has control characters")
    if len(value) > _MOST_HEADER:
        raise HeaderError(f"the value of the header {name} is longer than {_MOST_HEADER:,} characters")


def _folded(name: str, value: str) -> str:
    """Return a header folded at blanks. Raises HeaderError for a word that no line can hold."""
    return f"{name}:" + "\r\n".join(_lines(name, value, len(name) + 1))


def _lines(name: str, value: str, used: int) -> Iterator[str]:
    line = ""
    for piece in _PIECE.findall(f" {value}" if value else ""):
        if line and used + len(line) + len(piece) > _FOLD_AT:
            yield line
            line, used = "", 0
        line += piece
        if used + len(line) > LONGEST_LINE:
            raise HeaderError(f"the value of the header {name} has a word that is longer than a line of an email")
    yield line


def _list_id(name: str, value: str) -> str:
    """Return List-Id: its description may hold encoded words, the id itself may not (RFC 2919)."""
    found = _LIST_ID.fullmatch(value)
    if value.isascii() or found is None or not found[2].isascii():
        if not value.isascii():
            raise HeaderError(f"the value of the header {name} has an id that is not ASCII in angle brackets")
        return _folded(name, value)
    return f"{_encoded_words(name, found[1].strip())}\r\n {found[2]}"


def _ascii_json(value: str) -> str:
    """Return JSON with what is not ASCII escaped, and blanks to fold it at; a text that is not JSON as it is."""
    try:
        json.loads(value)
    except (ValueError, RecursionError):
        return value
    # Beyond ASCII there are only characters of strings, which may be escaped.
    spaced = _STRING_OR_COMMA.sub(lambda found: ", " if found[0] == "," else found[0], value)
    return (
        spaced if spaced.isascii() else "".join(each if each.isascii() else json.dumps(each)[1:-1] for each in spaced)
    )


def _encoded_words(name: str, value: str) -> str:
    value = value.encode(errors="replace").decode()
    return f"{name}: " + Header(value, _UTF_8, header_name=name, maxlinelen=_FOLD_AT).encode(linesep="\r\n")
