"""The text that stands beside an HTML email whose author wrote none."""

import re
from html import unescape

_UNSEEN = re.compile(r"<(head|style|script|title)\b.*?</\1\s*>|<!--.*?-->", re.DOTALL | re.IGNORECASE)
_LINK = re.compile(
    r"""<a\b[^>]*?\bhref\s*=\s*["']((?:https?|mailto):[^"']*)["'][^>]*>(.*?)</a\s*>""", re.IGNORECASE | re.DOTALL
)
_SPACE = re.compile(r"\s+")
_BREAK = re.compile(r"<(?:br|/?(?:p|div|h[1-6]|tr|table|ul|ol|blockquote|section|article))\b[^>]*>", re.IGNORECASE)
_ITEM = re.compile(r"<li\b[^>]*>", re.IGNORECASE)
_TAG = re.compile(r"<[a-z/!?][^>]*>", re.IGNORECASE)
_BLANK = re.compile(r" *\n[ \n]*")


def text_of(html: str) -> str:
    """Return what a reader would see of an HTML document, links as `text (URL)`."""
    text = _SPACE.sub(" ", _UNSEEN.sub("", html))
    if "href" in text:
        text = _LINK.sub(_link, text)
    text = _ITEM.sub("\n- ", _BREAK.sub("\n", text))
    return _BLANK.sub("\n", unescape(_TAG.sub("", text))).strip()


def _link(match: re.Match[str]) -> str:
    url, shown = match.groups()
    return shown if url.removeprefix("mailto:") in shown else f"{shown} ({url})"
