"""Nodes of a compiled template, rendered within limits."""

import re
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import lru_cache
from html import escape as escape_html
from typing import Final, Protocol

from mauntic_jobs.delivery.render.templates.js_values import as_text
from mauntic_jobs.delivery.render.text_budget import TextBudget
from mauntic_jobs.errors import JobFailedError

STEPS_PER_CHECK = 256
# What the ledger keeps about fields that are found nowhere.
MOST_UNKNOWN = 20
LONGEST_UNKNOWN = 100

# Of a field that neither the message nor the contact has; JSON's null is a value.
MISSING: Final = object()

# What these name depends on the item of a list.
_WITHIN_LISTS = ("this", "@index")
_NO_DATA: Final[dict[str | None, object]] = {}

_SPECIAL_IN_HTML = re.compile("[&<>\"']")
_UNDERSCORE = re.compile(r"_([a-z0-9])")
_CAPITAL = re.compile(r"(?<!^)[A-Z]")


class TemplateError(JobFailedError):
    """A template is wrong, or asks for too much; the text says where."""


def error_at(source: str, position: int, problem: str) -> TemplateError:
    """Return the error with the line and column of the place."""
    line = source.count("\n", 0, position) + 1
    column = position - source.rfind("\n", 0, position)
    return TemplateError(f"the template cannot be used: line {line}, column {column}: {problem}")


@dataclass(slots=True)
class Scope:
    """What names are looked up in: an item of a list, or at the outermost the data."""

    item: object
    index: int | None = None
    outer: "Scope | None" = None

    def find(self, name: str) -> object:
        """Return the value of a name, from the innermost scope that has it, or MISSING."""
        scope: Scope | None = self
        while scope is not None:
            if isinstance(scope.item, dict) and name in scope.item:
                return scope.item[name]
            scope = scope.outer
        return MISSING


@dataclass(slots=True)
class Run:
    """One rendering: what is written so far, and what it has cost.

    `segments` are those that the recipient belongs to; `unknown` gets the names of fields that were found nowhere.
    """

    source: str
    escape: bool
    budget: TextBudget
    segments: AbstractSet[str] = frozenset()
    unknown: dict[str, None] = field(default_factory=dict)
    position: int = 0
    parts: list[str] = field(default_factory=list)
    size: int = 0
    steps: int = 0
    next_check: int = field(init=False)
    max_size: int = field(init=False)

    def __post_init__(self) -> None:
        """Keep at hand what each step compares."""
        self.max_size = self.budget.limits.template_output
        self.next_check = min(STEPS_PER_CHECK, self.budget.limits.template_steps + 1)

    def render(self, body: "Body", scope: Scope) -> None:
        """Write a body, with the values of a scope. Raises TemplateError beyond the limits."""
        parts, max_size, escape = self.parts, self.max_size, self.escape
        # Names are looked up here only where there is one place to look in.
        data = scope.item if scope.outer is None and isinstance(scope.item, dict) else _NO_DATA
        for node in body:
            # Here rather than in a call for each: a template has dozens of them, most of them texts of the data.
            if isinstance(node, str):
                text = node
            elif isinstance(node, Value) and isinstance(value := data.get(node.name), str):
                self.position = node.position
                self.steps += 1
                if self.steps >= self.next_check:
                    self._check()
                is_safe = node.raw or not escape or _SPECIAL_IN_HTML.search(value) is None
                text = value if is_safe or len(value) > max_size else escape_html(value)
            else:
                text = node.render(self, scope)
            self.size += len(text)
            if self.size > max_size:
                raise self._too_long()
            parts.append(text)

    def step(self, position: int) -> None:
        """Count a step, taken at a place of the source. Raises TemplateError beyond the limits."""
        self.position = position
        self.steps += 1
        if self.steps >= self.next_check:
            self._check()

    def text_of(self, value: object, *, raw: bool) -> str:
        """Return a JSON value as text, escaped unless `raw`. Raises TemplateError beyond the limits."""
        if isinstance(value, list):
            return self._list_text(value, raw=raw)
        text = value if isinstance(value, str) else as_text(value)
        # What is too long already is not made longer before it is refused; most values have nothing to escape.
        is_final = raw or _SPECIAL_IN_HTML.search(text) is None or len(text) > self.max_size
        return text if is_final else escape_html(text)

    def _list_text(self, items: list[object], *, raw: bool) -> str:
        # Nested lists are joined by the same commas, so their depth does not matter.
        pending: list[object] = [items]
        texts: list[str] = []
        size = self.size
        while pending:
            item = pending.pop()
            self.step(self.position)
            if isinstance(item, list) and item:
                pending.extend(reversed(item))
                continue
            texts.append("" if isinstance(item, list) else self.text_of(item, raw=raw))
            size += len(texts[-1]) + 1
            if size > self.max_size + 1:
                raise self._too_long()
        return ",".join(texts)

    def _too_long(self) -> TemplateError:
        limit = self.max_size
        return self._error(f"it becomes longer than {limit} characters (setting message_limits.template_output)")

    def _check(self) -> None:
        limit = self.budget.limits.template_steps
        if self.steps > limit:
            raise self._error(f"it takes more than {limit} steps (setting message_limits.template_steps)")
        if self.steps % STEPS_PER_CHECK == 0 and self.budget.is_used_up:
            raise self._error(self.budget.excess)
        self.next_check = min(self.steps // STEPS_PER_CHECK * STEPS_PER_CHECK + STEPS_PER_CHECK, limit + 1)

    def _error(self, problem: str) -> TemplateError:
        return error_at(self.source, self.position, problem)


@dataclass(slots=True)
class Path:
    """Where a value is: its first name, and then keys, each with the index it is in a list.

    A name that is found nowhere is looked for in the other spelling: `first_name` for `firstName`, and the reverse.
    """

    head: str
    keys: tuple[tuple[str, int | None], ...]

    def __str__(self) -> str:
        """Return the path as it is written."""
        return ".".join([self.head, *(key for key, _ in self.keys)])

    def find(self, scope: Scope) -> object:
        """Return the value that stands there, or MISSING."""
        if self.head == "@index":
            return scope.index
        value = scope.item if self.head == "this" else scope.find(self.head)
        if value is MISSING:
            value = scope.find(_other_spelling(self.head))
        for key, index in self.keys:
            if isinstance(value, dict):
                value = value[key] if key in value else value.get(_other_spelling(key), MISSING)
            elif not isinstance(value, list):
                return MISSING
            elif key == "length":
                value = len(value)
            else:
                value = value[index] if index is not None and index < len(value) else MISSING
        return value


@lru_cache(1_024)
def _other_spelling(name: str) -> str:
    if "_" in name:
        return _UNDERSCORE.sub(lambda match: match[1].upper(), name)
    return _CAPITAL.sub(lambda match: f"_{match[0].lower()}", name)


class Node(Protocol):
    """A piece of a template."""

    def render(self, run: Run, scope: Scope) -> str:
        """Return its text, with the values of a scope; a block writes its body itself, and returns none."""
        ...


# What a template, or a block of one, is made of; a text stands for itself.
Body = tuple[Node | str, ...]


@dataclass(slots=True)
class Value:
    """A value that is looked up. `default` is part of the template, and stands for a value that is absent or blank.

    `name` is that of a value without keys and without a default, None for others.
    """

    position: int
    path: Path
    raw: bool
    default: str | None = None
    name: str | None = field(init=False)

    def __post_init__(self) -> None:
        """Keep at hand what most values are found by."""
        is_plain = not self.path.keys and self.default is None and self.path.head not in _WITHIN_LISTS
        self.name = self.path.head if is_plain else None

    def render(self, run: Run, scope: Scope) -> str:
        """Return it as text."""
        run.step(self.position)
        value = self.path.find(scope)
        if self.default is not None and (
            value is MISSING or value is None or (isinstance(value, str) and not value.strip())
        ):
            return self.default
        if value is not MISSING:
            return run.text_of(value, raw=self.raw or not run.escape)
        if len(run.unknown) < MOST_UNKNOWN:
            run.unknown[str(self.path)[:LONGEST_UNKNOWN]] = None
        return ""


@dataclass(slots=True)
class If:
    """One of two bodies, by a value."""

    position: int
    path: Path
    then: Body
    otherwise: Body

    def render(self, run: Run, scope: Scope) -> str:
        """Write it."""
        run.step(self.position)
        value = self.path.find(scope)
        holds = value is not MISSING and (value or isinstance(value, dict))
        run.render(self.then if holds else self.otherwise, scope)
        return ""


@dataclass(slots=True)
class Variant:
    """One of two bodies, by whether the recipient belongs to a segment."""

    position: int
    segment: str
    then: Body
    otherwise: Body

    def render(self, run: Run, scope: Scope) -> str:
        """Write it."""
        run.step(self.position)
        run.render(self.then if self.segment in run.segments else self.otherwise, scope)
        return ""


@dataclass(slots=True)
class Each:
    """A body for each item of a list."""

    position: int
    path: Path
    body: Body

    def render(self, run: Run, scope: Scope) -> str:
        """Write it."""
        run.step(self.position)
        items = self.path.find(scope)
        if not isinstance(items, list):
            return ""
        for index, item in enumerate(items):
            run.step(self.position)
            run.render(self.body, Scope(item, index, scope))
        return ""
