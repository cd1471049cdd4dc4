"""The ways to bring one day's rollups up to date that are compared."""

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
from psycopg.rows import DictRow

from bench._common import Sample, connect, run_process, statements
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.jobs.aggregate_hourly import AGGREGATE_HOURLY, AggregateHourlyOptions
from mauntic_jobs.jobs.event_counts import COUNT
from mauntic_jobs.runner.request import Launcher, Request
from mauntic_jobs.runner.run import run
from mauntic_jobs.settings.sources import load as load_settings
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.window import Window, naive

# Each is committed as one transaction, as the job is.
BARE: dict[str, tuple[str, ...]] = {
    "two-level, INSERT ... SELECT": ("count_by_contact_and_write",),
    "two-level, CREATE TABLE AS": ("count_by_contact", "write"),
    "two-level, CREATE TABLE AS, no hashing": ("sort", "count_by_contact", "write"),
    "count(DISTINCT), INSERT ... SELECT": ("count_distinct_and_write",),
    "count(DISTINCT), CREATE TABLE AS": ("count_distinct", "write"),
}

# Parameters of the count: all organizations and contacts.
_EVERYTHING = {"organizations": None, "share": None, "seed": None, "half": None}

_sql = statements("aggregate_hourly")


@dataclass(frozen=True)
class Ways:
    """The ways, for the database at `url` and the day of `hour`, which is its last one."""

    url: str
    hour: Window
    work_mem: str

    @property
    def day(self) -> Window:
        """The day that `hour` ends."""
        return Window(self.hour.end - timedelta(days=1), self.hour.end)

    def process(self, window: Window | None = None) -> Sample:
        """Run the job as cron starts it, in a process, for the day of the hour or else for the days of `window`."""
        # A window that starts at midnight would ask for the day before as well.
        return run_process([AGGREGATE_HOURLY.name, f"--window={window or self.hour}", "--grace=0s", "--json"], self.url)

    def in_process(self, work_mem: str | None = None) -> Sample:
        """Make the same run without the start of a process: connect, claim, rebuild, record."""
        settings, _ = load_settings({"database_url": self.url, "work_mem": work_mem or self.work_mem})
        options = AggregateHourlyOptions()
        request = Request(
            job=AGGREGATE_HOURLY,
            window=self.hour,
            coverage=AGGREGATE_HOURLY.coverage(self.hour, options, settings),
            options=options,
            settings=settings,
            launcher=Launcher.CLI,
            now=clock.now(),
        )
        started = time.perf_counter()
        report = run(request)
        seconds = time.perf_counter() - started
        if report.exit_code is not ExitCode.DONE:
            raise RuntimeError(f"the run ended as {report.status}: {report.error}")
        return Sample(seconds)

    def bare(self, variant: str) -> Sample:
        """Rebuild the same day by SQL written by hand: connect, one transaction."""
        return self.bare_days(variant, [self.day])

    def bare_days(self, variant: str, days: Sequence[Window]) -> Sample:
        """Rebuild several days, one transaction each, over one connection."""
        started = time.perf_counter()
        with connect(self.url) as connection:
            for day in days:
                with connection.transaction():
                    connection.execute(_sql["work_mem"], {"work_mem": self.work_mem})
                    for name in BARE[variant]:
                        connection.execute(_sql[name], _parameters(day))
        return Sample(time.perf_counter() - started)

    def psql(self, variant: str) -> Sample:
        """Rebuild the same day by the same SQL through psql: a process, one transaction."""
        with connect(self.url) as connection:
            cursor = psycopg.ClientCursor(connection)
            named = [(_sql["work_mem"], {"work_mem": self.work_mem})]
            named += [(_sql[name], _parameters(self.day)) for name in BARE[variant]]
            text = ";\n".join(cursor.mogrify(statement, values) for statement, values in named)
        command = [
            "psql",
            "--no-psqlrc",
            "--quiet",
            "--single-transaction",
            "--set=ON_ERROR_STOP=1",
            "--file=-",
            self.url,
        ]
        started = time.perf_counter()
        subprocess.run(command, input=text, text=True, check=True, stdout=subprocess.DEVNULL)
        return Sample(time.perf_counter() - started)

    def replaced(self) -> Sample:
        """Count the last hour, then SELECT and INSERT or UPDATE each group, as the job that is replaced does."""
        started = time.perf_counter()
        with connect(self.url, psycopg.Cursor) as connection:
            self._add_hour(connection)
        return Sample(time.perf_counter() - started)

    def replaced_as_found(self) -> Sample:
        """Do so without the indexes of `db upgrade`, in one transaction, so that they come back."""
        with connect(self.url, psycopg.Cursor) as connection, connection.transaction(force_rollback=True):
            connection.execute(_sql["without_events_index"])
            connection.execute(_sql["without_rollups_key"])
            started = time.perf_counter()
            self._add_hour(connection)
            return Sample(time.perf_counter() - started)

    def set_right(self) -> None:
        """Leave the rollups of the day as they should be."""
        self.set_empty()
        self.bare("two-level, INSERT ... SELECT")
        self._settle()

    def set_empty(self) -> None:
        """Leave the day without rollups."""
        with connect(self.url) as connection:
            connection.execute(_sql["empty"], _parameters(self.day))
        self._settle()

    def set_all_empty(self) -> None:
        """Leave no day with rollups."""
        with connect(self.url) as connection:
            connection.execute(_sql["empty_all"])
        self._settle()

    def verify(self) -> None:
        """Raise RuntimeError unless the day's rollups are what the events say, counted in another way than above."""
        with connect(self.url) as connection:
            (row,) = connection.execute(_sql["wrong"], _parameters(self.day))
        if row["wrong"]:
            raise RuntimeError(f"{row['wrong']} rollups are wrong")

    def explain(self, work_mem: str, *, index: bool = True) -> dict[str, Any]:
        """Return the plan, executed, of the statement in which the job counts the day; optionally without the index."""
        create = (
            b"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) CREATE TEMPORARY TABLE counted ON COMMIT DROP AS "
        )
        with connect(self.url) as connection, connection.transaction(force_rollback=True):
            connection.execute(_sql["work_mem"], {"work_mem": work_mem})
            if not index:
                connection.execute(_sql["without_events_index"])
            (row,) = connection.execute(create + COUNT, {**_EVERYTHING, **_parameters(self.day)})
        (plan,) = row["QUERY PLAN"]
        return dict(plan)

    def count(self, *, index: bool = True) -> Sample:
        """Count the day as the job does, without writing; optionally without the index on the events."""
        return Sample(self.explain(self.work_mem, index=index)["Execution Time"] / 1000)

    def _add_hour(self, connection: psycopg.Connection[DictRow]) -> None:
        hour = {"start": naive(self.hour.start), "end": naive(self.hour.end)}
        for group in connection.execute(_sql["hour_groups"], hour).fetchall():
            group["date"] = self.day.start.date()
            found = connection.execute(_sql["hour_find"], group).fetchone()
            if found is None:
                connection.execute(_sql["hour_insert"], group)
            else:
                connection.execute(_sql["hour_add"], {**group, **found})

    def _settle(self) -> None:
        with connect(self.url) as connection:
            connection.execute(_sql["settle"])


def _parameters(day: Window) -> dict[str, Any]:
    return {"start": naive(day.start), "end": naive(day.end), "date": day.start.date()}
