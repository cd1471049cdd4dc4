"""Text that is safe to store and to print: no credentials, no addresses, no phone numbers."""

import re

_RULES = (
    (re.compile(r"(?P<keep>\b[a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s@]+(?=@)", re.IGNORECASE), r"\g<keep>***"),
    (re.compile(r"(?P<keep>\b(?:password|secret|token|api_?key)\s*[=:]\s*)\S+", re.IGNORECASE), r"\g<keep>***"),
    (re.compile(r"[^\s@<>\"'(),;:/*]+@[^\s@<>\"'(),;:]+\.[^\s@<>\"'(),;:.]+"), "<address>"),
    (re.compile(r"(?<![\w.-])\+\d[\d ()-]{6,}\d"), "<phone>"),
)
_LONGEST = 2000


def scrub(text: str) -> str:
    """Return `text` without what must not leave the process, cut to 2,000 characters."""
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
