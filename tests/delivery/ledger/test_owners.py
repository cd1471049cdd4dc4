"""Owners of claims: a claim that is repeated is known again by it, and no other has the same."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, cast
from uuid import UUID

from mauntic_jobs.delivery.ledger.ledger import Ledger
from mauntic_jobs.delivery.ledger.records import Claim
from mauntic_jobs.delivery.payload import Message
from mauntic_jobs.errors import UnavailableError
from mauntic_jobs.stores.postgres.async_link import PostgresLink
from tests.support import run_on_loop

CLAIMS = 300
GRANTED = {"granted": True, "state": "sending", "fence": 1, "refusal": None, "over": False, "message_id": None}
ANSWER = {
    **GRANTED,
    "possible_duplicate": False,
    "reason": None,
    "held": False,
    "wait_seconds": 1.0,
    "has_payload": False,
}


class Claiming:
    """Takes each claim the second time it is asked, and keeps the owners of both times."""

    def __init__(self) -> None:
        self.first: dict[str, UUID] = {}
        self.second: dict[str, UUID] = {}

    async def json(self, _query: bytes, parameters: Mapping[str, bytes]) -> Any:
        claims = json.loads(parameters["claims"])
        is_new = claims[0]["delivery_id"] not in self.first
        kept = self.first if is_new else self.second
        kept.update({each["delivery_id"]: UUID(each["owner"]) for each in claims})
        if is_new:
            raise UnavailableError("the answer was lost")
        return [{"n": each["n"], **ANSWER} for each in claims]


def test_a_claim_that_is_repeated_keeps_its_owner_and_no_two_have_the_same() -> None:
    links = [Claiming(), Claiming()]

    async def run() -> None:
        message = [Message(organization_id=UUID(int=1), delivery_id=f"d{n}") for n in range(CLAIMS)]
        for link in links:
            ledger = Ledger(cast("PostgresLink", link), cast("PostgresLink", link), record_activity=False)
            await asyncio.gather(*(ledger.claim(Claim(each, "email", "1")) for each in message))

    run_on_loop(run())
    assert all(link.first == link.second for link in links)
    assert len({owner for link in links for owner in link.first.values()}) == 2 * CLAIMS
