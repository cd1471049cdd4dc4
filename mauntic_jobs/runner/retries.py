"""Retries of a step under the policy of a job: pauses between attempts, each shown."""

import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TypeVar

from mauntic_jobs.errors import MaunticJobsError
from mauntic_jobs.redaction.text import scrub
from mauntic_jobs.timekeeping.window import format_duration

_T = TypeVar("_T")


class Retries:
    """Attempts at the steps of one piece of work: how many were made, and the pauses that are left for all of them.

    `log` gets a sentence for each pause, which begins with `name`.
    """

    def __init__(self, name: str, pauses: Iterable[timedelta], log: Callable[[str], None]) -> None:
        self.made = 1
        self._name = name
        self._pauses = iter(pauses)
        self._log = log

    def until_done(self, step: Callable[[str | None], _T]) -> _T:
        """Return what `step` returns, which gets the scrubbed error of its last attempt, or None at its first.

        Raises the error of an attempt that is not transient, or that no pause is left for.
        """
        before: str | None = None
        while True:
            try:
                return step(before)
            except MaunticJobsError as error:
                pause = next(self._pauses, None) if error.transient else None
                if pause is None:
                    raise
                before = scrub(str(error))
            follows = f"the next attempt follows in {format_duration(pause)}"
            self._log(f"{self._name}: attempt {self.made} failed, {follows}: {before}")
            time.sleep(pause.total_seconds())
            self.made += 1
