"""Slots whose runs are killed: none is in the way of later ones."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from mauntic_jobs.installation import Installation
from mauntic_jobs.runner import claim as claims
from mauntic_jobs.runner.history import list_runs
from mauntic_jobs.runner.request import Launcher, Status
from mauntic_jobs.runner.run import run
from mauntic_jobs.runner.slot_request import slot_request
from mauntic_jobs.scheduler.slots import read_plans
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.catch_up import Which
from tests.scheduler.ticking import TABLE, look, ticking
from tests.support import utc

EVERY = ticking("every", "0 * * * *", Which.ALL, timedelta(hours=48))
FIRST, SECOND = utc("2026-10-05T01:00"), utc("2026-10-05T02:00")
_SILENT = b"""
UPDATE mauntic_jobs.runs SET heartbeat_at = heartbeat_at - %(by)s::interval WHERE status = 'running'
"""
_LONG_AGO = b"UPDATE mauntic_jobs.runs SET finished_at = finished_at - interval '1 hour' WHERE status = 'lost'"


@pytest.fixture
def ready(session: Session) -> Session:
    session.execute(TABLE)
    return session


def _kill(settings: Settings, session: Session, slot: datetime) -> None:
    """Claim a slot as a process does that is killed."""
    claims.acquire(session, slot_request(EVERY, slot, settings, Launcher.LOOP, slot), 1)
    session.execute(_SILENT, {"by": timedelta(minutes=2)})
    claims.release_dead(session, EVERY.name, settings.takeover_after, lambda _: None)


def _due(settings: Settings, session: Session, now: datetime) -> list[datetime]:
    return list(read_plans(Installation(settings, now, [EVERY], session=session))[0].due)


def test_a_slot_whose_run_is_killed_each_time_waits_and_then_has_failed(settings: Settings, ready: Session) -> None:
    now = SECOND + timedelta(minutes=30)
    look(settings, FIRST - timedelta(minutes=30), EVERY)
    _kill(settings, ready, FIRST)
    assert _due(settings, ready, now) == [FIRST, SECOND], "the first loss is made up for at once"
    _kill(settings, ready, FIRST)
    assert _due(settings, ready, now) == [SECOND], "later slots are not held up"
    ready.execute(_LONG_AGO)
    assert _due(settings, ready, now) == [FIRST, SECOND]
    _kill(settings, ready, FIRST)
    assert _due(settings, ready, now) == [SECOND]
    latest, *before = list_runs(ready)
    assert [row["status"] for row in (latest, *before)] == ["failed", "lost", "lost"]
    assert latest["error"].endswith("; lost 3 times, and given up")
    assert [report.status for report in look(settings, now, EVERY)[0]] == [Status.SUCCEEDED]
    assert look(settings, now, EVERY)[0] == []


def test_runs_made_by_hand_that_were_lost_do_not_count(settings: Settings, ready: Session) -> None:
    by_hand = replace(slot_request(EVERY, FIRST, settings, Launcher.CLI, FIRST), claim_slot=False)
    for _ in range(4):
        claims.acquire(ready, by_hand, 1)
        ready.execute(_SILENT, {"by": timedelta(minutes=2)})
        claims.release_dead(ready, EVERY.name, settings.takeover_after, lambda _: None)
    assert {row["status"] for row in list_runs(ready)} == {"lost"}
    assert run(slot_request(EVERY, FIRST, settings, Launcher.LOOP, FIRST)).status is Status.SUCCEEDED


def test_the_silence_that_an_owner_allows_itself_is_the_measure(settings: Settings, ready: Session) -> None:
    slot = slot_request(EVERY, FIRST, settings, Launcher.LOOP, FIRST)
    claims.acquire(ready, slot, 1)
    ready.execute(_SILENT, {"by": timedelta(seconds=30)})
    hasty = Settings(**{**settings.model_dump(), "takeover_after": "5s"})
    claims.release_dead(ready, EVERY.name, hasty.takeover_after, lambda _: None)
    assert [row["status"] for row in list_runs(ready)] == ["running"]
    look(settings, FIRST - timedelta(minutes=30), EVERY)
    (plan,) = read_plans(Installation(hasty, FIRST + timedelta(minutes=1), [EVERY], session=ready))
    assert (plan.waits_for is not None, list(plan.due)) == (True, [])
    ready.execute(_SILENT, {"by": timedelta(minutes=1)})
    claims.release_dead(ready, EVERY.name, hasty.takeover_after, lambda _: None)
    assert [row["status"] for row in list_runs(ready)] == ["lost"]
