"""Secrets and recipients that must be seen nowhere, and the search for them in whatever way they are written."""

import base64
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, quote_plus, unquote, unquote_plus

# Ranges that are kept for fiction: 555-0100 to 0199 of any area in North America, 7700 900000 to 900999 in Britain.
_AREAS = ("202", "303", "404")
_WRITTEN = ("+1 ({0}) {1}-{2}", "+1{0}{1}{2}", "tel:+1-{0}-{1}-{2}", "+1.{0}.{1}.{2}", "({0}) {1}-{2}", "1{0}{1}{2}")
_WORDS = re.compile(r"(?:quillon|devtok|perpetua)\d{4}|\d{10,15}")
_ENCODED = re.compile(r"[A-Za-z0-9+/]{12,}")
_ESCAPED = re.compile(r"\\+u([0-9a-fA-F]{4})")
_SEPARATORS = re.compile(r"(?<=\d)[ ().\-/]{1,3}(?=\d)")


@dataclass(frozen=True)
class Canary:
    """Something to look for: as it is given away, and `core`, the part of it that is nowhere else."""

    whole: str
    core: str

    @property
    def is_word(self) -> bool:
        """Whether it is found by looking at words: there are many of these."""
        return bool(_WORDS.fullmatch(self.core))


def secret(name: str, shape: str = "Xq{}/9+z=Kw") -> Canary:
    """Return a secret with marks in it that each way of writing changes."""
    whole = shape.format(f"canary{name}")
    return Canary(whole, whole)


def emails(count: int) -> list[Canary]:
    """Return addresses of all kinds."""
    shapes = (
        *("zoe.{}@example.com", "o'brien+{}@example.com", "{}!x=y@mail.example.com", "ZOE_{}@EXAMPLE.COM"),
        *("drop-data+{}@example.com", "drop-after-dot+{}@example.com"),
        *("Zoe {0} <{0}@example.com>", "zoë{}@example.com", '"zoe {}"@example.com', "zoe {} at example.com"),
    )
    cores = [f"quillon{n:04}" for n in range(count)]
    return [Canary(shapes[n % len(shapes)].format(core), core) for n, core in enumerate(cores)]


def names(count: int) -> list[Canary]:
    """Return what people are called."""
    return [Canary(f"Perpetua{n:04}", f"perpetua{n:04}") for n in range(count)]


def phones(count: int) -> list[Canary]:
    """Return fictional phone numbers, as people write them."""
    american = [(area, "555", f"01{n:02}") for area in _AREAS for n in range(100)]
    found = [
        Canary(_WRITTEN[n % len(_WRITTEN)].format(*parts), "".join(parts)) for n, parts in enumerate(american[:count])
    ]
    return found + [Canary(f"+44 7700 900{n:03}", f"7700900{n:03}") for n in range(count - len(found))]


def tokens(count: int) -> list[Canary]:
    """Return tokens of devices, of which half are short."""
    cores = [f"devtok{n:04}" for n in range(count)]
    return [Canary(f"{core}pQ:APA91b{'-_Zx9' * (n % 2 * 24)}", core) for n, core in enumerate(cores)]


WAYS = (
    lambda text: text,
    lambda text: quote(text, safe=""),
    quote_plus,
    lambda text: base64.b64encode(text.encode()).decode(),
    lambda text: json.dumps(text)[1:-1],
    str.upper,
    str.lower,
)


def leaks(text: str, canaries: Iterable[Canary]) -> list[str]:
    """Return what of them stands in a text, however it is written there."""
    ways = {text, unquote(text), unquote_plus(text), _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)}
    ways |= {_decoded(word) for word in set(_ENCODED.findall(text))}
    given = "\n".join(ways).lower()
    given = f"{given}\n{_SEPARATORS.sub('', given)}"
    words = {word[-10:] if word.isdigit() else word for word in _WORDS.findall(given)}
    return [each.core for each in canaries if (each.core in words if each.is_word else each.core.lower() in given)]


def _decoded(word: str) -> str:
    try:
        return base64.b64decode(word + "=" * (-len(word) % 4)).decode()
    except ValueError:
        return ""
