"""The platform's template language. Tenants write it, so it can look up values and do nothing else.

`{{a.b}}` is escaped for HTML, `{{{a.b}}}` is not; `{{#if a}}..{{else}}..{{/if}}`; `{{#each a}}..{{/each}}`, and in it
`{{this}}`, `{{@index}}` and the item's own keys, then those around it; `{{! a comment }}`. What is absent is empty.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from mauntic_jobs.delivery.template_nodes import (
    STEPS_PER_CHECK,
    Each,
    If,
    Literal,
    Node,
    Path,
    Run,
    Scope,
    TemplateError,
    Value,
    error_at,
)
from mauntic_jobs.delivery.text_budget import TextBudget

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
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Template:
    """A compiled template. `names` are the first names of all its paths: what it may take from the data."""

    _source: str
    _nodes: tuple[Node, ...]
    names: frozenset[str]

    def render(self, data: Mapping[str, Any], *, escape: bool = True, budget: TextBudget | None = None) -> str:
        """Fill in JSON values, escaped for HTML unless `escape` is false. Raises TemplateError beyond the limits."""
        run = Run(self._source, escape, budget or TextBudget())
        scope = Scope(data if isinstance(data, dict) else dict(data))
        for node in self._nodes:
            node.render(run, scope)
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
    return Template(source, parser.finish(), frozenset(parser.names))


_compile_short = lru_cache(_SHORT_TEMPLATES_KEPT)(_compile)
_compile_long = lru_cache(_LONG_TEMPLATES_KEPT)(_compile)


@dataclass(slots=True)
class _Block:
    """A block that is not closed yet."""

    helper: str
    position: int
    path: Path
    body: list[Node] = field(default_factory=list)
    otherwise: list[Node] | None = None

    def close(self) -> Node:
        if self.helper == "each":
            return Each(self.position, self.path, tuple(self.body))
        return If(self.position, self.path, tuple(self.body), tuple(self.otherwise or ()))


class _Parser:
    def __init__(self, source: str) -> None:
        self._source = source
        self._position = 0
        self._blocks: list[_Block] = []
        self._top: list[Node] = []
        self.names: set[str] = set()
        self._nodes = self._top  # of the innermost open block, where the next one goes

    def add_literal(self, text: str) -> None:
        if text:
            self._nodes.append(Literal(text))

    def add_tag(self, match: re.Match[str]) -> None:
        self._position = match.start()
        if match["tag"] is None:
            if not match["third"]:
                raise self._error("{{{ is closed by }} only")
            self._nodes.append(Value(self._position, self._path(match["raw"]), raw=True))
            return
        tag = match["tag"].strip()
        if tag == "else":
            self._turn()
        elif tag.startswith("#"):
            self._open(*(*tag[1:].split(None, 1), "", "")[:2])
        elif tag.startswith("/"):
            self._close(tag[1:].strip())
        elif not tag.startswith("!"):
            self._nodes.append(Value(self._position, self._path(tag), raw=False))

    def finish(self) -> tuple[Node, ...]:
        if self._blocks:
            self._position = self._blocks[-1].position
            raise self._error(f"{{{{#{self._blocks[-1].helper}}}}} is never closed")
        return tuple(self._top)

    def _open(self, helper: str, path: str) -> None:
        if helper not in ("if", "each"):
            raise self._error(f"there is no block {_quote(helper)}, only if and each")
        if len(self._blocks) >= DEEPEST_NESTING:
            raise self._error(f"blocks are nested deeper than {DEEPEST_NESTING}")
        block = _Block(helper, self._position, self._path(path))
        self._blocks.append(block)
        self._nodes = block.body

    def _turn(self) -> None:
        block = self._blocks[-1] if self._blocks else None
        if block is None or block.helper != "if":
            raise self._error("{{else}} stands outside {{#if}}")
        if block.otherwise is not None:
            raise self._error("{{#if}} has a second {{else}}")
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
        self.names.add(path.head)
        return path

    def _error(self, problem: str) -> TemplateError:
        return error_at(self._source, self._position, problem)


@lru_cache(1_024)
def _path(text: str) -> Path | None:
    if not _PATH.fullmatch(text):
        return None
    head, *keys = text.split(".")
    return Path(head, tuple((key, int(key) if _INDEX.fullmatch(key) else None) for key in keys))


def _quote(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")  # noqa: PLR2004 - enough to find it by
