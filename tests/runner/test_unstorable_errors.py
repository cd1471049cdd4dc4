"""Errors whose text no store can hold."""

from dataclasses import replace
from datetime import timedelta
from typing import NoReturn

import pytest

from mauntic_jobs.runner.history import list_runs
from mauntic_jobs.runner.request import Launcher
from mauntic_jobs.runner.run import run
from mauntic_jobs.runner.slot_request import slot_request
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.catch_up import Which
from tests.scheduler.ticking import TABLE, ticking
from tests.support import utc

EVERY = ticking("every", "0 * * * *", Which.ALL, timedelta(hours=48))
FIRST = utc("2026-10-05T01:00")


@pytest.fixture
def ready(session: Session) -> Session:
    session.execute(TABLE)
    return session


@pytest.mark.parametrize(("text", "stored"), [("a\0b", "a?b"), ("caf\udce9", "caf?")])
def test_an_error_that_no_store_can_hold_is_recorded_and_the_slot_answered(
    settings: Settings, ready: Session, text: str, stored: str
) -> None:
    def fail(*_: object) -> NoReturn:
        raise ValueError(text)

    with pytest.raises(ValueError, match=r"^(a|caf)"):
        run(slot_request(replace(EVERY, run=fail), FIRST, settings, Launcher.LOOP, FIRST))
    (row,) = list_runs(ready)
    assert (row["status"], row["error"], row["claims_slot"]) == ("failed", f"ValueError: {stored}", True)
