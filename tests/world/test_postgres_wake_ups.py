"""Answers of Postgres servers that sleep, and of the proxies before them: what passes by itself, and what does not."""

import psycopg
import pytest

from mauntic_jobs.errors import ConfigurationError, UnavailableError
from mauntic_jobs.stores.postgres.errors import connect_error, translate
from tests.world.corpus import Case, each_case

_URL = "postgresql://app@db.example.com/platform"


@each_case("postgres_wake_ups")
def test_a_refused_connection_is_tried_again_if_that_can_help(case: Case) -> None:
    error = connect_error(psycopg.OperationalError(case.input), _URL)
    assert isinstance(error, UnavailableError if case.answer["again"] else ConfigurationError)
    assert error.transient == case.answer["again"]


@pytest.mark.parametrize("state", ["57P01", "57P05"])
def test_a_statement_on_a_connection_that_a_sleeping_server_ended_is_tried_again(state: str) -> None:
    ended = psycopg.errors.lookup(state)("terminating connection")
    assert isinstance(translate(ended, standby=False), UnavailableError)
