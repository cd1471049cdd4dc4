"""Kinds of tests, read off what each uses: `acceptance` starts programs, `integration` uses servers, `unit` neither."""

import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

KINDS = {
    "unit": "starts nothing",
    "integration": "uses Postgres, Redis or pgbouncer, in the process of the test",
    "acceptance": "starts the program, or programs of others",
}
_TESTS = str(Path(__file__).parent)
# Modules whose functions and classes start programs.
_STARTERS = frozenset(
    (
        *("subprocess", "asyncio.subprocess", "tests.processes"),
        *("mauntic_jobs.runner.subprocesses", "mauntic_jobs.delivery.process.supervisor", "mauntic_jobs.demo.story"),
        *("mauntic_jobs.embedded.servers", "mauntic_jobs.embedded.supervisor", "mauntic_jobs.embedded.dev"),
        "mauntic_jobs.embedded.die_with_parent",
    )
)
# Every test has these, or may have them.
_GENERAL = frozenset(("servers", "pgbouncer", "started_processes", "_forked_processes", "_unit_tests_start_nothing"))


def kind_of(item: pytest.Function) -> str:
    """Return the kind of a test, by its function and the fixtures that it uses."""
    definitions = item._fixtureinfo.name2fixturedefs.items()
    fixtures = [each.func for name, known in definitions if name not in _GENERAL for each in known]
    if any(starts_programs(function) for function in (item.function, *fixtures)):
        return "acceptance"
    return "integration" if "servers" in item.fixturenames else "unit"


@cache
def starts_programs(start: Any) -> bool:
    """Whether a function uses what starts programs, directly or through other code of the tests."""
    seen: set[int] = set()
    todo: list[Any] = [start]
    while todo:
        value = todo.pop()
        if getattr(value, "__name__" if isinstance(value, ModuleType) else "__module__", None) in _STARTERS:
            return True
        if id(value) not in seen:
            seen.add(id(value))
            todo += _used(value)
    return False


def _used(value: Any) -> Iterator[Any]:
    """Yield the values that a function or class of the tests names."""
    if isinstance(value, list | tuple):
        yield from value
    elif isinstance(value, type):
        # A dataclass or a pydantic model has methods of its library.
        yield from vars(value).values() if value.__module__.startswith("tests.") else ()
    elif isinstance(value, property):
        yield value.fget
    elif callable(value):
        inner = getattr(getattr(value, "hypothesis", value), "inner_test", value)
        function = inspect.unwrap(inner)
        if isinstance(function, FunctionType) and function.__code__.co_filename.startswith(_TESTS):
            known = function.__globals__
            yield from (known[name] for name in _names(function.__code__) if name in known)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
