"""Faults of all stores at random while messages, a warm-up and journeys are under way: nothing is lost or doubled.

`scripts/chaos` runs the same with more rounds.
"""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from uuid import UUID, uuid4

import pytest

from mauntic_jobs.settings.settings import Settings
from tests.delivery.crash import age, backlog, check, counted, deliver_all, ended, start
from tests.delivery.own_stores import OwnStore, own_redis
from tests.delivery.sink import Sink
from tests.delivery.world import World, new_world
from tests.support import run_program, wait_until

ROUNDS = 3 + int(os.environ.get("CHAOS", "1"))
MESSAGES = 150
WARMING_UP, ALLOWED = 70, 50
EXECUTIONS = 5
_ZONES = ("Asia/Kolkata", "America/New_York", "UTC", "Pacific/Kiritimati")
_STYLES = ("SQL, DMY", "German", "ISO, MDY")


@pytest.fixture
def redis() -> Iterator[OwnStore]:
    with own_redis() as store:
        yield store


@pytest.fixture
def stormy(direct_settings: Settings, redis: OwnStore, sink: Sink) -> Iterator[World]:
    with new_world(direct_settings, redis.url) as world:
        world.provider(sink.host, sink.port)
        yield world


class Storm:
    """What can happen to an installation, and what its operator and its producer do about it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._dice = random.Random(11)
        self.campaign = world.campaign(WARMING_UP)
        self._contact = str(world.contact())
        world.write(
            "INSERT INTO delivery.sending_domains (organization_id, domain, status, created_at)"
            " VALUES (%(organization)s, 'warm.test', 'verified', %(now)s)",
            now=datetime.now(UTC).replace(tzinfo=None),
        )
        self.produce()
        self.executions = [self._enter() for _ in range(EXECUTIONS)]
        self._run("outbox", "publish")

    def produce(self) -> None:
        """Put the messages of the domain that is being warmed up on the queue, once more where they were there."""
        own = {"jobId": str(self.campaign), "contactId": self._contact, "from": "News <news@warm.test>"}
        messages = [
            self._world.message(f"w{n:04}", emailAddress=f"warm{n}@example.com", **own) for n in range(WARMING_UP)
        ]
        self._world.add(*messages)

    def strike(self) -> None:
        """Let one of the faults happen."""
        faults: list[Callable[[], None]] = [self._end_connections, self._change_server, self._empty_redis]
        self._dice.choice(faults)()

    def _end_connections(self) -> None:
        self._world.session.rows(
            b"SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            b" WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        for line in self._world.ask("CLIENT LIST"):
            self._world.ask("CLIENT", "KILL", "ID", line["id"], "SKIPME", "yes")

    def _change_server(self) -> None:
        (row,) = self._world.session.rows(b"SELECT quote_ident(current_database()) AS name")
        for setting, values in (("timezone", _ZONES), ("datestyle", _STYLES)):
            value = self._dice.choice(values)
            self._world.session.execute(f"ALTER DATABASE {row['name']} SET {setting} = '{value}'".encode())
        self._end_connections()

    def _empty_redis(self) -> None:
        self._run("monitor", "run", "--once")
        self._world.ask("FLUSHALL")
        time.sleep(self._dice.uniform(0, 0.3))
        self._run("recover", "--yes")
        backlog_again(self._world)
        self.produce()

    def steps_queued(self) -> list[str]:
        key = f"{self._world.settings.queue_prefix}:journey:execute-step:wait"
        return sorted(each.decode() for each in self._world.ask("LRANGE", key, 0, -1))

    def _enter(self) -> UUID:
        execution = uuid4()
        self._world.write(
            "INSERT INTO journey.journey_executions"
            " (id, journey_id, journey_version_id, organization_id, contact_id, status)"
            " VALUES (%(id)s, gen_random_uuid(), gen_random_uuid(), %(organization)s, gen_random_uuid(), 'active')",
            id=execution,
        )
        self._world.write(
            "INSERT INTO mauntic_jobs.outbox (queue, job_id, name, data)"
            " VALUES ('journey:execute-step', %(id)s, 'execute-step', '{}')",
            id=execution,
        )
        return execution

    def _run(self, *words: str) -> None:
        settings = self._world.settings
        assert settings.redis_url
        variables = {
            "REDIS_URL": settings.redis_url.get_secret_value(),
            "MAUNTIC_QUEUE_PREFIX": settings.queue_prefix,
        }
        done = run_program(*words, settings=settings, **variables)
        assert done.returncode == 0, done.stderr


def backlog_again(world: World) -> None:
    """Put the messages of the first campaign on the queue once more: those that were sent are not sent again."""
    (job,) = world.session.rows(
        b"SELECT id FROM delivery.delivery_jobs WHERE recipient_count = %(count)s", {"count": MESSAGES}
    )
    (row,) = world.session.rows(b"SELECT id FROM crm.contacts ORDER BY created_at, id LIMIT 1")
    own = {"jobId": str(job["id"]), "contactId": str(row["id"])}
    world.add(*(world.message(f"d{n:04}", emailAddress=f"ann{n}@example.com", **own) for n in range(MESSAGES)))


def _has_begun(world: World, sink: Sink, before: int) -> bool:
    return len(sink.messages()) > before or not world.jobs_in("wait")


def test_a_storm_loses_and_doubles_nothing(stormy: World, sink: Sink) -> None:
    backlog(stormy, MESSAGES)
    storm = Storm(stormy)
    dice = random.Random(5)
    for _ in range(ROUNDS):
        process, before = start(stormy), len(sink.messages())
        wait_until(partial(_has_begun, stormy, sink, before), "a message")
        time.sleep(dice.uniform(0, 0.5))
        storm.strike()
        time.sleep(dice.uniform(0.2, 0.8))
        process.terminate()
        status, errors = ended(process)
        # Where the queue was empty it may be stopped before it has begun.
        assert status in (0, -signal.SIGTERM), errors
    age(stormy)
    status, errors = ended(start(stormy, "--drain"))
    assert status in (0, 75), errors

    warm = [message for message in sink.messages() if message.recipients[0].startswith("warm")]
    assert len({message.message_id for message in warm}) == ALLOWED
    assert storm.steps_queued() == sorted(str(each) for each in storm.executions)
    # The domain's warm-up is over.
    stormy.write("UPDATE delivery.sending_domains SET created_at = created_at - interval '60 days'")
    time.sleep(0.1)
    deliver_all(stormy)
    states = check(stormy, sink, MESSAGES + WARMING_UP)
    assert states == {"sent": MESSAGES + WARMING_UP}
    assert counted(stormy) == (MESSAGES + WARMING_UP, 0)
