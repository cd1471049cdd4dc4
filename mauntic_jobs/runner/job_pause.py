"""Pauses of scheduled jobs: their slots wait until an instant, whichever clock would run them."""

from dataclasses import dataclass
from datetime import UTC, datetime

from mauntic_jobs.errors import UsageError
from mauntic_jobs.job import Row
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session

_sql = statements("schedules")


@dataclass(frozen=True)
class JobPause:
    """Until when a job is paused, aware, in UTC; `by` is who has set it."""

    until: datetime
    why: str
    by: str

    @property
    def sentence(self) -> str:
        """The pause as a sentence's part, for operators."""
        return f"paused until {self.until.astimezone(UTC):%Y-%m-%d %H:%M} UTC, by {self.by}: {self.why}"


def job_pause(row: Row, now: datetime) -> JobPause | None:
    """Return the pause that a row of `mauntic_jobs.schedules` sets at `now`, None if it has none or it is over."""
    until = row["paused_until"]
    return JobPause(until, row["paused_why"], row["paused_by"]) if until is not None and until > now else None


def read_pause(session: Session, job: str, now: datetime) -> JobPause | None:
    """Return the pause of a job at `now`."""
    rows = session.rows(_sql["paused"], {"job": job})
    return job_pause(rows[0], now) if rows else None


def pause_job(session: Session, job: str, pause: JobPause, now: datetime) -> None:
    """Let the slots of a job wait; a pause that it has is replaced. Raises UsageError for an end that is past."""
    if pause.until <= now:
        raise UsageError(f"{pause.until:%Y-%m-%d %H:%M} UTC is past: nothing would be paused.")
    session.execute(_sql["pause"], {"job": job, "until": pause.until, "why": pause.why, "by": pause.by})


def resume_job(session: Session, job: str) -> None:
    """Let the slots of a job be run again."""
    session.execute(_sql["resume"], {"job": job})
