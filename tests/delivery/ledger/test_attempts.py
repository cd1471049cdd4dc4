"""Attempts in the delivery ledger: the first and the last of many, and how many there were."""

import json

import pytest

from tests.delivery.ledger.test_operator_commands import program
from tests.delivery.ledger_calls import claim, record
from tests.delivery.world import World


def try_often(world: World, times: int) -> None:
    """Defer a delivery again and again, with the number of each attempt as its reason."""
    for number in range(1, times + 1):
        attempt = {"provider": "p", "outcome": "temporary", "reason": str(number)}
        record(world, claim(world), "deferred", wait=0, attempts=[attempt])


@pytest.mark.parametrize(
    ("times", "kept", "omitted"),
    [(51, range(1, 52), None), (52, [*range(1, 11), *range(13, 53)], 2), (130, [*range(1, 11), *range(91, 131)], 80)],
)
def test_the_first_and_the_last_attempts_are_kept(
    world: World, times: int, kept: list[int], omitted: int | None
) -> None:
    try_often(world, times)
    (row,) = world.ledger()
    assert [int(each["reason"]) for each in row["attempts"] if "reason" in each] == list(kept)
    assert [each["omitted"] for each in row["attempts"] if "omitted" in each] == ([omitted] if omitted else [])


def test_attempts_that_are_not_kept_are_counted(world: World) -> None:
    try_often(world, 75)
    (row,) = json.loads(program(world, "deliveries", "list", "--json").stdout)
    assert row["attempts"] == 75
    lines = program(world, "deliveries", "show", "d1").stdout.splitlines()
    fields = [line.split("  ")[0].strip() for line in lines if line.strip().startswith("attempt")]
    assert fields == [
        *(f"attempt {n}" for n in range(1, 11)),
        "attempts 11 to 35",
        *(f"attempt {n}" for n in range(36, 76)),
    ]
