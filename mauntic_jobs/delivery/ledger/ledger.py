"""The delivery ledger: claims committed before anything is sent, results committed before a job is acknowledged."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from itertools import count
from secrets import token_hex
from typing import Any, TypeVar
from uuid import UUID

from mauntic_jobs.aio.backoff import Backoff
from mauntic_jobs.aio.batcher import Batcher, rounds
from mauntic_jobs.delivery.ledger.records import (
    Claim,
    Claimed,
    Recorded,
    Result,
    State,
    claim_json,
    claimed,
    recorded,
    result_json,
)
from mauntic_jobs.delivery.ledger.reopen import ReopenRequest, keys
from mauntic_jobs.delivery.payload import Message
from mauntic_jobs.delivery.sending.failover import clean
from mauntic_jobs.errors import ConfigurationError, MaunticJobsError, is_outage
from mauntic_jobs.job import Row
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.bullmq.commands import printable_id
from mauntic_jobs.stores.postgres.async_link import PostgresLink

LEASE = timedelta(seconds=60)
RESEND_AFTER = timedelta(seconds=120)
# For so long after a delivery became ambiguous, an idle process goes on looking for evidence of it.
EVIDENCE_EXPECTED = timedelta(hours=1)

_sql = statements("deliveries")
_evidence_sql = statements("evidence")
_T = TypeVar("_T")


class Ledger:
    """Claims and records in batches, each on a connection of its own, and repeats both until Postgres takes them.

    Both can be repeated: a claim knows itself again by its owner, a result by its fence.
    """

    def __init__(
        self,
        claims: PostgresLink,
        records: PostgresLink,
        *,
        record_activity: bool,
        lease: timedelta = LEASE,
        resend_after: timedelta = RESEND_AFTER,
        log_outage: Callable[[str, MaunticJobsError | None], None] = lambda *_: None,
    ) -> None:
        self._claims_link = claims
        self._records_link = records
        self._lease = _interval(lease)
        self._parameters = {
            "resend_after": _interval(resend_after),
            "record_activity": b"true" if record_activity else b"false",
        }
        self._log_outage = log_outage
        # Both make the UUID of a claim's owner: a new random number for each would be a call of the system for each.
        self._owner, self._claimed = token_hex(10), count()
        self._started: set[tuple[UUID, UUID]] = set()
        self._claims: Batcher[tuple[Claim, str], Claimed] = Batcher(self._claim_all)
        self._results: Batcher[Result, Recorded] = Batcher(self._record_all)

    async def check(self) -> None:
        """Raise MaunticJobsError if Postgres cannot be reached, or has no ledger."""
        await self._claims_link.rows(_sql["check"], {})

    def claim(self, claim: Claim) -> Awaitable[Claimed]:
        """Commit that a delivery is in hand, or learn what stands in the way."""
        return self._claims.ask((claim, f"{self._owner}{next(self._claimed):012x}"))

    def record(self, result: Result) -> Awaitable[Recorded]:
        """Commit what became of a delivery."""
        return self._results.ask(result)

    async def deferrals(self, message: Message) -> int:
        """Return how often receivers have asked to wait with a delivery, as far as its attempts are kept."""
        key = {"organization": message.organization_id, "delivery": message.key}
        rows = await self._patiently(lambda: self._records_link.rows(_sql["deferrals"], key, bare=True))
        return int(rows[0]["deferrals"])

    async def standing(self, wish: ReopenRequest) -> Row:
        """Return how a delivery stands: its `state`, None if there is no row, its `fence` and `pruned_before`."""
        (row,) = await self._patiently(lambda: self._claims_link.rows(_sql["standing"], keys([wish])))
        return row

    async def reopen(self, wish: ReopenRequest, fence: int) -> None:
        """Let a delivery that has failed at this fence be claimed again; one that has changed since stays as it is."""
        parameters = {**keys([wish]), "fences": [fence], "queue_jobs": [wish.queue_job], "state": State.FAILED}
        await self._patiently(lambda: self._claims_link.rows(_sql["reopen"], parameters))

    async def end_leases(self, most: int = 500) -> list[Row]:
        """Name the deliveries that were being sent by a process that has died."""
        parameters = {"resend_after": self._parameters["resend_after"].decode(), "most": most, "behind": "0"}
        ended = await self._records_link.rows(_sql["end_leases"], parameters)
        await self._records_link.rows(_sql["swept"], {"lease": self._lease.decode()})
        return ended

    async def is_uncertain(self) -> bool:
        """Return whether deliveries are being sent, or became ambiguous so lately that evidence is to be expected."""
        (row,) = await self._records_link.rows(_sql["uncertain"], {"within": EVIDENCE_EXPECTED})
        return bool(row["uncertain"])

    async def sweep_again(self, message: Message) -> None:
        """Have the next `end_leases` look at a delivery whose lease has ended, if it has been passed over."""
        await self._records_link.rows(_sql["sweep_again"], _key(message))

    async def keep_payload(self, message: Message, payload: str) -> None:
        """Keep what an open delivery says that was claimed by a process that has died."""
        await self._records_link.rows(_sql["keep_payload"], {**_key(message), "payload": payload})

    async def weigh_evidence(self, most: int = 500) -> int:
        """Settle deliveries that may have been sent, and of which the platform has heard since; return how many."""
        rows = await self._records_link.rows(_evidence_sql["evidence"], {"most": most})
        # First, because afterwards nothing tells that they were uncertain.
        await self.name_doubles([(row["organization_id"], row["delivery_id"]) for row in rows if row["elsewhere"]])
        results = [_evident(row) for row in rows]
        if results:
            await asyncio.gather(*(self.record(result) for result in results))
        return len(results)

    async def name_doubles(self, deliveries: Sequence[tuple[UUID, str]]) -> None:
        """Mark deliveries, by organization and id, as possible duplicates: another engine may have sent them too."""
        if deliveries:
            organizations, names = zip(*deliveries, strict=True)
            parameters = {"organizations": list(organizations), "deliveries": list(names)}
            await self._patiently(lambda: self._records_link.rows(_evidence_sql["name_doubles"], parameters))

    async def doubt(self, message: Message, channel: str, queue_job: str, since: datetime) -> None:
        """Note that a worker of another program, which died, may have sent a delivery since a time."""
        parameters = {
            **_key(message),
            "channel": channel,
            "queue_job": printable_id(queue_job),
            "job": message.job_id,
            "contact": message.contact_id,
            "campaign": message.campaign_id,
            "owner": UUID(hex=token_hex(16)),
            "since": since,
            "resend_after": self._parameters["resend_after"].decode(),
        }
        await self._patiently(lambda: self._claims_link.rows(_sql["doubt"], parameters))

    async def _claim_all(self, asked: list[tuple[Claim, str]]) -> Sequence[Claimed | Exception]:
        messages = [claim.message for claim, _ in asked]
        await self._start_jobs([(each.organization_id, each.job_id) for each in messages if each.job_id])

        async def call(some: list[tuple[Claim, str]]) -> Sequence[Claimed | Exception]:
            claims = b",".join([claim_json(n, claim, owner) for n, (claim, owner) in enumerate(some)])
            parameters = {"claims": b"[" + claims + b"]", "lease": self._lease}
            return _in_order(await self._claims_link.json(_sql["claim"], parameters), len(some), claimed)

        # One statement cannot change a row twice.
        answers: list[Claimed | Exception] = [NotImplementedError()] * len(asked)
        for places in rounds([(claim.message.organization_id, claim.message.key) for claim, _ in asked]):
            some = await self._in_halves_if_refused(call, [asked[place] for place in places])
            for place, answer in zip(places, some, strict=True):
                answers[place] = answer
        return answers

    async def _record_all(self, asked: list[Result]) -> Sequence[Recorded | Exception]:
        async def call(some: list[Result]) -> Sequence[Recorded | Exception]:
            parameters = {**self._parameters, "results": _array(some)}
            try:
                return _in_order(await self._records_link.json(_sql["record"], parameters), len(some), recorded)
            except ConfigurationError as error:
                # A table, a column or a right is missing. If the ledger cannot be written either, all is repeated.
                return await self._record_alone(some, error)

        async def settle(result: Result, answer: Recorded | Exception) -> Recorded | Exception:
            if not isinstance(answer, MaunticJobsError):
                return answer
            try:
                return (await self._patiently(lambda: self._record_alone([result], answer)))[0]
            except MaunticJobsError as again:
                if result.payload is None:
                    return again
            # What jsonb cannot hold, such as 1e200000, must not keep a result out of the ledger.
            return await settle(result._replace(payload=None), answer)

        answers = await self._in_halves_if_refused(call, asked)
        return [await settle(result, answer) for result, answer in zip(asked, answers, strict=True)]

    async def _record_alone(self, some: list[Result], error: MaunticJobsError) -> Sequence[Recorded]:
        """Record results in the ledger and nowhere else, where Postgres refuses what else there is to record.

        What has been sent must not be sent again for it. `reconcile` records the rest.
        """
        resend_after, refused = self._parameters["resend_after"], clean(str(error)).encode()
        parameters = {"results": _array(some), "resend_after": resend_after, "refused": refused}
        rows = await self._records_link.json(_sql["record_alone"], parameters)
        self._log_outage("record", error)
        return _in_order(rows, len(some), recorded)

    async def _start_jobs(self, jobs: list[tuple[UUID, UUID]]) -> None:
        fresh = list(set(jobs) - self._started)
        if fresh:
            parameters = {"organizations": [each for each, _ in fresh], "jobs": [each for _, each in fresh]}
            await self._patiently(lambda: self._claims_link.rows(_sql["start_jobs"], parameters))
            if len(self._started) > _MOST_REMEMBERED:
                self._started.clear()
            self._started.update(fresh)

    async def _in_halves_if_refused(
        self, call: Callable[[list[_T]], Awaitable[Sequence[object]]], items: list[_T]
    ) -> Sequence[Any]:
        """Make the call for all, or where Postgres refuses it for halves, so that one cannot hold up the others."""
        try:
            return await self._patiently(lambda: call(items))
        except MaunticJobsError as error:
            if len(items) == 1:
                return [error]
        middle = len(items) // 2
        first, second = items[:middle], items[middle:]
        return [*await self._in_halves_if_refused(call, first), *await self._in_halves_if_refused(call, second)]

    async def _patiently(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """Repeat a call while Postgres is away, or refuses to write: read-only, or a right of the role is missing."""
        backoff = Backoff()
        troubled = False
        while True:
            try:
                answer = await call()
            except MaunticJobsError as error:
                if not is_outage(error):
                    raise
                troubled = True
                self._log_outage("postgres", error)
                await backoff.pause()
            else:
                if troubled:
                    self._log_outage("postgres", None)
                return answer


_MOST_REMEMBERED = 10_000


def _key(message: Message) -> dict[str, object]:
    return {"organization": message.organization_id, "delivery": message.key}


def _evident(row: Row) -> Result:
    message = Message(organization_id=row["organization_id"], delivery_id=row["delivery_id"])
    by_other = "the Node engine has sent it, and this one may have sent it too"
    reason = by_other if row["elsewhere"] else "the platform has heard of it since"
    return Result(message, row["fence"], State.SENT, reason, provider_message_id=row["provider_message_id"])


def _in_order(rows: list[Row], count: int, read: Callable[[Row], _T]) -> list[_T]:
    by_number = {row["n"]: read(row) for row in rows}
    return [by_number[n] for n in range(count)]


def _array(results: list[Result]) -> bytes:
    return b"[" + b",".join([result_json(n, result) for n, result in enumerate(results)]) + b"]"


def _interval(duration: timedelta) -> bytes:
    return f"{duration.total_seconds()} seconds".encode()
