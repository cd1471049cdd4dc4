"""The errors a command can end with: each is a sentence that says what is wrong and what to do, and an exit code."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What a command's exit status means; those above 63 follow sysexits(3) where it has a word for it."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    PARTIAL = 3
    REFUSED = 4
    UNAVAILABLE = 69
    ALERT_UNDELIVERABLE = 74
    TRY_LATER = 75
    CONFIGURATION = 78
    TIMEOUT = 124
    INTERRUPTED = 130
    TERMINATED = 143


class MaunticJobsError(Exception):
    """Base of every error that is shown to a user; its text is the whole message."""

    exit_code: ClassVar[ExitCode] = ExitCode.FAILED
    # Whether the same attempt may succeed a little later: the runner retries these and no others.
    transient: ClassVar[bool] = False


class UsageError(MaunticJobsError):
    """The command line asks for something that cannot be meant."""

    exit_code = ExitCode.USAGE


class ConfigurationError(MaunticJobsError):
    """The installation is not set up for what was asked."""

    exit_code = ExitCode.CONFIGURATION


class ClockSkewError(ConfigurationError):
    """The host's clock differs too much from the database's. `there` is the database's time, aware, in UTC."""

    def __init__(self, message: str, there: datetime) -> None:
        super().__init__(message)
        self.there = there


class UnavailableError(MaunticJobsError):
    """Postgres or Redis cannot be reached, or went away."""

    exit_code = ExitCode.UNAVAILABLE
    transient = True


class ContentionError(MaunticJobsError):
    """The database gave up on this attempt because of others: a deadlock, a serialization failure, a lock."""

    transient = True


class StatementTimeoutError(MaunticJobsError):
    """A statement ran longer than it may."""

    exit_code = ExitCode.TIMEOUT
    transient = True


def is_outage(error: MaunticJobsError) -> bool:
    """Return whether an error is about a store as a whole, so that what was asked of it is to be asked again."""
    return error.transient or isinstance(error, ConfigurationError)


class JobFailedError(MaunticJobsError):
    """The job cannot do its work, and trying again would not help."""


class ConflictError(MaunticJobsError):
    """A row that must be unique is there twice."""


class RefusedError(MaunticJobsError):
    """A guard stopped the command before it changed anything.

    `rows` are what the guard objects to, as mappings of column to value, for display; `summary` are their totals.
    """

    exit_code = ExitCode.REFUSED

    def __init__(
        self, message: str, rows: Sequence[Mapping[str, object]] = (), summary: Sequence[Mapping[str, object]] = ()
    ) -> None:
        super().__init__(message)
        self.rows = rows
        self.summary = summary


class PlanOutdatedError(RefusedError):
    """What a plan was made for has changed since."""


class LockedError(MaunticJobsError):
    """Another process is doing this now."""

    exit_code = ExitCode.TRY_LATER


class FencedError(MaunticJobsError):
    """The run was taken over by another process; nothing this one wrote since then is kept."""

    exit_code = ExitCode.TRY_LATER


class HostClockError(MaunticJobsError):
    """The clock of this host is too far from the clock of a store to decide anything by it."""

    exit_code = ExitCode.UNAVAILABLE


class SlotClaimedError(MaunticJobsError):
    """Another run answers this slot or has this window, or a backfill goes on no more: there is nothing left to do."""

    exit_code = ExitCode.DONE


class JobPausedError(SlotClaimedError):
    """An operator has paused the job: its slots wait, and there is nothing to do now."""


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM asked the process to stop.

    A KeyboardInterrupt, so that psycopg cancels the running statement and no `except Exception` swallows it.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by signal {signal_number}")
        self.number = signal_number
        self.exit_code = ExitCode(128 + signal_number)
