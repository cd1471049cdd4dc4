"""Executions of journeys, and runs of `stale-execution-cleanup` at a fixed present."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from mauntic_jobs.errors import ExitCode
from mauntic_jobs.job import Row
from mauntic_jobs.jobs.stale_execution_cleanup import STALE_EXECUTION_CLEANUP
from mauntic_jobs.runner.request import Launcher, Report, Request
from mauntic_jobs.runner.run import run
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.window import Window, naive
from tests.support import contact, day, organization, utc

NOW = utc("2026-11-01T03:00")
WEEK = timedelta(days=7)
CUTOFF = NOW - WEEK
TICK = timedelta(microseconds=1)
ACTION = UUID(int=1)
DELAY = UUID(int=2)

UNREADABLE = (
    '{"type": "delay", "duration": "30 days", "unit": "days"}',
    '{"type": "delay", "duration": true, "unit": "days"}',
    '{"type": "delay", "duration": null, "unit": "days"}',
    '{"type": "delay", "duration": [30], "unit": "days"}',
    '{"type": "delay", "duration": 30, "unit": "weeks"}',
    '{"type": "delay", "duration": 30, "unit": "Days"}',
    '{"type": "delay", "duration": 30, "unit": ["days"]}',
    '{"type": "delay", "duration": "", "unit": "days"}',
    '{"type": "delay", "duration": -1, "unit": "days"}',
    '{"type": "delay", "duration": 36500.000001, "unit": "days"}',
    '{"type": "delay", "duration": 1e308, "unit": "minutes"}',
    '{"type": "delay", "duration": 9e131071, "unit": "hours"}',
    '{"type": "delay", "unit": "days"}',
    "{}",
    "[]",
    "null",
    '"{\\"duration\\": 30, \\"unit\\": \\"days\\"}"',
)


@dataclass(frozen=True)
class Entry:
    """A row of journey.step_executions."""

    step: UUID
    started: datetime | None = None
    completed: datetime | None = None


@dataclass(frozen=True)
class Execution:
    """A row of journey.journey_executions and the steps it went through."""

    number: int
    started: datetime
    step: UUID | None = ACTION
    entries: list[Entry] = field(default_factory=list)
    status: str = "active"
    owner: int = 1

    @property
    def id(self) -> UUID:
        return UUID(int=(0xE << 124) + self.number)


def old(number: int, **changes: Any) -> Execution:
    return Execution(number, NOW - timedelta(days=30), **changes)


def delay(duration: float, unit: str) -> str:
    return json.dumps({"type": "delay", "duration": duration, "unit": unit})


def journey(owner: int) -> UUID:
    return UUID(int=(0xF << 124) + owner)


def store(session: Session, executions: Iterable[Execution], delays: Mapping[UUID, str] | None = None) -> None:
    executions = list(executions)
    session.copy(
        b"COPY journey.journeys (id, organization_id, name) FROM STDIN",
        [(journey(owner), organization(owner), f"Journey {owner}") for owner in (1, 2, 3)],
    )
    session.copy(
        b"COPY journey.journey_steps (id, journey_version_id, organization_id, type, config) FROM STDIN",
        [
            (step, journey(1), organization(1), kind, config)
            for step, kind, config in [
                (ACTION, "action", delay(3000, "days")),
                *((step, "delay", config) for step, config in (delays or {}).items()),
            ]
        ],
    )
    session.copy(
        b"COPY journey.journey_executions (id, journey_id, journey_version_id, organization_id, contact_id, status,"
        b" started_at, current_step_id) FROM STDIN",
        [
            (
                *(one.id, journey(one.owner), journey(one.owner), organization(one.owner), contact(one.number)),
                *(one.status, naive(one.started), one.step),
            )
            for one in executions
        ],
    )
    for one in executions:
        record(session, one, *one.entries)


def record(session: Session, execution: Execution, *entries: Entry) -> None:
    session.copy(
        b"COPY journey.step_executions (execution_id, step_id, organization_id, status, started_at, completed_at)"
        b" FROM STDIN",
        [(execution.id, entry.step, organization(execution.owner), "completed", *_stamps(entry)) for entry in entries],
    )


def _stamps(entry: Entry) -> list[datetime | None]:
    return [at and naive(at) for at in (entry.started, entry.completed)]


def request(settings: Settings, window: Window | None = None, dry_run: bool = False, **options: Any) -> Request:
    covered = window or day("2026-10-31")
    return Request(
        job=STALE_EXECUTION_CLEANUP,
        window=covered,
        coverage=covered,
        options=STALE_EXECUTION_CLEANUP.options.model_validate(options),
        settings=settings,
        launcher=Launcher.CLI,
        now=NOW,
        dry_run=dry_run,
    )


def clean(settings: Settings, **options: Any) -> Report:
    report = run(request(settings, **options))
    assert report.exit_code is ExitCode.DONE, report.error
    return report


def canceled(session: Session) -> set[int]:
    """Return the numbers of the canceled executions; each must have been canceled and logged as a whole."""
    rows = session.rows(
        b"SELECT execution.id, execution.completed_at, log.organization_id = execution.organization_id AS fits,"
        b" log.level, log.created_at, log.message"
        b" FROM journey.journey_executions AS execution"
        b" FULL JOIN journey.execution_logs AS log ON log.execution_id = execution.id"
        b" WHERE execution.status = 'canceled' OR log.id IS NOT NULL"
    )
    assert {(row["completed_at"], row["fits"], row["level"], row["created_at"]) for row in rows} <= {
        (naive(NOW), True, "warn", naive(NOW))
    }
    numbers = [row["id"].int & 0xFFFFFF for row in rows]
    assert len(numbers) == len(set(numbers))
    return set(numbers)


def everything(session: Session) -> list[Row]:
    return session.rows(b"SELECT ctid, xmin, * FROM journey.journey_executions ORDER BY id") + session.rows(
        b"SELECT ctid, xmin, * FROM journey.execution_logs ORDER BY id"
    )
