"""The language of `--where`: comparisons of a dead letter's fields, joined by `and`, `or`, `not` and parentheses.

    expression = term { "or" term }
    term       = factor { "and" factor }
    factor     = "not" factor | "(" expression ")" | FIELD OPERATOR VALUE

A value is a word, or anything between quotes. It can only compare: nothing of it is executed.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, NoReturn

from mauntic_jobs.errors import UsageError
from mauntic_jobs.ops.dead_letters.dead_letter import DeadLetter
from mauntic_jobs.ops.dead_letters.filter.fields import FIELDS, OPERATORS, Test, compare

_TOKEN = re.compile(
    r"\s*(?:(?P<quoted>'[^']*'|\"[^\"]*\")|(?P<operator>!=|!~|<=|>=|[=~<>])|(?P<paren>[()])"
    r"|(?P<word>[^\s'\"()=~<>!]+)|(?P<other>\S))"
)
_RESERVED = ("and", "or", "not")
_MAX_DEPTH = 50
_MAX_CHARACTERS = 50_000


@dataclass(frozen=True)
class Where:
    """A condition on dead letters, with the fields that it looks at."""

    test: Test
    fields: frozenset[str]

    def holds(self, letter: DeadLetter, now: datetime) -> bool:
        """Whether the condition is true of a letter, as it stands at `now`."""
        return self.test(letter, now)


def parse_where(text: str) -> Where:
    """Read an expression. Raises UsageError that points at what cannot be read."""
    if len(text) > _MAX_CHARACTERS:
        raise UsageError(f"Cannot read the condition: it is longer than {_MAX_CHARACTERS:,} characters.")
    return _FilterParser(text).whole()


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


class _FilterParser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(_tokens(text))
        self._place = 0
        self._depth = 0
        self._fields: set[str] = set()

    def whole(self) -> Where:
        test = self._expression()
        if self._next.kind != "end":
            self._refuse("expected `and`, `or` or the end")
        return Where(test, frozenset(self._fields))

    def _expression(self) -> Test:
        return self._joined("or", any, lambda: self._joined("and", all, self._factor))

    def _joined(self, word: str, join: Callable[[Iterator[bool]], bool], part: Callable[[], Test]) -> Test:
        parts = [part()]
        while self._accept("word", word):
            parts.append(part())
        if len(parts) == 1:
            return parts[0]
        return lambda letter, now: join(each(letter, now) for each in parts)

    def _factor(self) -> Test:
        if self._depth == _MAX_DEPTH:
            self._refuse("this is nested too deep")
        self._depth += 1
        test = self._negated() if self._accept("word", "not") else self._nested() or self._comparison()
        self._depth -= 1
        return test

    def _negated(self) -> Test:
        inner = self._factor()
        return lambda letter, now: not inner(letter, now)

    def _nested(self) -> Test | None:
        if not self._accept("paren", "("):
            return None
        inner = self._expression()
        if not self._accept("paren", ")"):
            self._refuse("expected a closing parenthesis")
        return inner

    def _comparison(self) -> Test:
        field = self._next
        if field.kind != "word" or field.text.lower() not in FIELDS:
            self._refuse(f"expected a field: {', '.join(FIELDS)}")
        self._place += 1
        name, operator = field.text.lower(), self._next
        if operator.kind != "operator" or operator.text not in OPERATORS[FIELDS[name]]:
            self._refuse(f"expected an operator for {name}: {' '.join(OPERATORS[FIELDS[name]])}")
        self._place += 1
        value = self._next
        if value.kind not in ("word", "quoted") or value.text.lower() in _RESERVED:
            self._refuse("expected a value: a word, or a text in quotes")
        try:
            test = compare(name, operator.text, value.text[1:-1] if value.kind == "quoted" else value.text)
        except UsageError as error:
            self._refuse(str(error).rstrip("."))
        self._place += 1
        self._fields.add(name)
        return test

    @property
    def _next(self) -> _Token:
        return self._tokens[self._place]

    def _accept(self, kind: str, text: str) -> bool:
        found = self._next.kind == kind and self._next.text.lower() == text
        self._place += found
        return found

    def _refuse(self, problem: str) -> NoReturn:
        raise UsageError(f"Cannot read the condition: {problem}.\n  {self._text}\n  {' ' * self._next.at}^")


def _tokens(text: str) -> Iterator[_Token]:
    for match in _TOKEN.finditer(text):
        kind = str(match.lastgroup)
        yield _Token(kind, match[kind], match.start(kind))
    yield _Token("end", "", len(text))
