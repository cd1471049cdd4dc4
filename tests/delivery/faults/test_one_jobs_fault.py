"""Faults of one job: they cost that job, and the process and its other jobs go on."""

import asyncio
import errno
from collections.abc import Awaitable, Callable

import pytest

from mauntic_jobs.delivery.consumer.consumer import Consumer
from mauntic_jobs.delivery.consumer.settlement import acknowledgement
from mauntic_jobs.delivery.consumer.work import Work
from mauntic_jobs.delivery.job_outcome import Decision, Done
from mauntic_jobs.delivery.stats import ChannelStats
from mauntic_jobs.stores.bullmq.commands import printable_id
from mauntic_jobs.stores.bullmq.enqueue import JOB_OPTIONS
from mauntic_jobs.stores.bullmq.job import ReceivedJob
from mauntic_jobs.stores.redis.async_link import RedisLink
from tests.delivery.sink import Sink
from tests.delivery.world import World
from tests.support import run_program

BAD = b"bad-\xff\xfe"


def _with_raw_id(world: World, raw: bytes) -> None:
    """Give the job `j-bad` an id that is not UTF-8, and put it in front of the others."""
    world.ask("RENAME", f"{world.base}:j-bad", f"{world.base}:".encode() + raw)
    world.ask("LREM", f"{world.base}:wait", 1, "j-bad")
    world.ask("RPUSH", f"{world.base}:wait", raw)


def _consume(world: World, process: Callable[[ReceivedJob, str], Awaitable[Decision]]) -> list[tuple[str, str, str]]:
    reported: list[tuple[str, str, str]] = []

    async def run() -> None:
        redis, waiting = RedisLink(world.settings), RedisLink(world.settings)
        work = Work(world.base, 2, JOB_OPTIONS, process)
        consumer = Consumer(work, redis, waiting, ChannelStats(), lambda *_: None, lambda *what: reported.append(what))
        await asyncio.wait_for(consumer.run(until_empty=True), 30)
        await asyncio.gather(redis.close(), waiting.close())

    asyncio.run(run())
    return reported


def test_a_job_whose_id_is_not_utf_8_is_delivered_like_any_other(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    world.add(world.message("good-1"), world.message("good-2"), ids=["j1", "j2"])
    world.add(world.message("bad"), ids=["j-bad"])
    _with_raw_id(world, BAD)
    world.deliver()
    assert world.states() == {"good-1": "sent", "good-2": "sent", "bad": "sent"}
    assert BAD in world.ask("ZRANGE", f"{world.base}:completed", 0, -1)
    assert {row["queue_job"] for row in world.ledger()} == {"j1", "j2", r"bad-\xff\xfe"}


def test_a_job_whose_id_is_not_utf_8_fails_under_a_name_that_can_be_read(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    world.add(world.message("bad", emailAddress="reject-550@example.com"), ids=["j-bad"])
    _with_raw_id(world, BAD)
    world.deliver()
    assert [what[:2] for what in world.reported] == [("failed", r"bad-\xff\xfe")]
    assert world.ask("ZRANGE", f"{world.base}:failed", 0, -1) == [BAD]
    assert world.settings.redis_url
    redis = world.settings.redis_url.get_secret_value()
    variables = {"MAUNTIC_QUEUE_PREFIX": world.settings.queue_prefix, "REDIS_URL": redis}
    for command in (["dlq", "list", "--jobs"], ["dlq", "list", "--jobs", "--json"], ["status"]):
        result = run_program(*command, settings=world.settings, **variables)
        assert "Traceback" not in result.stderr, result.stderr[-1500:]
        assert result.returncode in (0, 1), result.stderr
    assert "bad-" in run_program("dlq", "list", "--jobs", "--json", settings=world.settings, **variables).stdout


def test_a_job_that_cannot_be_settled_fails_by_name_and_the_slot_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(base: str, token: str, name: str, job: ReceivedJob | None, *more: object, **options: object) -> object:
        if name == "j2" and job is not None:
            raise ValueError("no acknowledgement for this")
        return acknowledgement(base, token, name, job, *more, **options)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr("mauntic_jobs.delivery.consumer.consumer.acknowledgement", refuse)
    world.add(*(world.message(f"d{n}") for n in range(6)), ids=[f"j{n}" for n in range(6)])

    async def process(_job: ReceivedJob, _data: str) -> Decision:
        return Done("sent")

    reported = _consume(world, process)
    assert reported == [("failed", "j2", "ValueError: no acknowledgement for this")]
    assert world.jobs_in("failed") == ["j2"]
    assert sorted(world.jobs_in("completed")) == ["j0", "j1", "j3", "j4", "j5"]
    assert world.jobs_in("active") == []


def test_a_job_that_finds_no_descriptor_left_waits_without_spending_an_attempt(world: World) -> None:
    world.add(world.message(), ids=["j1"])

    async def process(_job: ReceivedJob, _data: str) -> Decision:
        raise OSError(errno.EMFILE, "Too many open files")

    (reported,) = _consume(world, process)
    assert reported[:2] == ("deferred", "j1")
    assert "Too many open files" in reported[2]
    assert world.jobs_in("delayed") == ["j1"]
    assert world.job("j1").get("atm", "0") == "0"


def test_a_printable_id_is_text() -> None:
    assert printable_id(BAD.decode(errors="surrogateescape")) == r"bad-\xff\xfe"
    assert printable_id("ä-1") == "ä-1"
