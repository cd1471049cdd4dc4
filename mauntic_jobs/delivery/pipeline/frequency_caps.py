"""Frequency caps: marketing messages that their contacts do not get, because they have got enough."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple
from uuid import UUID

from mauntic_jobs.aio.batcher import Batcher, rounds
from mauntic_jobs.delivery.payload import Message
from mauntic_jobs.settings.frequency_cap import FrequencyCap
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.async_link import PostgresLink

_sql = statements("frequency_caps")


class _Asked(NamedTuple):
    organization: UUID
    contact: UUID
    delivery: str


class FrequencyCaps:
    """The caps by channel. What is about to be sent is counted in Postgres, for all processes and campaigns."""

    def __init__(self, postgres: PostgresLink, caps: Mapping[str, FrequencyCap]) -> None:
        self._postgres = postgres
        self._caps = caps
        self._asked: dict[str, Batcher[_Asked, bool]] = {
            channel: Batcher(partial(self._count, channel)) for channel in caps
        }

    async def excess(self, message: Message, channel: str) -> str | None:
        """Return why the contact of a message does not get it, or None after it was counted or where nothing counts.

        A message is counted once, however often it is tried. Raises MaunticJobsError.
        """
        cap = self._caps.get(channel)
        if cap is None or message.is_transactional or message.contact_id is None:
            return None
        asked = _Asked(message.organization_id, message.contact_id, message.key)
        if await self._asked[channel].ask(asked):
            return None
        return f"frequency cap: the contact gets at most {cap} by {channel}"

    async def _count(self, channel: str, asked: list[_Asked]) -> Sequence[bool]:
        """Return which of some deliveries are counted."""
        cap = self._caps[channel]
        answers = [False] * len(asked)
        # One statement cannot change a row twice.
        for places in rounds([(each.organization, each.contact) for each in asked]):
            some = [asked[place] for place in places]
            parameters = {
                "channel": channel,
                "organizations": [each.organization for each in some],
                "contacts": [each.contact for each in some],
                "deliveries": [each.delivery for each in some],
                "most": cap.most,
                "period": cap.period,
            }
            rows = await self._postgres.rows(_sql["count"], parameters)
            counted = {(row["organization_id"], row["contact_id"]): row["deliveries"] for row in rows}
            for place, each in zip(places, some, strict=True):
                answers[place] = each.delivery in counted[each.organization, each.contact]
        return answers
