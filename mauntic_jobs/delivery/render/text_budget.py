"""Limit of the CPU time that the text of one message may take.

Tenants write templates and HTML, and all tenants share a process: without a limit one message could stop the others.
"""

from time import thread_time

from mauntic_jobs.errors import JobFailedError
from mauntic_jobs.settings.types import MessageLimits

# Several times what HTML of 100 kB takes.
MAX_TEXT_SECONDS = 0.05

_USUAL = MessageLimits()


class TextBudgetError(JobFailedError):
    """The text of a message takes too much CPU time."""


class TextBudget:
    """CPU time of this thread that the text of one message may still take, from now on, and its other `limits`.

    Steps between which other tasks may run must not share a budget.
    """

    def __init__(self, limits: MessageLimits = _USUAL) -> None:
        self.limits = limits
        self._deadline = thread_time() + MAX_TEXT_SECONDS

    @property
    def is_used_up(self) -> bool:
        """Whether there is no time left."""
        return thread_time() > self._deadline

    @property
    def excess(self) -> str:
        """The sentence that says so."""
        return f"it takes more than {MAX_TEXT_SECONDS * 1000:.0f} ms of CPU time, the limit for one message"

    def check(self, work: str) -> None:
        """Raise TextBudgetError, which names the work, if there is no time left."""
        if self.is_used_up:
            raise TextBudgetError(f"{work}: {self.excess}; shorten its content")
