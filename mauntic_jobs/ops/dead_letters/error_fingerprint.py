"""Fingerprints of errors: their text without the values that differ from job to job."""

import re
from functools import lru_cache
from hashlib import sha256

_LOOKED_AT = 500
_RULES = (
    (re.compile(r"[a-z][a-z0-9+.-]{1,20}://\S+", re.IGNORECASE), "<url>"),
    (re.compile(r"[^\s@<>\"'(),;:]+@[^\s@<>\"'(),;:]+"), "<address>"),
    (re.compile(r"\"[^\"]*\"|`[^`]*`|(?<!\w)'[^']*'(?!\w)"), "<value>"),
    (re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"\b(?:0x[0-9a-f]+|(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{6,})\b", re.IGNORECASE), "<hex>"),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"), "<host>"),
    # The codes of SMTP and HTTP tell errors apart; 5.7.1 is one, 250 ms is none.
    (re.compile(r"(?<![\w.])(?![1-5]\d\d(?![\w.,]\d| ?m?s\b))(?!\d\.\d{1,3}\.\d{1,3}\b)\+?\d+(?:[.,:]\d+)*"), "<n>"),
)


@lru_cache(maxsize=10_000)
def fingerprint(queue: str, error: str) -> str:
    """Return what the errors of one kind have in common, as eight hexadecimal digits."""
    return sha256(f"{queue}\n{normalised(error)}".encode(errors="replace")).hexdigest()[:8]


def normalised(error: str) -> str:
    """Return the text of an error without numbers, ids, addresses, links and quoted values."""
    text = " ".join(error[:_LOOKED_AT].split())
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text
