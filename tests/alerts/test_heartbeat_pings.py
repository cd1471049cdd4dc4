"""Signs of life: in order, beside the run, and of no consequence to it."""

import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from mauntic_jobs.alerts import heartbeat_pings as heartbeats
from mauntic_jobs.errors import ExitCode, Interrupted
from mauntic_jobs.job import Context, JobOptions, JobResult
from mauntic_jobs.runner import claim as claims
from mauntic_jobs.runner.history import list_runs
from mauntic_jobs.runner.request import Launcher, Report
from mauntic_jobs.runner.run import run
from mauntic_jobs.runner.slot_request import slot_request
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.timekeeping.catch_up import Which
from mauntic_jobs.timekeeping.window import Window
from tests.alerts.receivers import Receiver, receiver
from tests.scheduler.ticking import TABLE, failing, ticking
from tests.support import utc

SLOT = utc("2026-10-05T10:00")
GOOD = ticking("ticker", "0 * * * *", Which.ALL, timedelta(hours=6))


@pytest.fixture
def checks() -> Iterator[Receiver]:
    with receiver() as opened:
        yield opened


@pytest.fixture
def watched(direct_settings: Settings, checks: Receiver) -> Settings:
    with connect(direct_settings) as session:
        session.execute(TABLE)
    jobs = {"ticker": {"heartbeat_url": f"{checks.url}?create=1"}}
    return Settings(**{**direct_settings.model_dump(), "jobs": jobs})


def answer(settings: Settings, said: list[str] | None = None, **changes: Any) -> Report:
    said = [] if said is None else said
    job = replace(GOOD, **changes)
    return run(slot_request(job, SLOT, settings, Launcher.SCHEDULE, SLOT, log=said.append))


def _paths(received: Receiver) -> list[str]:
    return [urlsplit(request.path).path for request in received.received()]


def test_a_run_says_that_it_begins_and_how_it_ended(watched: Settings, checks: Receiver) -> None:
    report = answer(watched)
    start, end = checks.received()
    assert (urlsplit(start.path).path, urlsplit(end.path).path) == ("/in/start", "/in/0")
    asked = [parse_qs(urlsplit(request.path).query) for request in (start, end)]
    assert asked[0] == asked[1]
    assert asked[0]["create"] == ["1"]
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", asked[0]["rid"][0])
    assert (start.body, end.body) == (b"", f"run {report.run_id}: succeeded".encode())


def test_a_failure_is_told_by_its_exit_status(watched: Settings, checks: Receiver) -> None:
    answer(watched, run=failing)
    assert _paths(checks) == ["/in/start", "/in/1"]


def test_a_run_that_is_stopped_leaves_its_check_armed(watched: Settings, checks: Receiver) -> None:
    def stopped(_context: Context[JobOptions], _window: Window) -> JobResult:
        raise Interrupted(signal.SIGTERM)

    with pytest.raises(Interrupted):
        answer(watched, run=stopped)
    assert _paths(checks) == ["/in/start"]


def test_only_who_makes_the_run_says_so(watched: Settings, checks: Receiver) -> None:
    with connect(watched) as session:
        claims.acquire(session, slot_request(GOOD, SLOT, watched, Launcher.LOOP, SLOT), 1)
    assert answer(watched).answered
    assert _paths(checks) == []


def test_sentry_gets_a_check_in_for_each(direct_settings: Settings, checks: Receiver) -> None:
    with connect(direct_settings) as session:
        session.execute(TABLE)
    settings = Settings(
        **{
            **direct_settings.model_dump(),
            "jobs": {"ticker": {"sentry_monitor": "the-ticker"}},
            "sentry_dsn": f"http://publickey@127.0.0.1:{checks.port}/prefix/42",
        }
    )
    answer(settings, run=failing)
    begun, ended = checks.received()
    for request, status in ((begun, "in_progress"), (ended, "error")):
        assert urlsplit(request.path).path == "/prefix/api/42/cron/the-ticker/publickey/"
        assert parse_qs(urlsplit(request.path).query)["status"] == [status]
    assert len({parse_qs(urlsplit(request.path).query)["check_in_id"][0] for request in (begun, ended)}) == 1


@pytest.mark.parametrize(("mode", "problem"), [("500", "answered 500"), ("302", "a redirect"), ("reset", "broke off")])
def test_a_ping_that_is_not_taken_is_said_once_and_changes_nothing(
    watched: Settings, checks: Receiver, mode: str, problem: str
) -> None:
    checks.mode = mode
    said: list[str] = []
    assert answer(watched, said).exit_code is ExitCode.DONE
    (sentence,) = said
    assert problem in sentence
    assert checks.url not in sentence


def test_a_service_that_hangs_holds_up_neither_the_work_nor_the_end_for_long(
    watched: Settings, checks: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert heartbeats._MAX_WAIT_SECONDS <= 5
    monkeypatch.setattr(heartbeats, "_MAX_WAIT_SECONDS", 0.3)
    checks.mode = "hang"
    said: list[str] = []

    def work(_context: Context[JobOptions], _window: Window) -> JobResult:
        # The first ping hangs by now, and the job goes on.
        checks.requests.get(timeout=60)
        return JobResult({"ticks": 1})

    with ThreadPoolExecutor(1) as pool:
        report = pool.submit(answer, watched, said, run=work).result(timeout=60)
    assert (report.exit_code, len(said)) == (ExitCode.DONE, 1)
    assert "no answer within 0.3 s" in said[0]
    with connect(watched) as session:
        assert [row["status"] for row in list_runs(session)] == ["succeeded"]
