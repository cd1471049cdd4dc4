"""Why a delivery is where it is, in a sentence, for each place where it can be."""

import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

from mauntic_jobs.errors import ExitCode
from mauntic_jobs.job import Row
from tests.delivery.ledger.test_operator_commands import program
from tests.delivery.sink import Sink
from tests.delivery.world import World

SOON = timedelta(seconds=1)


def explained(world: World, name: str, *arguments: str) -> Row:
    done = program(world, "deliveries", "explain", name, *arguments, "--json")
    assert done.returncode == ExitCode.DONE, done.stderr
    found: Row = json.loads(done.stdout)
    return found


def refused(world: World, name: str, *arguments: str) -> str:
    done = program(world, "deliveries", "explain", name, *arguments)
    assert done.returncode == ExitCode.USAGE
    return done.stderr


def test_one_that_no_process_has_seen(world: World) -> None:
    world.add(world.message("d1"), world.message("d2"), ids=["j1", "j2"])
    found = explained(world, world.key("d2"))
    assert (found["state"], found["queue_job"], found["organization"]) == ("waiting", "j2", str(world.organization))
    assert "does one run?" in found["because"]
    assert found["command"] == "mauntic-jobs deliver email"
    assert explained(world, "j1")["state"] == "waiting"


def limited(world: World, sink: Sink, **config: Any) -> None:
    """Deliver one of several messages over a provider that takes one in an hour."""
    world.provider(sink.host, sink.port, rateLimit=1, rateDelta=3_600_000, **config)
    world.add(*(world.message(f"d{n}") for n in range(4)), ids=[f"j{n}" for n in range(4)])
    world.deliver(drain_timeout=SOON)


def test_one_that_waits_for_the_rate_of_its_provider(world: World, sink: Sink) -> None:
    limited(world, sink)
    last = explained(world, world.key("d3"))
    assert (last["state"], last["before"]) == ("held", 2)
    assert "takes 0.000275/s (configured); 2 messages of its organization before it, about 2h" in last["because"]
    assert last["command"] == f"mauntic-jobs providers limits --org {world.organization}"
    assert explained(world, "j1")["before"] == 0


def test_one_that_is_paused(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    pause = ("deliveries", "pause", "--org", str(world.organization), "--until", "2099-01-01", "--why", "bad list")
    assert program(world, *pause).returncode == ExitCode.DONE
    world.add(world.message("d1"), world.message("d2"), ids=["j1", "j2"])
    world.deliver(drain_timeout=SOON)
    found = explained(world, world.key("d2"))
    assert (found["state"], found["before"], found["until"]) == ("held", 1, "2099-01-01T00:00:00+00:00")
    assert found["because"].startswith("paused until 2099-01-01 00:00 UTC (all messages of organization ")
    assert found["because"].endswith(": bad list; 1 message of its organization before it")
    assert found["command"].startswith("mauntic-jobs deliveries resume ")
    shown = program(world, "deliveries", "explain", world.key("d2")).stdout
    assert "bad list" in shown


def test_one_that_the_platform_holds(world: World) -> None:
    world.add(world.message("d1"))
    world.ask("HSET", f"{world.base}:meta", "paused", 1)
    assert "the platform has paused the queue" in explained(world, world.key("d1"))["because"]


def test_one_that_is_tried_again_later(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    world.add(world.message("d1", emailAddress="defer-451@example.com"))
    world.deliver(drain_timeout=SOON)
    found = explained(world, world.key("d1"))
    assert (found["state"], found["until"] is None) == ("delayed", False)
    assert "451 4.3.0 try again later" in found["because"]
    assert "example.com" not in found["because"]


def test_one_that_waits_for_the_next_day_of_its_domain(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    domain = "delivery.sending_domains"
    world.write(
        f"INSERT INTO {domain} (organization_id, domain, created_at)"
        " VALUES (%(organization)s, 'acme.test', clock_timestamp() AT TIME ZONE 'UTC')"
    )
    world.add(*(world.message(f"d{n}") for n in range(53)))
    world.deliver(drain_timeout=SOON)
    waiting = [name for name, state in world.states().items() if state == "deferred"]
    assert len(waiting) == 3
    found = explained(world, world.key(waiting[0]))
    assert found["state"] == "held"
    assert found["because"].startswith("warm-up of acme.test: 50 of 50 messages today, until ")
    assert found["because"].endswith(" UTC; 3 messages of it wait")
    assert found["command"] == f"mauntic-jobs deliveries warm-up --org {world.organization} --domain acme.test"
    world.write(f"DELETE FROM {domain} WHERE organization_id = %(organization)s")
    assert "acme.test is not warmed up any more" in explained(world, world.key(waiting[0]))["because"]


def test_one_that_has_ended(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    world.add(world.message("sent"), world.message("failed", emailAddress="reject-550@example.com"))
    world.add({**world.message(), "organizationId": "not a uuid"}, ids=["broken"])
    world.deliver()
    sent, failed = explained(world, world.key("sent")), explained(world, world.key("failed"))
    assert (sent["state"], failed["state"]) == ("sent", "failed")
    assert "sent over" in sent["because"]
    assert "550 5.1.1" in failed["because"]
    dead = explained(world, "broken")
    assert (dead["state"], dead["organization"]) == ("dead letter", None)


def test_one_whose_job_is_lost(world: World) -> None:
    world.add(world.message("d1"), ids=["j1"])
    world.deliver(drain_timeout=SOON)
    world.ask("DEL", f"{world.base}:j1")
    found = explained(world, world.key("d1"))
    assert "no job asks for it" in found["because"]
    assert found["command"] == "mauntic-jobs deliveries reconcile"


def test_one_of_two_organizations_and_one_that_is_not_known(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    world.add(world.message("d1"), world.message("d1", organizationId=str(other := uuid4())))
    world.deliver(drain_timeout=SOON)
    assert "say which with --org" in refused(world, world.key("d1"))
    assert explained(world, world.key("d1"), "--org", str(other))["organization"] == str(other)
    assert "Neither the ledger nor a queue knows" in refused(world, "d2")
    world.add(world.message("d3"))
    assert "Neither the ledger nor a queue knows" in refused(world, world.key("d3"), "--org", str(other))
