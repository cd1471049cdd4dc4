"""A check of `doctor`, and its context."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from mauntic_jobs.errors import MaunticJobsError
from mauntic_jobs.job import AnyJob
from mauntic_jobs.ops.doctor.finding import Finding
from mauntic_jobs.runner.schedule_settings import as_stored, read_stored
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.stores.redis.client import RedisScripts


class Service(StrEnum):
    """What a check may need."""

    POSTGRES = "Postgres"
    REDIS = "Redis"


_ReadT = TypeVar("_ReadT")


@dataclass
class Site:
    """The installation under examination.

    `jobs` are as the settings want them scheduled. `crontab` and `fly` are files to look at instead of those that are
    found. `session` and `redis` are there once they were reached.
    """

    settings: Settings
    jobs: Sequence[AnyJob]
    now: Callable[[], datetime]
    crontab: Path | None = None
    fly: Path | None = None
    session: Session = field(init=False, repr=False)
    redis: RedisScripts = field(init=False, repr=False)

    def stored_jobs(self) -> list[AnyJob]:
        """Return the jobs as the database wants them scheduled, if it was reached and holds a schedule."""
        stored = self.if_reached(read_stored) or {}
        return [as_stored(job, stored.get(job.name)) for job in self.jobs]

    def if_reached(self, read: Callable[[Session], _ReadT]) -> _ReadT | None:
        """Return what is read from the database, None if it was not reached or refuses: other checks say so."""
        if not hasattr(self, "session"):
            return None
        try:
            with self.session.transaction():
                return read(self.session)
        except MaunticJobsError:
            return None


@dataclass(frozen=True)
class Check:
    """One thing to look at. It needs at most one service; `reads` are tables that its role has to be able to read."""

    area: str
    name: str
    look: Callable[[Site], Iterable[Finding]]
    needs: Service | None = None
    reads: Sequence[str] = ()
