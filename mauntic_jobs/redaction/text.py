"""Text that is safe to store and to print: no credentials, no addresses, no phone numbers."""

import base64
import re

_MAX_CHARACTERS = 2000
# What is cut off is not looked at; this much more is, so that nothing is hidden only in part.
_MAX_EXAMINED_CHARACTERS = 4 * _MAX_CHARACTERS

_NAMES = "password|passwd|pass|secret|token|api[_-]?key|access[_-]?key|credentials?"
_QUOTED = r"\"[^\"]*\"?|'[^']*'?"
_RULES = (
    # The password of a URL; it may hold an @ that should have been encoded, so up to the last one of the word.
    (re.compile(r"(?P<keep>\b[a-z][a-z0-9+.-]{0,30}://[^\s:/@]{0,200}:)[^\s]+@", re.IGNORECASE), r"\g<keep>***@"),
    (re.compile(r"(?P<keep>\bauthorization\W{1,5}(?:\w{1,20}\s)?)\S+", re.IGNORECASE), r"\g<keep>***"),
    # `password=x`, `"apiKey": "x"`, `AWS_SECRET_ACCESS_KEY: x`.
    (
        re.compile(
            rf"(?P<keep>\b[\w-]{{0,60}}?(?:{_NAMES})[\w-]{{0,60}}[\"']?\s{{0,5}}[=:]\s{{0,5}})(?:{_QUOTED}|\S+)",
            re.IGNORECASE,
        ),
        r"\g<keep>***",
    ),
    # As it is, with its local part quoted, or percent-encoded.
    (
        re.compile(
            r"(?:\"[^\"\r\n]{1,64}\"|(?!')[^\s@<>\"(),;:/*]{1,64})(?:@|%40)"
            r"[^\s@<>\"'(),;:&]{1,253}\.[^\s@<>\"'(),;:.&]{1,63}",
            re.IGNORECASE,
        ),
        "<address>",
    ),
    (re.compile(r"(?<![\w.-])(?:\+|%2B)\d(?:[\d ()./-]|%20|%28|%29){6,40}\d", re.IGNORECASE), "<phone>"),
    # As in North America, without a plus.
    (re.compile(r"(?<![\w.-])(?:1[ .-]?)?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\w-])"), "<phone>"),
)
_ENCODED = re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/]{12,}={0,2}")


def scrub(text: str) -> str:
    """Return `text` without what must not leave the process, cut to 2,000 characters, as any store can hold it."""
    # Postgres has no NUL, and no encoding writes half of a surrogate pair.
    text = text[:_MAX_EXAMINED_CHARACTERS].replace("\0", "?").encode(errors="replace").decode()
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    text = _ENCODED.sub(_undecoded, text)
    return text if len(text) <= _MAX_CHARACTERS else text[: _MAX_CHARACTERS - 1] + "…"


def _undecoded(match: re.Match[str]) -> str:
    """Return nothing of what is a text in base64, such as credentials or a message; what is random is no text."""
    word = match[0].rstrip("=")
    try:
        text = base64.b64decode(word + "=" * (-len(word) % 4)).decode()
    except ValueError:
        return match[0]
    return "<encoded>" if all(each.isprintable() or each.isspace() for each in text) else match[0]
