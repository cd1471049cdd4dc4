"""Remarks about what should have run before: part of the attempt."""

import pytest

from mauntic_jobs.errors import UnavailableError
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.runner.history import list_runs
from mauntic_jobs.runner.request import Launcher, Status
from mauntic_jobs.runner.run import run
from mauntic_jobs.runner.slot_request import after_others, slot_request
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, open_session
from tests.support import utc


def test_what_is_asked_before_the_first_attempt_is_asked_again(
    settings: Settings, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert session.rows(b"SELECT 1")
    away = [UnavailableError("the database is away")] * 2

    def connect(given: Settings) -> Session:
        if away:
            raise away.pop()
        return open_session(given)

    monkeypatch.setattr("mauntic_jobs.installation.open_session", connect)
    patient = Settings(**{**settings.model_dump(), "retry_delay": "0s"})
    daily = JOBS["generate-daily-reports"]
    slot = utc("2026-10-05T02:00")
    report = run(after_others(slot_request(daily, slot, patient, Launcher.CRON, slot), JOBS))
    assert (report.status, report.attempt) == (Status.SUCCEEDED, 3)
    assert "aggregate-hourly has not covered all" in list_runs(session)[0]["error"]
