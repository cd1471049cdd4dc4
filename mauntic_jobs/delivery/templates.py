"""The platform's template language. Tenants write it, so it can look up values and do nothing else.

`{{a.b}}` is escaped for HTML, `{{{a.b}}}` is not; `{{#if a}}..{{else}}..{{/if}}`; `{{#each a}}..{{/each}}`, and in it
`{{this}}`, `{{@index}}` and the item's own keys, then those around it; `{{! a comment }}`. What is absent is empty.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from html import escape as escape_html
from time import monotonic
from typing import Any, Protocol

from mauntic_jobs.errors import JobFailedError

LONGEST_SOURCE = 1_000_000
LONGEST_OUTPUT = 1_000_000
LONGEST_PATH = 1_000
DEEPEST_NESTING = 20
MOST_STEPS = 100_000
MOST_SECONDS = 0.5

_STEPS_PER_LOOK_AT_THE_CLOCK = 256
# A template of nothing but tags takes forty times its length in memory: few long ones are kept.
_SHORT_SOURCE = 20_000
_SHORT_TEMPLATES_KEPT = 512
_LONG_TEMPLATES_KEPT = 8

# Searched only as far as the last }}, so that every {{ finds its end, and nothing is scanned twice.
_TAG = re.compile(r"\{\{(?:\{(?P<raw>.*?)\}\}(?P<third>\}?)|(?P<tag>.*?)\}\})", re.DOTALL)
_PATH = re.compile(r"@index|[\w$-]++(?:\.[\w$-]++)*+")
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")

_GREATEST_EXACT_INTEGER = 2**53  # of a JavaScript number


class TemplateError(JobFailedError):
    """A template is wrong, or asks for too much; the text says where."""


@dataclass(slots=True)
class _Scope:
    """What names are looked up in: an item of a list, or at the outermost the data."""

    item: Any
    index: int | None = None
    outer: "_Scope | None" = None

    def find(self, name: str) -> Any:
        scope: _Scope | None = self
        while scope is not None:
            if isinstance(scope.item, dict) and name in scope.item:
                return scope.item[name]
            scope = scope.outer
        return None


@dataclass(slots=True)
class _Run:
    """One rendering: what is written so far, and what it has cost."""

    source: str
    escape: bool
    position: int = 0
    parts: list[str] = field(default_factory=list)
    size: int = 0
    steps: int = 0
    deadline: float = field(default_factory=lambda: monotonic() + MOST_SECONDS)

    def step(self, position: int) -> None:
        self.position = position
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise self._error(f"it takes more than {MOST_STEPS} steps")
        if self.steps % _STEPS_PER_LOOK_AT_THE_CLOCK == 0 and monotonic() > self.deadline:
            raise self._error(f"it takes longer than {MOST_SECONDS} seconds")

    def write(self, text: str) -> None:
        self.size += len(text)
        if self.size > LONGEST_OUTPUT:
            raise self._error(f"it becomes longer than {LONGEST_OUTPUT} characters")
        self.parts.append(text)

    def write_value(self, value: Any, *, raw: bool) -> None:
        if isinstance(value, list):
            self._write_list(value, raw=raw)
            return
        text = value if isinstance(value, str) else _text(value)
        # What is too long already is not made longer before it is refused.
        self.write(text if raw or len(text) > LONGEST_OUTPUT else escape_html(text))

    def _write_list(self, items: list[Any], *, raw: bool) -> None:
        # Nested lists are joined by the same commas, so their depth does not matter.
        pending: list[Any] = [items]
        separator = ""
        while pending:
            item = pending.pop()
            self.step(self.position)
            if isinstance(item, list) and item:
                pending.extend(reversed(item))
                continue
            self.write(separator)
            self.write_value("" if isinstance(item, list) else item, raw=raw)
            separator = ","

    def _error(self, problem: str) -> TemplateError:
        return _error(self.source, self.position, problem)


@dataclass(slots=True)
class _Path:
    """Where a value is: its first name, and then keys, each with the index it is in a list."""

    head: str
    keys: tuple[tuple[str, int | None], ...]

    def find(self, scope: _Scope) -> Any:
        if self.head == "@index":
            return scope.index
        value = scope.item if self.head == "this" else scope.find(self.head)
        for key, index in self.keys:
            if isinstance(value, dict):
                value = value.get(key)
            elif not isinstance(value, list):
                return None
            elif key == "length":
                value = len(value)
            else:
                value = value[index] if index is not None and index < len(value) else None
        return value


class _Node(Protocol):
    def render(self, run: _Run, scope: _Scope) -> None: ...


@dataclass(slots=True)
class _Literal:
    text: str

    def render(self, run: _Run, scope: _Scope) -> None:  # noqa: ARG002 - a node like the others
        run.write(self.text)


@dataclass(slots=True)
class _Value:
    position: int
    path: _Path
    raw: bool

    def render(self, run: _Run, scope: _Scope) -> None:
        run.step(self.position)
        run.write_value(self.path.find(scope), raw=self.raw or not run.escape)


@dataclass(slots=True)
class _If:
    position: int
    path: _Path
    then: tuple[_Node, ...]
    otherwise: tuple[_Node, ...]

    def render(self, run: _Run, scope: _Scope) -> None:
        run.step(self.position)
        value = self.path.find(scope)
        for node in self.then if value or isinstance(value, dict) else self.otherwise:
            node.render(run, scope)


@dataclass(slots=True)
class _Each:
    position: int
    path: _Path
    body: tuple[_Node, ...]

    def render(self, run: _Run, scope: _Scope) -> None:
        run.step(self.position)
        items = self.path.find(scope)
        if not isinstance(items, list):
            return
        for index, item in enumerate(items):
            run.step(self.position)
            inner = _Scope(item, index, scope)
            for node in self.body:
                node.render(run, inner)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Template:
    """A compiled template. `names` are the first names of all its paths: what it may take from the data."""

    _source: str
    _nodes: tuple[_Node, ...]
    names: frozenset[str]

    def render(self, data: Mapping[str, Any], *, escape: bool = True) -> str:
        """Fill in JSON values, escaped for HTML unless `escape` is false. Raises TemplateError beyond the limits."""
        run = _Run(self._source, escape)
        scope = _Scope(data if isinstance(data, dict) else dict(data))
        for node in self._nodes:
            node.render(run, scope)
        return "".join(run.parts)


def compile_template(source: str) -> Template:
    """Compile a template, or return it as compiled before. Raises TemplateError."""
    if len(source) > LONGEST_SOURCE:
        raise _error(source, LONGEST_SOURCE, f"it is longer than {LONGEST_SOURCE} characters")
    return _compile_short(source) if len(source) <= _SHORT_SOURCE else _compile_long(source)


def _compile(source: str) -> Template:
    parser = _Parser(source)
    start = 0
    for match in _TAG.finditer(source, 0, source.rfind("}}") + 2):
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
    path: _Path
    body: list[_Node] = field(default_factory=list)
    otherwise: list[_Node] | None = None

    def close(self) -> _Node:
        if self.helper == "each":
            return _Each(self.position, self.path, tuple(self.body))
        return _If(self.position, self.path, tuple(self.body), tuple(self.otherwise or ()))


class _Parser:
    def __init__(self, source: str) -> None:
        self._source = source
        self._position = 0
        self._blocks: list[_Block] = []
        self._top: list[_Node] = []
        self.names: set[str] = set()
        self._nodes = self._top  # of the innermost open block, where the next one goes

    def add_literal(self, text: str) -> None:
        if text:
            self._nodes.append(_Literal(text))

    def add_tag(self, match: re.Match[str]) -> None:
        self._position = match.start()
        if match["tag"] is None:
            if not match["third"]:
                raise self._error("{{{ is closed by }} only")
            self._nodes.append(_Value(self._position, self._path(match["raw"]), raw=True))
            return
        tag = match["tag"].strip()
        if tag == "else":
            self._turn()
        elif tag.startswith("#"):
            self._open(*(*tag[1:].split(None, 1), "", "")[:2])
        elif tag.startswith("/"):
            self._close(tag[1:].strip())
        elif not tag.startswith("!"):
            self._nodes.append(_Value(self._position, self._path(tag), raw=False))

    def finish(self) -> tuple[_Node, ...]:
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

    def _path(self, text: str) -> _Path:
        text = text.strip()
        if len(text) > LONGEST_PATH:
            raise self._error(f"a path is longer than {LONGEST_PATH} characters")
        path = _path(text)
        if path is None:
            raise self._error(f"{_quote(text)} is not a path: write it like contact.firstName")
        self.names.add(path.head)
        return path

    def _error(self, problem: str) -> TemplateError:
        return _error(self._source, self._position, problem)


@lru_cache(1_024)
def _path(text: str) -> _Path | None:
    if not _PATH.fullmatch(text):
        return None
    head, *keys = text.split(".")
    return _Path(head, tuple((key, int(key) if _INDEX.fullmatch(key) else None) for key in keys))


def _error(source: str, position: int, problem: str) -> TemplateError:
    line = source.count("\n", 0, position) + 1
    column = position - source.rfind("\n", 0, position)
    return TemplateError(f"the template cannot be used: line {line}, column {column}: {problem}")


def _quote(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")  # noqa: PLR2004 - enough to find it by


def _text(value: Any) -> str:
    """Write a JSON value other than a list as JavaScript's String() does, but null as nothing."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() if abs(value) <= _GREATEST_EXACT_INTEGER:
            return str(value)
        case int() | float():
            return _number(value)
        case str():
            return value
        case dict():
            return "[object Object]"
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def _number(value: float) -> str:
    try:
        text = repr(float(value))
    except OverflowError:
        text = "inf" if value > 0 else "-inf"
    if "n" in text:
        return text.replace("inf", "Infinity").replace("nan", "NaN")
    if "e" not in text:
        return "0" if text == "-0.0" else text.removesuffix(".0")
    # The digits are the same in both languages, but JavaScript turns to exponents later.
    if 1e-6 <= abs(value) < 1e21:  # noqa: PLR2004 - by ECMA-262, Number::toString
        return format(Decimal(text), "f")
    return text.replace("e-0", "e-")
