"""Plain text of an HTML email whose author wrote none, and the test for HTML; both in linear time.

Tenants write the HTML. A parser that builds a tree, as browsers do, takes quadratic time for some documents, and so
does a pattern that looks for an end which is not there. Each pattern here either ends with the next `>`, which is known
to exist, or takes all that is left.
"""

import re
from collections.abc import Iterator
from html import unescape
from html.entities import html5

from mauntic_jobs.delivery.render.text_budget import TextBudget

_TAG_START = re.compile(r"<[a-zA-Z!/]")
_REFERENCE = re.compile(r"&(?:#[0-9]{1,7};|#[xX][0-9a-fA-F]{1,6};|([A-Za-z][A-Za-z0-9]{1,31};))")
_UNSEEN = re.compile(r"<(head|style|script|title)\b(?:.*?</\1\s*+>|.*)|<!--(?:.*?-->|.*)", re.DOTALL | re.IGNORECASE)
_ANCHOR = re.compile(r"<(?:a\b([^>]*+)|/a\s*+)>", re.IGNORECASE)
_HREF = re.compile(r"""\bhref\s*+=\s*+["']((?:https?|mailto):[^"']*+)["']""", re.IGNORECASE)
_SPACE = re.compile(r"\s++")
_BREAK = re.compile(r"<(?:br|/?(?:p|div|h[1-6]|tr|table|ul|ol|blockquote|section|article))\b[^>]*+>", re.IGNORECASE)
_ITEM = re.compile(r"<li\b[^>]*+>", re.IGNORECASE)
_TAG = re.compile(r"<[a-z/!?][^>]*+>", re.IGNORECASE)
# From the first of several spaces, so that each is looked at once.
_BLANK = re.compile(r"(?<! ) *+\n[ \n]*+")
# Python refuses to read numbers of thousands of digits; none of these is a character.
_LONG_NUMBER = re.compile(r"&#(?:[0-9]{8,}+|[xX][0-9a-fA-F]{7,}+);?")


def is_html(text: str) -> bool:
    """Return whether a text has a tag, or a character that is written as in HTML, such as `&amp;`."""
    last = text.rfind(">")
    if last >= 0 and _TAG_START.search(text, 0, last) is not None:
        return True
    return "&" in text and any(each[1] is None or each[1] in html5 for each in _REFERENCE.finditer(text))


def text_of(html: str, budget: TextBudget | None = None) -> str:
    """Return what a reader would see of an HTML document, links as `text (URL)`.

    Raises TextBudgetError if it takes more than the budget.
    """
    budget = budget or TextBudget()
    text = _SPACE.sub(" ", _UNSEEN.sub("", html))
    # What follows the last > has no whole tag.
    end = text.rfind(">") + 1
    text, rest = text[:end], text[end:]
    budget.check("making plain text of its HTML")
    if "href" in text:
        text = "".join(_with_addresses(text))
    text = _ITEM.sub("\n- ", _BREAK.sub("\n", text))
    budget.check("making plain text of its HTML")
    text = _LONG_NUMBER.sub("\N{REPLACEMENT CHARACTER}", _TAG.sub("", text) + rest)
    return _BLANK.sub("\n", unescape(text)).strip()


def _with_addresses(text: str) -> Iterator[str]:
    """Yield the pieces of a document with the address of each link after its text, unless that shows it."""
    url, start = "", 0
    for anchor in _ANCHOR.finditer(text):
        shown = text[start : anchor.start()]
        yield shown
        if url and url.removeprefix("mailto:") not in shown:
            yield f" ({url})"
        href = _HREF.search(anchor[1]) if anchor[1] else None
        url, start = href[1] if href else "", anchor.end()
    yield text[start:]
