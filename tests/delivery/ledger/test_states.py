"""States of a delivery: every event in every state, as docs/delivery.md lists and draws them."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from mauntic_jobs.delivery.ledger.records import State
from mauntic_jobs.sql import statements
from tests.delivery.ledger_calls import RESEND_AFTER, SWEEP, claim, record
from tests.delivery.world import World

_PAGE = (Path(__file__).parents[3] / "docs/delivery.md").read_text("utf-8")
_CELLS = [
    [cell.strip(" `") for cell in line.strip("|").split("|")]
    for line in re.search(r"^\| state \| claim .*\n\|[-|]+\n((?:\|.*\n)+)", _PAGE, re.MULTILINE)[0].splitlines()  # type: ignore[index]
]
_EVENTS = _CELLS[0][1:]
# From state and event to the state afterwards; an empty cell leaves a state as it is.
_TABLE = {(row[0], event): cell or row[0] for row in _CELLS[2:] for event, cell in zip(_EVENTS, row[1:], strict=True)}
_sql = statements("deliveries")


def _result(state: str) -> Callable[[World, str, dict[str, Any]], None]:
    def event(world: World, name: str, row: dict[str, Any]) -> None:
        record(world, row, state, name)

    return event


def _claim(*, ready: bool) -> Callable[[World, str, dict[str, Any]], None]:
    def event(world: World, name: str, _row: dict[str, Any]) -> None:
        claim(world, name, ready=ready, payload=None)

    return event


def _lease_ends(world: World, name: str, _row: dict[str, Any]) -> None:
    world.write(
        "UPDATE mauntic_jobs.deliveries SET until = clock_timestamp() - interval '1 second'"
        " WHERE delivery_id = %(name)s AND state = 'sending'",
        name=name,
    )
    world.session.rows(_sql["end_leases"], {**SWEEP, "resend_after": RESEND_AFTER, "most": 10})


def _foreign_death(world: World, name: str, _row: dict[str, Any]) -> None:
    parameters = {"channel": "email", "job": None, "contact": None, "campaign": None, "queue_job": "j1"}
    since = world.session.row(b"SELECT clock_timestamp() AS now")["now"]
    key = {"organization": world.organization, "delivery": name, "owner": uuid4(), "since": since}
    world.session.execute(_sql["doubt"], {**parameters, **key, "resend_after": RESEND_AFTER})


def _resend(world: World, name: str, row: dict[str, Any]) -> None:
    key = {"organization": world.organization, "delivery": name, "fence": row["fence"]}
    world.session.execute(_sql["resend"], {**key, "queue_job": "j2", "counted": False})


_ACTIONS: dict[str, Callable[[World, str, dict[str, Any]], None]] = {
    "claim to send": _claim(ready=True),
    "claim to close": _claim(ready=False),
    "accepted": _result("sent"),
    "refused for good": _result("failed"),
    "must not get it": _result("suppressed"),
    "too old": _result("expired"),
    "wait": _result("deferred"),
    "retry": _result("claimed"),
    "no answer": _result("ambiguous"),
    "lease ends": _lease_ends,
    "another program's worker dies": _foreign_death,
    "operator sends again": _resend,
}


def _stand(world: World, name: str, state: str) -> dict[str, Any]:
    """Bring a delivery into a state in which its time has come, and return its fence."""
    if state == "new":
        return {"fence": 1}
    claim(world, name, payload=None)
    world.write(
        "UPDATE mauntic_jobs.deliveries SET state = %(state)s, until = CASE WHEN %(state)s = 'sending' THEN until"
        " WHEN %(state)s IN ('deferred', 'ambiguous') THEN clock_timestamp() - interval '1 second' END"
        " WHERE delivery_id = %(name)s",
        state=state,
        name=name,
    )
    return {"fence": 1}


@pytest.mark.parametrize("event", _ACTIONS)
def test_an_event_leads_from_each_state_where_the_page_says(world: World, event: str) -> None:
    found = {}
    for state in ("new", *State):
        name = f"{state}-d1"
        _ACTIONS[event](world, name, _stand(world, name, state))
        rows = [row["state"] for row in world.ledger() if row["delivery_id"] == name]
        found[state] = rows[0] if rows else "new"
    assert found == {state: _TABLE[state, event] for state in found}


def test_the_page_lists_every_state_and_event() -> None:
    assert list(_ACTIONS) == _EVENTS
    assert {state for state, _ in _TABLE} == {"new", *State}


def test_the_picture_shows_the_table() -> None:
    picture = re.search(r"```mermaid\nstateDiagram-v2\n(.*?)```", _PAGE, re.DOTALL)[1]  # type: ignore[index]
    drawn = {tuple(edge) for edge in re.findall(r"^ *(\S+) --> (\w+)", picture, re.MULTILINE)}
    changes = {(before, after) for (before, _), after in _TABLE.items() if before != after}
    assert drawn == {("[*]" if before == "new" else before, after) for before, after in changes}
