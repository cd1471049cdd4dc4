"""All dead letters as one list, whatever they come from: going through them, and finding one by its name."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from heapq import merge
from itertools import chain
from uuid import UUID

from mauntic_jobs.errors import UsageError
from mauntic_jobs.installation import Installation
from mauntic_jobs.jobs.registry import jobs
from mauntic_jobs.ops.dead_letters import failed_jobs, failed_runs
from mauntic_jobs.ops.dead_letters.dead_letter import RUNS, DeadLetter
from mauntic_jobs.ops.dead_letters.filter.fields import OF_PAYLOAD
from mauntic_jobs.ops.dead_letters.filter.parser import Where
from mauntic_jobs.ops.queues import PlatformQueue, platform_queues


@dataclass(frozen=True)
class Selection:
    """Which dead letters are meant: those that everything given here is true of. No `queues` are all of them."""

    queues: Sequence[str] = ()
    since: datetime | None = None
    organization: UUID | None = None
    where: Where | None = None

    @property
    def of_payload(self) -> bool:
        """Whether a job's payload has to be read to tell."""
        return self.organization is not None or bool(self.where and self.where.fields & OF_PAYLOAD)

    def holds(self, letter: DeadLetter, now: datetime) -> bool:
        """Whether a letter is meant."""
        if self.organization is not None and (letter.organization or "").lower() != str(self.organization):
            return False
        return self.where is None or self.where.holds(letter, now)


class DeadLetters(Installation):
    """The dead letters as they stand at `now`: what fails later is not looked at. Methods raise MaunticJobsError."""

    def queues(self, names: Sequence[str] = ()) -> list[PlatformQueue]:
        """Return the queues of these names, or the platform's. Raises UsageError for one that is not there."""
        known = self._platform_queues()
        if not names:
            return list(known.values())
        found = [self.queue(name) for name in names if name != RUNS]
        for name, base in ((queue.name, queue.base) for queue in found if queue.name not in known):
            if not self.redis.command("EXISTS", f"{base}:meta", f"{base}:failed"):
                raise UsageError(f"There is no queue {name}. The platform's are: {', '.join(known)}.")
        return found

    def queue(self, name: str) -> PlatformQueue:
        """Return the queue of a name, whether there is anything on it or not."""
        return self._platform_queues().get(name) or PlatformQueue(name, f"{self.settings.queue_prefix}:{name}")

    def letters(
        self, selection: Selection, *, payloads: bool = False, newest_first: bool = False
    ) -> Iterator[DeadLetter]:
        """Yield the letters that are meant: queue by queue, oldest first, or all of them together, newest first."""
        wanted = payloads or selection.of_payload
        sources: list[Iterator[DeadLetter]] = [
            failed_jobs.walk(self.redis, queue, selection.since, self.now, payloads=wanted, newest_first=newest_first)
            for queue in self.queues(selection.queues)
        ]
        if not selection.queues or RUNS in selection.queues:
            runs = failed_runs.failed_runs(self.session, self.settings, selection.since, self.now)
            sources.append(iter(runs[::-1] if newest_first else runs))
        joined = merge(*sources, key=_failed_at, reverse=True) if newest_first else chain(*sources)
        return (letter for letter in joined if selection.holds(letter, self.now))

    def find(self, name: str) -> DeadLetter:
        """Return the letter of a name like QUEUE/ID, run/42, or an ID that only one queue has. Raises UsageError."""
        found = self._named(name) or self._anywhere(name)
        if not found:
            raise UsageError(f"There is no dead letter {name}. `mauntic-jobs dlq list --jobs` shows those there are.")
        if len(found) > 1:
            names = " or ".join(letter.address for letter in found)
            raise UsageError(f"More than one queue has a dead letter {name}: say which, {names}.")
        return found[0]

    def _platform_queues(self) -> dict[str, PlatformQueue]:
        configured = [job.configured(self.settings) for job in jobs().values()]
        return {queue.name: queue for queue in platform_queues(self.settings, configured)}

    def _named(self, name: str) -> list[DeadLetter]:
        queue, slash, own = name.partition("/")
        if not slash:
            return []
        if queue == RUNS:
            run = failed_runs.find(self.session, self.settings, own, self.now)
            return [run] if run else []
        letter = failed_jobs.find(self.redis, self.queue(queue), own)
        return [letter] if letter else []

    def _anywhere(self, name: str) -> list[DeadLetter]:
        found = [failed_jobs.find(self.redis, queue, name) for queue in self._platform_queues().values()]
        return [letter for letter in found if letter]


def _failed_at(letter: DeadLetter) -> datetime:
    return letter.failed_at
