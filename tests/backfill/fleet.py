"""Backfills of generated events, by processes of the program."""

import json
import random
import subprocess
from datetime import datetime, timedelta
from typing import Any

from mauntic_jobs.backfill.store import BackfillState, WindowState, read_backfill, read_windows
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session
from tests.support import Event, contact, organization, run_program, start_program

JOB = "aggregate-hourly"
# A run that was killed is taken over soon.
IMPATIENT = {"MAUNTIC_TAKEOVER_AFTER": "0.5s"}
_TYPES = ("email_sent", "email_opened", "page_viewed")

_SUCCESSES = (
    b"SELECT window_start, count(*) AS runs FROM mauntic_jobs.runs"
    b" WHERE backfill_id = %(id)s AND status = 'succeeded' GROUP BY window_start ORDER BY window_start"
)


def activity(first: datetime, days: int, seed: int = 1) -> list[Event]:
    """Return events on each of so many days, of several organizations and types, from one to thirty a day."""
    chance = random.Random(seed)
    return [
        Event(
            organization(chance.randrange(3)),
            contact(chance.randrange(5)),
            chance.choice(_TYPES),
            first + timedelta(days=number, seconds=chance.randrange(86_400)),
        )
        for number in range(days)
        for _ in range(chance.randrange(1, 30))
    ]


def backfill(*arguments: str, settings: Settings, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the group to its end."""
    return run_program("backfill", *arguments, settings=settings, **extra)


def start_backfill(*arguments: str, settings: Settings, **extra: str) -> subprocess.Popen[str]:
    """Start a command of the group."""
    return start_program("backfill", *arguments, settings=settings, **{**IMPATIENT, **extra})


def successes(session: Session, number: int = 1) -> dict[datetime, int]:
    """Return how many runs of each window have succeeded, by the ledger."""
    return {row["window_start"]: row["runs"] for row in session.rows(_SUCCESSES, {"id": number})}


def states(session: Session, number: int = 1) -> list[WindowState]:
    return [each.state for each in read_windows(session, number)]


def state(session: Session, number: int = 1) -> BackfillState:
    return read_backfill(session, number).state


def said(stderr: str) -> list[dict[str, Any]]:
    """Return the lines of a log, which a backfill writes as JSON where no person watches."""
    return [json.loads(line) for line in stderr.splitlines() if line.startswith("{")]


def events_said(stderr: str) -> str:
    return "\n".join(str(line["event"]) for line in said(stderr))
