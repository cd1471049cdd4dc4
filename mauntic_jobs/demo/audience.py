"""Sample contacts, segments, journeys under way, and sending domains that warm up."""

from contextlib import closing
from datetime import datetime, timedelta

from mauntic_jobs.job import Row
from mauntic_jobs.lua import script
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Limits, Session
from mauntic_jobs.stores.redis.client import open_redis
from mauntic_jobs.timekeeping.window import Unit, naive
from mauntic_jobs.warmup.keys import dates, keys

# In this order: each is made of what those before it added.
_ADDED = (
    "contacts",
    "segments",
    "members",
    "journeys",
    "versions",
    "steps",
    "connections",
    "triggers",
    "executions",
)
_SENT_YESTERDAY, _SENT_TODAY = 180, 12

_sql = statements("demo_audience")


def load_audience(session: Session, settings: Settings, now: datetime) -> dict[str, int]:
    """Add it to a database that holds the sample's events, and to Redis; return how many rows of what there are now.

    Each domain that warms up has sent messages yesterday, and a few since midnight, and was not reset yet.
    """
    today = Unit.DAY.floor(now)
    times = {"now": naive(now), "today": naive(today)}
    with session.transaction(Limits(statement_timeout=timedelta(minutes=5))):
        added = {name: session.execute(_sql[name], times) for name in _ADDED}
        domains = session.rows(_sql["domains"], times)
    _send(settings, today - timedelta(days=1), domains, _SENT_YESTERDAY)
    _send(settings, today, domains, _SENT_TODAY)
    return {**added, "domains": len(domains)}


def _send(settings: Settings, day: datetime, domains: list[Row], messages: int) -> None:
    calls = [
        (keys(row["organization_id"], row["domain"]), (*dates(day.date()), messages + number))
        for number, row in enumerate(domains)
    ]
    with closing(open_redis(settings)) as redis:
        redis.run(script("warmup_count"), calls)
