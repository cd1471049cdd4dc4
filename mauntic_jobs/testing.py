"""Test kit for jobs of other packages: a throwaway platform, and runs at the instants of a test."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta

from mauntic_jobs.embedded.servers import throwaway
from mauntic_jobs.job import AnyJob, JobOptions, Row
from mauntic_jobs.migrations.platform import create_platform
from mauntic_jobs.migrations.upgrade import upgrade
from mauntic_jobs.runner.request import Launcher, Report
from mauntic_jobs.runner.run import run
from mauntic_jobs.runner.slot_request import slot_request
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect

__all__ = ["Platform", "Report", "platform"]

_AFTER_SLOT = timedelta(seconds=10)


class Platform:
    """The platform's tables and those of mauntic-jobs, empty, in a throwaway Postgres, beside a throwaway Redis."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def execute(self, query: bytes, parameters: Mapping[str, object] | None = None) -> int:
        """Commit one statement with named parameters and return how many rows it affected."""
        with connect(self.settings) as session:
            return session.execute(query, parameters)

    def rows(self, query: bytes, parameters: Mapping[str, object] | None = None) -> list[Row]:
        """Execute one statement with named parameters and return its rows, by column name; times are UTC."""
        with connect(self.settings) as session:
            return session.rows(query, parameters)

    def run_slot(self, job: AnyJob, slot: datetime, *, options: JobOptions | None = None) -> Report:
        """Run what a slot of the job's cron line covers, as the clock does 10 s after it, and return the report.

        `slot` is an aware instant in the past. The report of a slot that was run before has `answered`. Errors of the
        job are in `error`, not raised.
        """
        return run(
            slot_request(job, slot, self.settings, Launcher.SCHEDULE, slot + _AFTER_SLOT, options=options),
        )


@contextmanager
def platform() -> Iterator[Platform]:
    """Start a platform for the block; nothing of it is left afterwards.

    Raises ConfigurationError without the extra `mauntic-jobs[embedded]`, and UnavailableError if a server does not
    start.
    """
    with throwaway() as servers:
        settings = Settings(database_url=servers.database_url, redis_url=servers.redis_url)
        with connect(settings) as session:
            create_platform(session)
        upgrade(settings, lambda _: None)
        yield Platform(settings)
