"""Backfills killed again and again, alone, by two processes, and by three workers of a queue."""

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from mauntic_jobs.backfill.store import BackfillState
from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.runner.history import list_runs
from mauntic_jobs.runner.run import run
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.window import Window
from tests.backfill.fleet import IMPATIENT, JOB, activity, backfill, start_backfill, state, successes
from tests.pooler import RANDOM_RUNS
from tests.support import (
    add_events,
    kill_what_was_started,
    reference_rollups,
    request,
    start_program,
    stored_rollups,
    utc,
    wait_until,
)

# More by hand, with four windows for each kill: BACKFILL_KILLS=100 scripts/test -o faulthandler_timeout=0 \
#     tests/backfill/test_kills.py
_KILLS = int(os.environ.get("BACKFILL_KILLS", "5"))
_WINDOWS = 4 * _KILLS
_FIRST = utc("2025-09-01T00:00")
_RANGE = Window(_FIRST, _FIRST + timedelta(days=_WINDOWS))
_EVENTS = activity(_FIRST, _WINDOWS)
_RUN = ("run", JOB, "--window", str(_RANGE))
_WORKERS = 3
_LIVE_EVERY = max(2, _KILLS // 3)
# So long a window takes that a kill often meets it.
_SLOW = b"""
CREATE FUNCTION take_time() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.03); RETURN NEW; END $$;
CREATE TRIGGER take_time BEFORE INSERT ON analytics.event_aggregates FOR EACH ROW EXECUTE FUNCTION take_time();
"""
_PATIENCE_SECONDS = 5
# Of the kills, those at any moment, such as before a window begins.
_EARLY = 0.2
_LATEST = b"SELECT coalesce(max(id), 0) AS id FROM mauntic_jobs.runs"
# Those that were killed before may seem to be alive still.
_RUNNING = b"SELECT pid FROM mauntic_jobs.runs WHERE status = 'running' AND id > %(after)s"
# Live runs with the windows that began while they had their claim, and with those of their days that ended meanwhile.
_IN_THE_WAY = b"""
SELECT live.id, count(own.id) AS windows FROM mauntic_jobs.runs AS live
LEFT JOIN mauntic_jobs.runs AS own
    ON own.backfill_id IS NOT NULL AND own.started_at > live.started_at AND own.started_at < live.finished_at
WHERE live.backfill_id IS NULL
GROUP BY live.id
"""
_WAITED_FOR = b"""
SELECT live.id, count(own.id) AS windows FROM mauntic_jobs.runs AS live
LEFT JOIN mauntic_jobs.runs AS own
    ON own.backfill_id IS NOT NULL AND own.window_start = live.window_start AND own.status = 'succeeded'
    AND own.started_at < live.started_at AND own.finished_at > live.started_at
WHERE live.backfill_id IS NULL
GROUP BY live.id
"""


@pytest.fixture
def here(settings: Settings, session: Session, servers: Servers) -> Iterator[Settings]:
    add_events(session, _EVENTS)
    session.execute_alone(_SLOW)
    own = {"redis_url": servers.redis_url, "queue_prefix": f"{{test-{uuid4().hex}}}"}
    yield Settings(**{**settings.model_dump(), **own})
    kill_what_was_started()


def _variables(here: Settings) -> dict[str, str]:
    assert here.redis_url
    return {"REDIS_URL": here.redis_url.get_secret_value(), "MAUNTIC_QUEUE_PREFIX": here.queue_prefix, **IMPATIENT}


def _children(process: "subprocess.Popen[str]") -> list[int]:
    """Return the processes that any of its threads has started."""
    found: list[int] = []
    for listed in Path(f"/proc/{process.pid}/task").glob("*/children"):
        with suppress(OSError):
            found += [int(each) for each in listed.read_text().split()]
    return found


def _kill(processes: list[int]) -> None:
    for each in processes:
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)


class _Rig:
    """Chances, and what is done beside the kills: a live run of some day of the range after every few of them."""

    def __init__(self, here: Settings, session: Session, name: str) -> None:
        self.here, self.session = here, session
        self.chance = random.Random(name)
        self.kills = 0

    def wait(self) -> None:
        """Wait for the moment of a kill: mostly while a window is being run, after some others have succeeded."""
        if self.chance.random() < _EARLY:
            time.sleep(2 * self.chance.random())
            return
        known = len(successes(self.session))
        wanted = known + self.chance.randrange(max(1, (_WINDOWS - known) // (_KILLS - self.kills)))
        latest = self.session.row(_LATEST)["id"]
        # The jobs of workers that were killed are given to others half a minute later: perhaps none is left meanwhile.
        until = time.monotonic() + _PATIENCE_SECONDS

        def has_come() -> bool:
            done = len(successes(self.session))
            runs = done >= wanted and bool(self.session.rows(_RUNNING, {"after": latest}))
            return runs or done == _WINDOWS or time.monotonic() > until

        wait_until(has_come, "a window that is being run")

    def victim(self, workers: "list[subprocess.Popen[str]]") -> int:
        """Return the number of the worker to be killed: one whose run is under way, or else any."""
        running = {row["pid"] for row in self.session.rows(_RUNNING, {"after": 0})}
        busy = [number for number, worker in enumerate(workers) if running & set(_children(worker))]
        return self.chance.choice(busy or range(len(workers)))

    def count_kill(self) -> None:
        self.kills += 1
        if self.kills % _LIVE_EVERY == 0:
            start = _FIRST + timedelta(days=self.chance.randrange(_WINDOWS))
            asked = request(self.here, Window(start, start + timedelta(days=1)), JOB, options={"grace": "0s"})
            assert run(asked).error is None

    @property
    def goes_on(self) -> bool:
        """Whether there are more kills to be made, and windows left to be killed."""
        return self.kills < _KILLS and len(successes(self.session)) < _WINDOWS

    def check(self) -> None:
        """Finish the backfill, and check what all the kills have left."""
        done = backfill("resume", "1", settings=self.here, **IMPATIENT)
        assert done.returncode == ExitCode.DONE, done.stderr
        runs = Counter(row["status"] for row in list_runs(self.session, limit=10_000))
        assert self.kills >= 2 * _KILLS // 3, "it was no test of kills"
        # A few kills may all miss the windows; many do not.
        assert runs["lost"] >= _KILLS // 5 - 2, f"the kills met no windows: {runs}"
        assert runs["running"] == 0
        assert successes(self.session) == {_FIRST + timedelta(days=number): 1 for number in range(_WINDOWS)}
        assert state(self.session) is BackfillState.ENDED
        assert stored_rollups(self.session) == reference_rollups(_EVENTS)
        # One clean rebuild of all of it finds nothing to change.
        clean = run(request(self.here, _RANGE, JOB, options={"grace": "0s"}))
        assert clean.error is None
        assert [clean.counters[name] for name in ("inserted", "updated", "removed")] == [0, 0, 0]
        # Each process may have been about to claim one when the live run did.
        assert max(row["windows"] for row in self.session.rows(_IN_THE_WAY)) <= _WORKERS
        assert max(row["windows"] for row in self.session.rows(_WAITED_FOR)) <= 1


# What a process starts must be killed alone, and not a server that forks for it.
@pytest.mark.usefixtures("started_processes")
@RANDOM_RUNS
@pytest.mark.parametrize("parallel", ["1", "2"])
@pytest.mark.slow
def test_commands_and_workers_that_are_killed_lose_no_window_and_repeat_none(
    here: Settings, session: Session, parallel: str
) -> None:
    rig = _Rig(here, session, parallel)
    process = start_backfill(*_RUN, "--parallel", parallel, settings=here)
    while rig.goes_on:
        if rig.kills:
            # The first is killed while it makes the plan, or before, or after.
            wait_until(lambda: session.rows(b"SELECT id FROM mauntic_jobs.backfills"), "the plan")
        rig.wait()
        if rig.chance.random() < 2 / 3:
            # The workers before the process that has started them, or one of them alone.
            _kill(_children(process)[: rig.chance.randrange(1, 3)])
        process.kill()
        process.communicate()
        rig.count_kill()
        known = session.rows(b"SELECT id FROM mauntic_jobs.backfills")
        words = ("resume", "1") if known else (*_RUN, "--parallel", parallel)
        process = start_backfill(*words, settings=here)
    process.communicate()
    rig.check()


@pytest.mark.usefixtures("started_processes")
@pytest.mark.parametrize("settings", ["direct"], indirect=True)
@pytest.mark.slow
def test_workers_of_a_queue_that_are_killed_lose_no_window_and_repeat_none(here: Settings, session: Session) -> None:
    variables = _variables(here)
    put = backfill(*_RUN, "--parallel", str(_WORKERS), "--enqueue", settings=here, **variables)
    assert put.returncode == ExitCode.DONE, put.stderr
    rig = _Rig(here, session, "workers")

    def start_worker() -> "subprocess.Popen[str]":
        return start_program("work", JOBS[JOB].queue, "--drain-timeout", "0s", settings=here, **variables)

    workers = [start_worker() for _ in range(_WORKERS)]
    while rig.goes_on:
        rig.wait()
        number = rig.victim(workers)
        # The window's own process alone, or the worker with it or without it.
        victims = rig.chance.choice(["run", "worker", "both"])
        if victims != "worker":
            _kill(_children(workers[number]))
        if victims != "run":
            workers[number].kill()
            workers[number].communicate()
            workers[number] = start_worker()
        rig.count_kill()
    # BullMQ gives the jobs of killed workers to others half a minute later: here, `resume` has their windows before.
    wait_until(lambda: len(successes(session)) >= _WINDOWS - _KILLS, "windows by workers", 120 + 6 * _KILLS)
    for worker in workers:
        worker.terminate()
        worker.communicate()
    rig.check()
