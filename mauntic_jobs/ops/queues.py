"""The platform's queues: those that messages, scheduled jobs and journey steps wait on."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from mauntic_jobs.delivery.channels import CHANNELS
from mauntic_jobs.delivery.queues import base_of
from mauntic_jobs.job import AnyJob
from mauntic_jobs.settings.settings import Settings

# Whose jobs the platform's own executor runs.
EXECUTE_STEP = "journey:execute-step"


class QueueKind(StrEnum):
    """Who puts jobs on a queue, and so who takes them."""

    DELIVERY = "delivery"
    JOURNEY = "journey"
    SCHEDULED = "scheduled"


@dataclass(frozen=True)
class PlatformQueue:
    """A queue: its `base` is what its keys begin with. `channel` or `jobs` tell what it carries, if that is known."""

    name: str
    base: str
    channel: str | None = None
    jobs: tuple[AnyJob, ...] = ()

    @property
    def prefix(self) -> str:
        """The prefix that all queues of an installation share, unless a channel has its own."""
        return self.base.removesuffix(f":{self.name}")

    @property
    def kind(self) -> QueueKind:
        """Who puts jobs on the queue."""
        if self.channel is not None:
            return QueueKind.DELIVERY
        return QueueKind.SCHEDULED if self.jobs else QueueKind.JOURNEY

    @property
    def purpose(self) -> str:
        """The channel or the scheduled jobs that the queue is for."""
        return self.channel or ", ".join(job.name for job in self.jobs) or "journeys"

    @property
    def consumer(self) -> str:
        """The command whose process takes the jobs; nothing for a queue that the platform's own executor serves."""
        if self.channel is not None:
            return f"mauntic-jobs deliver {self.channel}"
        return f"mauntic-jobs work {self.name}" if self.jobs else ""


def platform_queues(settings: Settings, jobs: Iterable[AnyJob]) -> list[PlatformQueue]:
    """Return every queue of the platform, once: of deliveries, of journeys, and of the scheduled `jobs`."""
    found: dict[str, PlatformQueue] = {}
    for channel in CHANNELS:
        base = base_of(settings, channel)
        found[base] = PlatformQueue(base.partition(":")[2], base, channel=channel)
    for name, more in [(EXECUTE_STEP, ()), *((job.queue, (job,)) for job in jobs)]:
        base = f"{settings.queue_prefix}:{name}"
        known = found.get(base, PlatformQueue(name, base))
        found[base] = PlatformQueue(known.name, base, known.channel, (*known.jobs, *more))
    return list(found.values())
