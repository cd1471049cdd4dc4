"""What several tests need: events, the rollups they make, and the program as a process."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

from typer.main import get_command

from mauntic_jobs.cli.main import application
from mauntic_jobs.embedded import binaries
from mauntic_jobs.job import Overlap
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.runner.request import Launcher, Request
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.event_loop import new_event_loop
from mauntic_jobs.stores.postgres.session import Session, connect
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.window import Window, naive
from tests.schemas import check_output

# The program, with all its commands.
APP = application()
_PATIENCE_SECONDS = 60
_started: list[subprocess.Popen[str]] = []
_T = TypeVar("_T")


class Event(NamedTuple):
    """A row of analytics.contact_activity."""

    organization: UUID
    contact: UUID
    type: str
    at: datetime


Rollups = dict[tuple[UUID, date, str], tuple[int, int]]


@cache
def build_program() -> Any:
    """Return APP with the commands and options that Typer makes of it, which takes a tenth of a second."""
    return get_command(APP)


def utc(text: str) -> datetime:
    """Return an instant written in ISO 8601 without an offset."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def organization(number: int) -> UUID:
    return UUID(int=(0xA << 124) + number)


def contact(number: int) -> UUID:
    return UUID(int=(0xC << 124) + number)


def add_events(session: Session, events: Iterable[Event]) -> None:
    session.copy(
        b"COPY analytics.contact_activity (organization_id, contact_id, event_type, created_at) FROM STDIN",
        [(event.organization, event.contact, event.type, naive(event.at)) for event in events],
    )


def reference_rollups(events: Iterable[Event]) -> Rollups:
    """Count the daily rollups in Python, by another way than the product's."""
    contacts: dict[tuple[UUID, date, str], list[UUID]] = defaultdict(list)
    for event in events:
        contacts[event.organization, event.at.astimezone(UTC).date(), event.type].append(event.contact)
    return {key: (len(seen), len(set(seen))) for key, seen in contacts.items()}


def stored_rollups(session: Session) -> Rollups:
    """Read the daily rollups; a key that is there twice fails."""
    rows = session.rows(
        b"SELECT organization_id, date, event_type, count, unique_count FROM analytics.event_aggregates"
        b" WHERE channel IS NULL"
    )
    rollups = {
        (row["organization_id"], row["date"], row["event_type"]): (row["count"], row["unique_count"]) for row in rows
    }
    assert len(rollups) == len(rows)
    return rollups


def request(settings: Settings, window: Window, name: str = "aggregate-hourly", **changes: Any) -> Request:
    """Return a request to run the job of that name; options of the job are given as keywords of `options`."""
    job = JOBS[name]
    options = job.options.model_validate(changes.pop("options", {}))
    values: dict[str, Any] = {
        "job": job,
        "window": window,
        "coverage": job.coverage(window, options, settings),
        "options": options,
        "settings": settings,
        "launcher": Launcher.CLI,
        "now": clock.now(),
        "overlap": Overlap.SKIP,
    }
    return Request(**{**values, **changes})


def day(text: str, days: int = 1) -> Window:
    start = utc(text)
    return Window(start, start + timedelta(days=days))


def environment(settings: Settings | None = None, **extra: str) -> dict[str, str]:
    """Return an environment for the program: this one's without settings, and the given ones."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MAUNTIC_")
        and name not in ("DATABASE_URL", "DATABASE_READ_URL", "REDIS_URL", "ENCRYPTION_KEY", "PORT", "FORCE_COLOR")
    }
    if settings is not None and settings.database_url is not None:
        kept["DATABASE_URL"] = settings.database_url.get_secret_value()
        kept["MAUNTIC_RETRY_DELAY"] = "0s"
        # A test of jobs is not about what the clock runs beside them.
        kept["MAUNTIC_UPKEEP"] = str(settings.upkeep)
    return {**kept, **extra}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "mauntic_jobs", *arguments]


def run_program(*arguments: str, settings: Settings | None = None, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run the program to its end, off a terminal. Fails if it prints other JSON than its command declares."""
    done = subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        check=False,
        timeout=_PATIENCE_SECONDS,
        env=environment(settings, **extra),
    )
    check_output(arguments, done.stdout)
    return done


def start_program(*arguments: str, settings: Settings, **extra: str) -> subprocess.Popen[str]:
    """Start the program and leave it running; what still runs when its test ends, as a failed one, is killed."""
    process = subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(settings, **extra),
    )
    _started.append(process)
    return process


def kill_what_was_started() -> None:
    while _started:
        process = _started.pop()
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe:
                pipe.close()


def wait_until(condition: Callable[[], Any], what: str, seconds: float = _PATIENCE_SECONDS) -> Any:
    """Return the condition's value once it is true; fail when it is not within a minute, or `seconds`."""
    begun = time.monotonic()
    while (waited := time.monotonic() - begun) < seconds:
        value = condition()
        if value:
            return value
        # A question every hundredth of a second costs more than the processes that are waited for.
        time.sleep(min(0.01 + waited / 20, 0.5))
    raise AssertionError(f"{what} did not come about within {seconds} s")


def run_on_loop(work: Coroutine[Any, Any, _T]) -> _T:
    """Run to its end on the event loop that messages are delivered on."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(work)


@contextmanager
def role(settings: Settings, *grants: str, options: str = "") -> Iterator[Settings]:
    """Yield the settings of a role that may log in and has these grants; `{role}` in them stands for its name."""
    assert settings.database_url
    url = urlsplit(settings.database_url.get_secret_value())
    name = f"role_of_{url.path[1:]}"
    own = url._replace(netloc=f"{name}:its-password@{url.hostname}:{url.port}").geturl()
    with connect(settings) as session:
        session.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'its-password' {options}".encode())
        try:
            for grant in grants:
                session.execute(grant.format(role=name).encode())
            yield Settings(**{**settings.model_dump(), "database_url": own})
        finally:
            session.execute(f"DROP OWNED BY {name}".encode())
            session.execute(f"DROP ROLE {name}".encode())


def scheduled_only(*names: str) -> str:
    """Return a value for MAUNTIC_JOBS by which all other jobs are due on leap days only: a test may run at any hour."""
    return json.dumps({name: {"cron": "0 0 29 2 *"} for name in JOBS if name not in names})


def psql(settings: Settings, script: str) -> None:
    """Execute a script as a person would; fail at its first error."""
    assert settings.database_url
    command = [str(binaries.psql()), "-X", "-q", "-v", "ON_ERROR_STOP=1", settings.database_url.get_secret_value()]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False, timeout=_PATIENCE_SECONDS)
    assert (done.returncode, done.stderr) == (0, "")
