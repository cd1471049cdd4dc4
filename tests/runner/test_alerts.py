"""What the end of a run tells, and that it changes nothing about the run."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest

from mauntic_jobs.alerts.failures import failures
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.job import Context, Job, JobOptions, JobResult, Row
from mauntic_jobs.runner import claim as claims
from mauntic_jobs.runner.history import list_runs
from mauntic_jobs.runner.plausibility import _is_doubtful
from mauntic_jobs.runner.request import Launcher, Report, exit_code
from mauntic_jobs.runner.run import run
from mauntic_jobs.runner.slot_request import slot_request
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, connect
from mauntic_jobs.timekeeping.catch_up import Which
from mauntic_jobs.timekeeping.window import Window
from tests.alerts.receivers import Receiver, receiver
from tests.scheduler.ticking import TABLE, failing, ticking
from tests.support import request, utc

SLOT = utc("2026-10-05T10:00")
HOUR = timedelta(hours=1)
_minutes = count(1)
GOOD = ticking("ticker", "0 * * * *", Which.ALL, timedelta(hours=6))
BAD = replace(GOOD, run=failing)


def counting(number: int) -> Job[JobOptions]:
    def count(_context: Context[JobOptions], _window: Window) -> JobResult:
        return JobResult({"events": number})

    return replace(GOOD, run=count, measure="events")


def _partial(_context: Context[JobOptions], _window: Window) -> JobResult:
    return JobResult({"events": 1}, partial=True, problems=["one of two is left"])


@pytest.fixture
def inbox() -> Iterator[Receiver]:
    with receiver() as opened:
        yield opened


@pytest.fixture
def ready(direct_settings: Settings, inbox: Receiver) -> Settings:
    with connect(direct_settings) as session:
        session.execute(TABLE)
    alerts = [{"type": "slack", "url": inbox.url}]
    return Settings(**{**direct_settings.model_dump(), "alerts": alerts, "alert_timeout": timedelta(seconds=2)})


def answer(settings: Settings, job: Job[Any], slot: datetime, said: list[str] | None = None) -> Report:
    said = [] if said is None else said
    return run(slot_request(job, slot, settings, Launcher.SCHEDULE, slot, log=said.append))


def by_hand(settings: Settings, job: Job[Any], window: Window, **changes: Any) -> Report:
    # Each a minute after the one before, because an older look does not end what was seen since.
    made = request(settings, window, now=SLOT + next(_minutes) * timedelta(minutes=1))
    return run(replace(made, job=job, coverage=window, options=job.options(), **changes))


def _open(settings: Settings) -> list[Row]:
    with connect(settings) as session:
        return session.rows(b"SELECT * FROM mauntic_jobs.alerts WHERE closed_at IS NULL ORDER BY id")


def _titles(inbox: Receiver) -> list[str]:
    return [request.json["text"].splitlines()[0].strip("*") for request in inbox.received()]


def test_a_failed_run_is_told_once_and_the_next_success_once(ready: Settings, inbox: Receiver) -> None:
    for hour in range(3):
        report = answer(ready, BAD, SLOT + hour * HOUR)
        assert (report.exit_code, report.untold) == (ExitCode.FAILED, {})
    assert _titles(inbox) == ["[critical] ticker 2026-10-05T09:00Z/2026-10-05T10:00Z failed: it cannot be done"]
    assert [(row["seen"], row["action"]) for row in _open(ready)] == [(3, "mauntic-jobs runs show 3")]
    for hour in range(3, 5):
        assert answer(ready, GOOD, SLOT + hour * HOUR).exit_code is ExitCode.DONE
    assert _titles(inbox) == ["[over] job failed:ticker"]


def test_a_job_that_is_not_critical_only_warns(ready: Settings, inbox: Receiver) -> None:
    answer(ready, replace(BAD, critical=False), SLOT)
    assert _titles(inbox)[0].startswith("[warning] ticker")


def test_a_defect_is_told_like_a_failure(ready: Settings, inbox: Receiver) -> None:
    def defect(_context: Context[JobOptions], _window: Window) -> JobResult:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        answer(ready, replace(GOOD, run=defect), SLOT)
    assert "ZeroDivisionError" in _titles(inbox)[0]


def test_a_partial_run_is_told_until_one_is_whole(ready: Settings, inbox: Receiver) -> None:
    assert answer(ready, replace(GOOD, run=_partial), SLOT).exit_code is ExitCode.PARTIAL
    assert [title.partition(" done")[2] for title in _titles(inbox)] == [" in part: one of two is left"]
    answer(ready, GOOD, SLOT + HOUR)
    assert _titles(inbox) == ["[over] job partial:ticker"]


def test_a_result_far_below_what_is_usual_at_that_time_of_the_week_is_implausible(
    ready: Settings, inbox: Receiver
) -> None:
    for week in range(4, 0, -1):
        answer(ready, counting(1000), SLOT - timedelta(weeks=week))
        # Other hours are no measure.
        answer(ready, counting(3), SLOT - timedelta(weeks=week) + HOUR)
    assert answer(ready, counting(3), SLOT + HOUR).exit_code is ExitCode.DONE
    assert _titles(inbox) == []
    report = answer(ready, counting(400), SLOT)
    assert (report.exit_code, report.error, report.partial) == (ExitCode.PARTIAL, None, False)
    assert _titles(inbox)[0].startswith("[warning] ticker 2026-10-05T09:00Z/2026-10-05T10:00Z hardly possible: 400")
    with connect(ready) as session:
        row = list_runs(session, limit=1)[0]
    assert (row["status"], row["error"]) == (
        "succeeded", "400 events, where 1,000 are usual at this time: is something missing?"
    )  # fmt: skip
    assert answer(ready, counting(900), SLOT + timedelta(weeks=1)).exit_code is ExitCode.DONE
    assert _titles(inbox) == ["[over] result implausible:ticker"]


@pytest.mark.parametrize(
    ("counted", "history", "doubtful"),
    [
        (0, [10, 10, 10, 10], True),
        (0, [9, 9, 9, 9], False),
        (0, [100, 100, 0, 100], False),
        (19, [40, 40, 40, 40], True),
        (20, [40, 40, 40, 40], False),
        (1, [39, 39, 39, 39], False),
        (1000, [40, 40, 40, 40], False),
    ],
)
def test_chance_is_no_reason_for_doubt(counted: int, history: list[float], doubtful: bool) -> None:
    assert _is_doubtful(counted, history) is doubtful


def test_a_run_made_by_hand_alarms_nobody_and_ends_what_it_makes_up_for(ready: Settings, inbox: Receiver) -> None:
    window = Window(SLOT - HOUR, SLOT)
    assert by_hand(ready, BAD, window).exit_code is ExitCode.FAILED
    assert _open(ready) == []
    answer(ready, BAD, SLOT)
    by_hand(ready, GOOD, Window(SLOT - 3 * HOUR, SLOT - 2 * HOUR))
    assert len(_open(ready)) == 1
    by_hand(ready, GOOD, window)
    assert _open(ready) == []
    assert len(_titles(inbox)) == 2


def test_rehearsals_and_the_demo_tell_nothing(ready: Settings, inbox: Receiver) -> None:
    window = Window(SLOT - HOUR, SLOT)
    by_hand(ready, BAD, window, dry_run=True, slot=SLOT)
    by_hand(ready, BAD, window, launcher=Launcher.DEMO, slot=SLOT)
    assert (_open(ready), inbox.received()) == ([], [])


def test_a_run_that_was_killed_is_a_failure_until_its_slot_is_answered(ready: Settings) -> None:
    with connect(ready) as session:
        claims.acquire(session, slot_request(GOOD, SLOT, ready, Launcher.LOOP, SLOT), 1)
        session.execute(b"UPDATE mauntic_jobs.runs SET heartbeat_at = heartbeat_at - interval '2 minutes'")
        claims.release_dead(session, GOOD.name, ready.takeover_after, lambda _: None)
        (alert,) = failures(session, [GOOD])
        assert "was killed, or lost its host" in alert.summary
        answer(ready, GOOD, SLOT)
        assert failures(session, [GOOD]) == []


def test_a_run_that_was_stopped_is_no_failure(ready: Settings) -> None:
    with connect(ready) as session:
        claim = claims.acquire(session, slot_request(GOOD, SLOT, ready, Launcher.LOOP, SLOT), 1)
        claims.stop(session, claim, "stopped by signal 15")
        assert failures(session, [GOOD]) == []


def test_the_run_is_recorded_before_anybody_is_told(ready: Settings, inbox: Receiver) -> None:
    inbox.mode = "hang"
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(answer, ready, BAD, SLOT)
        inbox.requests.get(timeout=60)
        with connect(ready) as session:
            assert [row["status"] for row in list_runs(session)] == ["failed"]
        inbox.released.set()
        assert running.result().exit_code is ExitCode.FAILED


def test_an_alert_that_nobody_takes_changes_only_an_exit_code_of_0(ready: Settings, inbox: Receiver) -> None:
    answer(ready, BAD, SLOT)
    inbox.mode = "500"
    report = answer(ready, GOOD, SLOT + HOUR)
    assert (report.error, report.exit_code) == (None, ExitCode.ALERT_UNDELIVERABLE)
    assert report.untold == {"[over] job failed:ticker": "slack 1: answered 500"}
    assert exit_code([report, replace(report, untold={})]) is ExitCode.ALERT_UNDELIVERABLE
    assert exit_code([report, replace(report, partial=True)]) is ExitCode.PARTIAL
    failed = answer(ready, BAD, SLOT + 2 * HOUR)
    assert (failed.exit_code, bool(failed.untold)) == (ExitCode.FAILED, True)


def test_a_database_without_the_ledger_of_alerts_does_not_matter_to_the_run(ready: Settings) -> None:
    said: list[str] = []
    with connect(ready) as session:
        session.execute(b"DROP TABLE mauntic_jobs.alerts")
    report = answer(ready, GOOD, SLOT, said)
    assert (report.error, report.exit_code) == (None, ExitCode.DONE)
    assert "no alerts" in said[0]


def test_nothing_is_sent_where_no_channel_is_set(settings: Settings, session: Session) -> None:
    session.execute(TABLE)
    report = answer(settings, BAD, SLOT)
    assert (report.exit_code, report.untold) == (ExitCode.FAILED, {})
    assert [row["notified_at"] for row in _open(settings)] == [None]
