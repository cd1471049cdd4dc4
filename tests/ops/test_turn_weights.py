"""Weights that are refused, and what is kept of those that are set."""

import pytest

from mauntic_jobs.errors import ExitCode, UsageError
from mauntic_jobs.ops.turn_weights import check_weight, list_weights, set_weight
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session
from tests.support import organization, run_program, utc

_NOW = utc("2026-10-05T10:00")


@pytest.mark.parametrize("weight", [0.0, 0.09, 10.1, -1.0, float("nan"), float("inf")])
def test_a_weight_out_of_bounds_is_refused(weight: float) -> None:
    with pytest.raises(UsageError, match=r"from 0\.1 to 10"):
        check_weight(weight)


@pytest.mark.parametrize("weight", [0.1, 1.0, 2.5, 10.0])
def test_a_weight_at_the_bounds_is_kept_and_the_usual_one_is_none(session: Session, weight: float) -> None:
    check_weight(weight)
    for number in (1, 2):
        set_weight(session, organization(number), 5.0, why="w", by="ops", now=_NOW)
    set_weight(session, organization(1), weight, why="w", by="ops", now=_NOW)
    kept = {row["organization_id"]: row["weight"] for row in list_weights(session)}
    assert kept == {organization(2): 5.0} | ({} if weight == 1 else {organization(1): weight})


def test_bad_input_is_named_before_a_database_that_is_down() -> None:
    away = Settings(database_url="postgresql://a:b@127.0.0.1:1/x")
    done = run_program("deliveries", "weight", "11", "--org", str(organization(1)), "--why", "paid plan", settings=away)
    assert done.returncode == ExitCode.USAGE, done.stderr
    assert "from 0.1 to 10" in done.stderr
