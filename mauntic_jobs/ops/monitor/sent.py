"""Counts of messages sent within the last day, which refused, deferred and bounced messages are compared with."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Limits, Session
from mauntic_jobs.timekeeping.window import Unit

WITHIN = timedelta(hours=1)
_KEPT = timedelta(days=1, hours=1)
# By then a message is sent, or its lease has ended; what was claimed since is counted anew each time.
_SETTLED = timedelta(minutes=5)
_LIMITS = Limits("mauntic-jobs monitor")

_sql = statements("monitor")


class Sender(NamedTuple):
    """Whose messages are counted: those of one provider of an organization on a channel."""

    organization: UUID
    channel: str
    provider: UUID | None


def sent_messages(
    session: Session, organizations: Iterable[UUID], now: datetime, since: datetime | None = None
) -> dict[Sender, int]:
    """Return how many messages each sender of some organizations has sent since a time within the day before `now`.

    That is an hour before, unless `since` says otherwise, and counts whole minutes. Each message is read about five
    times, however often this is called: what was claimed more than five minutes ago is counted once, and kept as the
    figures of its minute.
    """
    since, settled = since or now - WITHIN, _minute(now - _SETTLED)
    with session.transaction(_LIMITS):
        counted_to = session.row(_sql["counted_to"])["counted_to"]
        first = max(counted_to, _minute(now - _KEPT))
        if first < settled:
            session.execute(_sql["count_minutes"], {"first": first, "end": settled})
            session.execute(_sql["forget_minutes"], {"before": _minute(now - _KEPT)})
            session.execute(_sql["counted"], {"end": settled})
        asked = {"organizations": list(organizations), "since": _minute(since), "settled": max(settled, counted_to)}
        rows = session.rows(_sql["sent"], asked)
    return {Sender(row["organization_id"], row["channel"], row["provider_id"]): int(row["messages"]) for row in rows}


def _minute(instant: datetime) -> datetime:
    return Unit.HOUR.floor(instant) + timedelta(minutes=instant.minute)
