"""Release of messages that wait for a provider which was paused and works again."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from mauntic_jobs.delivery.admission.lanes import script_keys
from mauntic_jobs.delivery.ledger.waits import PATTERNS
from mauntic_jobs.delivery.queues import base_of
from mauntic_jobs.delivery.sending.pauses import LOOK_SECONDS
from mauntic_jobs.job import Row
from mauntic_jobs.lua import script
from mauntic_jobs.ops.providers.list import ConfiguredProvider
from mauntic_jobs.ops.rate_limit import Pace
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.bullmq import commands as scripts
from mauntic_jobs.stores.bullmq.enqueue import official_script
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.stores.redis.client import RedisScripts

_sql = statements("pauses")
_ledger_sql = statements("deliveries")


@dataclass(frozen=True)
class Released:
    """What was released: messages by the provider they wait for, and the providers that were paused again meanwhile."""

    messages: dict[UUID, int]
    paused_again: tuple[UUID, ...]

    @property
    def total(self) -> int:
        """The number of messages."""
        return sum(self.messages.values())


def release(
    session: Session,
    redis: RedisScripts,
    settings: Settings,
    providers: Sequence[ConfiguredProvider],
    pace: Pace,
    now: datetime,
    sleep: Callable[[float], None] = time.sleep,
) -> Released:
    """Close the circuit breakers of providers in every process, and let what waits for them be sent, at a pace.

    Of a provider that is paused again meanwhile, the rest goes on waiting. Doubles nothing: the ledger decides.
    """
    for provider in providers:
        session.rows(_sql["end"], _names(provider))
    if providers:
        # Processes that do not know of it yet would leave it alone again.
        sleep(2 * LOOK_SECONDS)
        _use_again(redis, settings, providers)
    messages, again = {}, []
    for provider in providers:
        messages[provider.id] = 0
        for page in _waiting(session, provider, pace.portion, now):
            paused = {(row["organization_id"], row["provider_id"]) for row in session.rows(_sql["list"])}
            if (provider.organization, provider.id) in paused:
                again.append(provider.id)
                break
            pace.wait(len(page))
            messages[provider.id] += _release(session, redis, settings, provider, page)
    return Released(messages, tuple(again))


def _use_again(redis: RedisScripts, settings: Settings, providers: Sequence[ConfiguredProvider]) -> None:
    """Have turns given over the providers again, though no process of `deliver` runs that would see to it."""
    calls: list[tuple[Sequence[str], Sequence[str | int]]] = []
    for provider in providers:
        base = base_of(settings, provider.channel)
        keys = script_keys(base, f"adm:limit:{provider.id}")
        calls.append((keys, [str(provider.id), 0, 0, "", "", f"{base}:"]))
    redis.run(script("admission") + script("admission_provider"), calls)


def _waiting(session: Session, provider: ConfiguredProvider, page: int, before: datetime) -> Iterator[list[Row]]:
    whose = {"organization": provider.organization, "channel": provider.channel}
    asked = {**whose, "page": page, "before": before, "waits": PATTERNS}
    after, delivery = datetime(1970, 1, 1, tzinfo=UTC), ""
    while rows := session.rows(_ledger_sql["waiting"], {**asked, "after": after, "delivery": delivery}):
        yield rows
        after, delivery = rows[-1]["until"], rows[-1]["delivery_id"]


def _release(
    session: Session, redis: RedisScripts, settings: Settings, provider: ConfiguredProvider, page: Sequence[Row]
) -> int:
    names = {"deliveries": [row["delivery_id"] for row in page], "fences": [row["fence"] for row in page]}
    with session.transaction():
        rows = session.rows(_ledger_sql["release"], {"organization": provider.organization, **names})
    base = base_of(settings, provider.channel)
    calls = [scripts.promote(base, row["queue_job"]) for row in rows]
    # A job that is not delayed is on its way already, or `reconcile` finds that the message is owed.
    redis.run(official_script(scripts.PROMOTE), [(call.keys, call.arguments) for call in calls])
    return len(rows)


def _names(provider: ConfiguredProvider) -> dict[str, UUID]:
    return {"organization": provider.organization, "provider": provider.id}
