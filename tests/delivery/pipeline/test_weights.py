"""Weights of organizations in their turns, from the command to the receiver."""

import json
from uuid import uuid4

import pytest

from mauntic_jobs.errors import ExitCode
from tests.delivery.ledger.test_operator_commands import program
from tests.delivery.sink import Sink
from tests.delivery.world import World


def weigh(world: World, weight: float, why: str = "paid plan") -> None:
    command = ("deliveries", "weight", str(weight), "--org", str(world.organization), "--why", why)
    done = program(world, *command)
    assert done.returncode == ExitCode.DONE, done.stderr


def shares(world: World, sink: Sink, count: int) -> int:
    """Deliver 60 messages of two organizations each; return how many of the first ones are this world's own."""
    order: list[str] = []
    sink.behaviour.at_recipient = order.append
    own, other = world.organization, uuid4()
    for name, organization in (("own", own), ("other", other)):
        world.organization = organization
        world.provider(sink.host, sink.port)
        run = uuid4().hex
        fields = [world.message(f"{name}{run}{n}", emailAddress=f"{name}{n}@example.com") for n in range(60)]
        world.add(*fields)
    world.organization = own
    world.deliver(concurrency={"email": 1})
    assert len(order) == 120
    return sum(address.startswith("own") for address in order[:count])


def test_an_organization_of_weight_three_has_three_quarters(world: World, sink: Sink) -> None:
    weigh(world, 3)
    assert 29 <= shares(world, sink, 40) <= 31


def test_a_weight_that_was_removed_weighs_nothing(world: World, sink: Sink) -> None:
    weigh(world, 3)
    weigh(world, 1)
    assert 19 <= shares(world, sink, 40) <= 21


def test_a_weight_is_shown_with_its_reason(world: World) -> None:
    weigh(world, 0.5)
    weigh(world, 2.5, "a larger plan")
    (row,) = json.loads(program(world, "deliveries", "weights", "--org", str(world.organization), "--json").stdout)
    assert (row["organization_id"], row["weight"], row["why"]) == (str(world.organization), 2.5, "a larger plan")
    whose = ("--org", str(world.organization))
    for command in ("weights", "restrictions"):
        shown = program(world, "deliveries", command, *whose, "--wide").stdout
        assert "2.5" in shown
        assert "a larger plan" in shown
    world.add(world.message("d1"), ids=["j1"])
    world.deliver()
    world.add(world.message("d2"), ids=["j2"])
    world.ask("RPOP", f"{world.base}:wait")
    world.ask("HSET", f"{world.base}:adm:lanes", f"1 {world.organization}", 131_073)
    world.ask("ZADD", f"{world.base}:prioritized", -(2**53) + 131_073 * 2**35, "j2")
    explained = json.loads(program(world, "deliveries", "explain", "j2", "--json").stdout)
    assert "of which it has 2.5 for each one of theirs" in explained["because"]


@pytest.mark.parametrize("weight", ["0", "0.05", "11", "nan", "inf"])
def test_a_weight_out_of_bounds_is_refused(world: World, weight: str) -> None:
    command = ("deliveries", "weight", weight, "--org", str(world.organization), "--why", "x")
    done = program(world, *command)
    assert done.returncode == ExitCode.USAGE
    assert "from 0.1 to 10" in done.stderr
