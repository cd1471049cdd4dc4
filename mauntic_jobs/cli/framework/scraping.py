"""The numbers that a process which stays answers a scrape with, in time whatever its stores do."""

from collections.abc import Iterable
from dataclasses import replace
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

from mauntic_jobs.cli.framework.scheduled_jobs import scheduled_jobs
from mauntic_jobs.errors import ConfigurationError, MaunticJobsError, UnavailableError
from mauntic_jobs.ops.status.metrics import PARTS, families
from mauntic_jobs.ops.status.read import InstallationStatus, fill_status
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.telemetry.metrics import exposition
from mauntic_jobs.timekeeping import clock

if TYPE_CHECKING:
    from prometheus_client.core import Metric

# Prometheus gives up after 10 s unless it was told otherwise.
_ANSWER_SECONDS = 7.0


class Scraper:
    """Looks at Postgres and Redis for scrapes, one look at a time.

    A scrape waits for a look for 7 s. A store that has not answered by then counts as away, and the next scrape waits
    for the same look: what hangs holds one connection, however often it is asked for.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._starting = Lock()
        self._look: _Look | None = None

    def numbers(self, own: Iterable["Metric"] = ()) -> bytes:
        """Return all numbers, and those of the process's `own` families, in Prometheus's text format.

        What the role of the process may not read is left out: a store that refuses it is not away.
        """
        with self._starting:
            if self._look is None or self._look.ended.is_set():
                self._look = _Look(self._settings)
            look = self._look
        look.ended.wait(_ANSWER_SECONDS)
        status = look.status
        problems: dict[str, MaunticJobsError] = {
            store: error for store, error in status.problems.items() if not isinstance(error, ConfigurationError)
        }
        if not look.ended.is_set():
            problems[status.reading] = UnavailableError(f"no answer for {_ANSWER_SECONDS:g} s")
        return exposition([*families(replace(status, problems=problems), PARTS), *own])


class _Look:
    """A look at the stores, by a thread of its own: `status` has what was read so far."""

    def __init__(self, settings: Settings) -> None:
        self.status = InstallationStatus(clock.now())
        self.ended = Event()
        Thread(target=self._read, args=(settings,), name="scrape", daemon=True).start()

    def _read(self, settings: Settings) -> None:
        try:
            fill_status(self.status, settings, list(scheduled_jobs(settings).values()))
        finally:
            self.ended.set()
