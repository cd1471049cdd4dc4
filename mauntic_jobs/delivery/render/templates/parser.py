"""The platform's template language. Tenants write it, so it can look up values and do nothing else.

`{{a.b}}` is escaped for HTML, `{{{a.b}}}` is not; `{{#if a}}..{{else}}..{{/if}}`; `{{#each a}}..{{/each}}`, and in it
`{{this}}`, `{{@index}}` and the item's own keys, then those around it; `{{! a comment }}`. What is absent is empty, or
its default: `{{a.b|"there"}}`. `{{#variant segment="name"}}..{{else}}..{{/variant}}` is for members of a segment.
"""

import re
from collections.abc import Mapping, Set as AbstractSet
from dataclasses import dataclass, field
from functools import lru_cache

from mauntic_jobs.delivery.render.templates.nodes import (
    STEPS_PER_CHECK,
    Body,
    Each,
    If,
    Node,
    Path,
    Run,
    Scope,
    TemplateError,
    Value,
    Variant,
    error_at,
)
from mauntic_jobs.delivery.render.text_budget import TextBudget

LONGEST_SOURCE = 1_000_000
LONGEST_PATH = 1_000
DEEPEST_NESTING = 20

# A template of nothing but tags takes forty times its length in memory: few long ones are kept.
_SHORT_SOURCE = 20_000
_SHORT_TEMPLATES_KEPT = 512
_LONG_TEMPLATES_KEPT = 8

# Searched only as far as the last }}, so that every {{ finds its end, and nothing is scanned twice.
_TAG = re.compile(r"\{\{(?:\{(?P<raw>.*?)\}\}(?P<third>\}?)|(?P<tag>.*?)\}\})", re.DOTALL)
_PATH = re.compile(r"@index|[\w$-]++(?:\.[\w$-]++)*+")
_QUOTATION_MARKS = (('"', '"'), ("'", "'"), ("\u201c", "\u201d"), ("&quot;", "&quot;"), ("&#39;", "&#39;"))
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Template:
    """A compiled template: what it may take from the data are the `paths`, whose first names are the `names`.

    `segments` are the names of segments that it has variants for.
    """

    _source: str
    _nodes: Body
    paths: frozenset[str]
    names: frozenset[str]
    segments: frozenset[str]

    def render(
        self,
        data: Mapping[str, object],
        *,
        escape: bool = True,
        budget: TextBudget | None = None,
        segments: AbstractSet[str] = frozenset(),
        unknown: dict[str, None] | None = None,
    ) -> str:
        """Fill in JSON values, escaped for HTML unless `escape` is false. Raises TemplateError beyond the limits.

        `segments` are those that the recipient belongs to. `unknown` gets the names of fields that are not there.
        """
        run = Run(self._source, escape, budget or TextBudget(), segments, {} if unknown is None else unknown)
        scope = Scope(data if isinstance(data, dict) else dict(data))
        run.render(self._nodes, scope)
        return "".join(run.parts)


def compile_template(source: str) -> Template:
    """Compile a template, or return it as compiled before. Raises TemplateError."""
    if len(source) > LONGEST_SOURCE:
        raise error_at(source, LONGEST_SOURCE, f"it is longer than {LONGEST_SOURCE} characters")
    return _compile_short(source) if len(source) <= _SHORT_SOURCE else _compile_long(source)


def _compile(source: str) -> Template:
    parser, budget = _Parser(source), TextBudget()
    start = 0
    for number, match in enumerate(_TAG.finditer(source, 0, source.rfind("}}") + 2)):
        if number % STEPS_PER_CHECK == 0 and budget.is_used_up:
            raise error_at(source, start, budget.excess)
        parser.add_literal(source[start : match.start()])
        parser.add_tag(match)
        start = match.end()
    parser.add_literal(source[start:])
    nodes, paths = parser.finish(), frozenset(parser.paths)
    names = frozenset(path.partition(".")[0] for path in paths)
    return Template(source, nodes, paths, names, frozenset(parser.segments))


_compile_short = lru_cache(_SHORT_TEMPLATES_KEPT)(_compile)
_compile_long = lru_cache(_LONG_TEMPLATES_KEPT)(_compile)


@dataclass(slots=True)
class _Block:
    """A block that is not closed yet."""

    helper: str
    position: int
    path: Path | None
    segment: str = ""
    body: list[Node | str] = field(default_factory=list)
    otherwise: list[Node | str] | None = None

    def close(self) -> Node:
        if self.path is None:
            return Variant(self.position, self.segment, tuple(self.body), tuple(self.otherwise or ()))
        if self.helper == "each":
            return Each(self.position, self.path, tuple(self.body))
        return If(self.position, self.path, tuple(self.body), tuple(self.otherwise or ()))


class _Parser:
    def __init__(self, source: str) -> None:
        self._source = source
        self._position = 0
        self._blocks: list[_Block] = []
        self._top: list[Node | str] = []
        self.paths: set[str] = set()
        self.segments: set[str] = set()
        self._nodes = self._top  # of the innermost open block, where the next one goes

    def add_literal(self, text: str) -> None:
        if text:
            self._nodes.append(text)

    def add_tag(self, match: re.Match[str]) -> None:
        self._position = match.start()
        if match["tag"] is None:
            if not match["third"]:
                raise self._error("{{{ is closed by }} only")
            self._nodes.append(self._value(match["raw"], raw=True))
            return
        tag = match["tag"].strip()
        if tag == "else":
            self._turn()
        elif tag.startswith("#"):
            self._open(*(*tag[1:].split(None, 1), "", "")[:2])
        elif tag.startswith("/"):
            self._close(tag[1:].strip())
        elif not tag.startswith("!"):
            self._nodes.append(self._value(tag, raw=False))

    def finish(self) -> Body:
        if self._blocks:
            self._position = self._blocks[-1].position
            raise self._error(f"{{{{#{self._blocks[-1].helper}}}}} is never closed")
        return tuple(self._top)

    def _value(self, text: str, *, raw: bool) -> Value:
        path, bar, default = text.partition("|")
        quoted = _unquoted(default) if bar else None
        if bar and quoted is None:
            # It says what is wrong with the whole.
            return Value(self._position, self._path(text), raw=raw)
        return Value(self._position, self._path(path), raw, quoted)

    def _open(self, helper: str, argument: str) -> None:
        if helper not in ("if", "each", "variant"):
            raise self._error(f"there is no block {_quote(helper)}, only if, each and variant")
        if len(self._blocks) >= DEEPEST_NESTING:
            raise self._error(f"blocks are nested deeper than {DEEPEST_NESTING}")
        if helper == "variant":
            block = _Block(helper, self._position, None, self._segment(argument))
        else:
            block = _Block(helper, self._position, self._path(argument))
        self._blocks.append(block)
        self._nodes = block.body

    def _turn(self) -> None:
        block = self._blocks[-1] if self._blocks else None
        if block is None or block.helper == "each":
            raise self._error("{{else}} stands outside {{#if}}")
        if block.otherwise is not None:
            raise self._error(f"{{{{#{block.helper}}}}} has a second {{{{else}}}}")
        self._nodes = block.otherwise = []

    def _close(self, helper: str) -> None:
        if not self._blocks or self._blocks[-1].helper != helper:
            expected = f"{{{{/{self._blocks[-1].helper}}}}}" if self._blocks else "no end of a block"
            raise self._error(f"here is {_quote('/' + helper)} where {expected} is expected")
        block = self._blocks.pop()
        if self._blocks:
            outer = self._blocks[-1]
            self._nodes = outer.body if outer.otherwise is None else outer.otherwise
        else:
            self._nodes = self._top
        self._nodes.append(block.close())

    def _path(self, text: str) -> Path:
        text = text.strip()
        if len(text) > LONGEST_PATH:
            raise self._error(f"a path is longer than {LONGEST_PATH} characters")
        path = _path(text)
        if path is None:
            raise self._error(f"{_quote(text)} is not a path: write it like contact.firstName")
        self.paths.add(text)
        return path

    def _segment(self, argument: str) -> str:
        name, _, value = argument.partition("=")
        segment = (_unquoted(value) or "").strip()
        if name.strip() != "segment" or not segment:
            raise self._error(f'{_quote(argument.strip())} names no segment: write segment="name"')
        self.segments.add(segment)
        return segment

    def _error(self, problem: str) -> TemplateError:
        return error_at(self._source, self._position, problem)


@lru_cache(1_024)
def _path(text: str) -> Path | None:
    if not _PATH.fullmatch(text):
        return None
    head, *keys = text.split(".")
    return Path(head, tuple((key, int(key) if _INDEX.fullmatch(key) else None) for key in keys))


def _unquoted(text: str) -> str | None:
    """Return a text without its quotation marks, which an editor may have changed; None if it has none."""
    text = text.strip()
    for opening, closing in _QUOTATION_MARKS:
        inner = text[len(opening) : -len(closing)]
        if text.startswith(opening) and text.endswith(closing) and len(text) >= len(opening) + len(closing):
            return None if opening in inner or closing in inner else inner
    return None


def _quote(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")  # noqa: PLR2004 - enough to find it by
