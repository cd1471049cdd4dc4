"""Numbers as characters: a line of one bar each, and a chart of several lines."""

from collections.abc import Sequence

# From nothing to full. A terminal that cannot show the first gets the second.
BLOCKS = " ▁▂▃▄▅▆▇█"
PLAIN = " .:-=+*#@"
# A full cell, stacked, has to look like one; what stands on top of it, like a part of it.
_PLAIN_STACKED = " ..::||##"


def ramp(encoding: str) -> str:
    """Return the characters to draw with where text is written in `encoding`."""
    try:
        BLOCKS.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return PLAIN
    return BLOCKS


def sparkline(values: Sequence[int], characters: str) -> str:
    """Return one character for each value; the largest is a full one, and only 0 is blank."""
    full = len(characters) - 1
    most = max(values, default=0) or 1
    return "".join(characters[-(-value * full // most)] for value in values)


def bars(values: Sequence[int], characters: str, *, height: int, width: int) -> list[str]:
    """Return the lines, top first, of a chart of bars, each `width` characters wide with the gap after it."""
    if characters == PLAIN:
        characters = _PLAIN_STACKED
    full = len(characters) - 1
    most = max(values, default=0) or 1
    eighths = [-(-value * full * height // most) for value in values]
    bar, gap = max(1, width - 1), min(1, width - 1)
    return [
        "".join(characters[min(full, max(0, level - row * full))] * bar + " " * gap for level in eighths).rstrip()
        for row in reversed(range(height))
    ]
