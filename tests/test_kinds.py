"""Which tests start programs, as read off their code."""

from collections.abc import Callable

import pytest

from tests import support
from tests.delivery.own_stores import own_postgres
from tests.kinds import starts_programs
from tests.processes import Process


class Rig:
    def begin(self) -> None:
        own_postgres()


_WAYS = [Process]


def _directly() -> None:
    run_program("version")


def _through_a_class() -> None:
    Rig()


def _through_a_list() -> None:
    for way in _WAYS:
        way([])


def _inside() -> None:
    def inner() -> None:
        run_program("version")

    inner()


def _not_at_all() -> None:
    support.utc("2026-01-01")


run_program = support.run_program


@pytest.mark.parametrize("function", [_directly, _through_a_class, _through_a_list, _inside, own_postgres])
def test_what_starts_a_program_is_found(function: Callable[[], object]) -> None:
    assert starts_programs(function)


def test_what_starts_none_is_left() -> None:
    assert not starts_programs(_not_at_all)


def test_a_unit_test_that_starts_one_fails() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"tests/kinds\.py"):
        vars(support)["subprocess"].Popen(["true"])
