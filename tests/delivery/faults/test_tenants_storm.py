"""Kills and wrong clocks while tenants get in each other's way: each one's messages and counts add up by themselves.

The tenants share a queue and use the same delivery ids. One names the campaign of another, one has campaign ids of 200
characters, and of one Postgres refuses what it records. `scripts/chaos` runs the same with more rounds.
"""

import os
import random
import resource
import signal
import time
from collections import Counter
from collections.abc import Iterator
from copy import copy
from functools import partial
from subprocess import Popen
from typing import Any
from uuid import UUID, uuid4

import pytest

from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.settings.settings import Settings
from tests.delivery.crash import age, deliver_all, ended, start
from tests.delivery.ledger.test_operator_commands import program
from tests.delivery.sink import Sink
from tests.delivery.world import World, new_world
from tests.support import wait_until

ROUNDS = 5 + int(os.environ.get("CHAOS", "1"))
MESSAGES = 60
FOREIGN = 10
DESCRIPTORS = 256
_REFUSE = """
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN RAISE EXCEPTION 'refused by policy'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON delivery.delivery_events FOR EACH ROW
WHEN (NEW.contact_id = '{contact}') EXECUTE FUNCTION public.refuse()
"""


class Tenant:
    """One of the organizations, with a campaign and the addresses that it writes to."""

    def __init__(self, shared: World, sink: Sink, name: str, **fields: Any) -> None:
        self.world = copy(shared)
        self.world.organization = uuid4()
        self.world.provider(sink.host, sink.port)
        self.contact = self.world.contact()
        self.name = name
        self.counted = MESSAGES - (FOREIGN if "jobId" in fields else 0)
        self.campaign = self.world.campaign(self.counted)
        own = {"jobId": str(self.campaign), "contactId": str(self.contact)}
        self.messages = [
            self.world.message(
                f"d{n:04}", emailAddress=f"{name}{n}@example.com", **{**own, **(fields if n < FOREIGN else {})}
            )
            for n in range(MESSAGES)
        ]

    def received(self, sink: Sink) -> Counter[str]:
        """Return how often each address got its message."""
        recipients = [message.recipients[0] for message in sink.messages()]
        return Counter(each for each in recipients if each.startswith(self.name))

    def check(self, sink: Sink) -> None:
        """Check that each message came to its recipient, and is counted once and for this tenant."""
        received = self.received(sink)
        assert len(received) == MESSAGES
        rows = self.world.session.rows(
            b"SELECT * FROM mauntic_jobs.deliveries WHERE organization_id = %(organization)s",
            {"organization": self.world.organization},
        )
        named = {row["address"] for row in rows if row["possible_duplicate"]}
        assert {address for address, count in received.items() if count > 1} <= named
        assert Counter(row["state"] for row in rows) == {"sent": MESSAGES}
        assert [row for row in rows if row["unrecorded"]] == []
        job = self.world.session.row(
            b"SELECT sent_count, failed_count, status FROM delivery.delivery_jobs WHERE id = %(id)s",
            {"id": self.campaign},
        )
        assert job == {"sent_count": self.counted, "failed_count": 0, "status": "sent"}


@pytest.fixture
def shared(direct_settings: Settings, servers: Servers) -> Iterator[World]:
    with new_world(direct_settings, servers.redis_url) as world:
        yield world


def _started(world: World, dice: random.Random) -> "Popen[str]":
    """Start a process, of whatever shape comes up."""
    process = start(world, *dice.choice([(), ("--processes=2",)]))
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    return process


def _has_begun(world: World, sink: Sink, before: int) -> bool:
    return len(sink.messages()) > before or not world.jobs_in("wait")


def _with_a_wrong_clock(world: World, sink: Sink, hours: float) -> None:
    """Let a process run whose clock is hours off: it says so, and takes nothing."""
    before = len(sink.messages())
    process = start(world, CLOCK_HOURS=str(hours))
    assert process.stderr
    assert any("ahead of" in line or "behind" in line for line in process.stderr)
    process.terminate()
    status, errors = ended(process)
    assert status in (0, -signal.SIGTERM), errors
    assert len(sink.messages()) == before


def test_what_befalls_one_tenant_befalls_no_other(shared: World, sink: Sink) -> None:
    first = Tenant(shared, sink, "ann")
    tenants = [
        first,
        Tenant(shared, sink, "bob", jobId=str(first.campaign)),
        Tenant(shared, sink, "cleo", campaignId="c" * 200),
        Tenant(shared, sink, "dan"),
    ]
    refused: UUID = tenants[3].contact
    shared.session.execute(_REFUSE.format(contact=refused).encode())
    dice = random.Random(7)
    queued = [message for tenant in tenants for message in tenant.messages]
    dice.shuffle(queued)
    shared.add(*queued)
    for number in range(ROUNDS):
        if number % 3 == 2:
            _with_a_wrong_clock(shared, sink, dice.choice([-3, 3, 72]))
        process, before = _started(shared, dice), len(sink.messages())
        wait_until(partial(_has_begun, shared, sink, before), "a message")
        time.sleep(dice.uniform(0, 0.3))
        process.send_signal(dice.choice([signal.SIGKILL, signal.SIGTERM]))
        ended(process)
        age(shared)
    deliver_all(shared)
    shared.session.execute(b"DROP TRIGGER refuse ON delivery.delivery_events")
    assert program(shared, "deliveries", "reconcile").returncode == 0
    for tenant in tenants:
        tenant.check(sink)
