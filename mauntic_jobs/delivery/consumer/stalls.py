"""Account of the jobs in hand whose workers died: deaths of this program's processes, and of other programs'."""

from mauntic_jobs.delivery.consumer.queue_calls import QueueCalls
from mauntic_jobs.stores.bullmq.commands import Taken
from mauntic_jobs.stores.bullmq.stalls import is_accounted_for, stalls_of


class Stalls:
    """Keeps `bullmq_stalls.FIELD` of the jobs in hand."""

    def __init__(self, calls: QueueCalls) -> None:
        self._calls = calls
        self._counted: dict[str, int] = {}

    def take(self, taken: Taken) -> None:
        """Learn of a job that was taken. That a death from now on is this process's, the script has noted in it."""
        stalls = stalls_of(taken.fields)
        if is_accounted_for(taken.fields, stalls):
            self._counted[taken.id] = stalls

    def is_foreign(self, taken: Taken) -> bool:
        """Return whether a worker of another program died with this job, and the ledger does not know it yet."""
        return taken.id not in self._counted

    async def account_for(self, taken: Taken) -> None:
        """Note in a job that the ledger knows of its stalls."""
        count = stalls_of(taken.fields)
        await self._calls.account_for(taken.id, count + 1)
        self._counted[taken.id] = count

    def counted(self, job: str) -> int | None:
        """Return how many stalls are accounted for once the job is let go, None to leave what stands there."""
        return self._counted.get(job)

    def give_back(self, job: str) -> None:
        """Note before a job is given back that a death from now on is not this process's."""
        if (count := self._counted.get(job)) is not None:
            self._calls.begin_stalls(job, count)

    def release(self, job: str) -> None:
        """Forget a job that was let go."""
        self._counted.pop(job, None)
