"""Failover: the providers of an organization, tried in their order."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from mauntic_jobs.delivery.render.renderer import ContentError
from mauntic_jobs.delivery.sending.circuit_breaker import CircuitBreaker
from mauntic_jobs.delivery.sending.outcome import Outcome, RejectReason, Verdict
from mauntic_jobs.delivery.sending.providers.base import AnyProvider
from mauntic_jobs.delivery.sending.providers.config import hide
from mauntic_jobs.delivery.sending.redact_reason import without
from mauntic_jobs.redaction.text import scrub
from mauntic_jobs.timekeeping import clock

# A further provider is tried only as long as a claim is fresh.
_MOST_SECONDS = 30.0
_SHORTEST_WAIT_SECONDS = 30.0
# A provider that wants to be asked again within it, or does not say when, is waited for; else the next one is tried.
_SHORT_LIMIT_SECONDS = 10.0
# Where a provider does not say when it wants to be asked again.
_UNSAID_LIMIT_SECONDS = 30.0
# However long a provider says: afterwards it is asked again.
_MIN_LIMIT_SECONDS, _MAX_LIMIT_SECONDS = 0.1, 86_400.0
_LONGEST = 1_000
# What is cut off is looked at too, so that nothing is hidden only in part.
_LOOKED_AT = 4 * _LONGEST


class Failing(NamedTuple):
    """A provider that is left alone for so many more seconds, since it first failed at an instant."""

    seconds: float
    since: datetime


class Throttling(NamedTuple):
    """A refusal for the rate, `is_daily` for the quota of a day, or `is_crowded` for too many connections at once.

    `seconds` is None where the provider names none.
    """

    seconds: float | None
    is_daily: bool = False
    is_crowded: bool = False


@dataclass(frozen=True)
class Sent:
    """What came of it: the last outcome, the provider it is from, and each attempt as the ledger keeps it.

    `wait` is for how many seconds no provider is of use. `throttled` are the providers that refused it for their rate
    or quota, with the seconds for which they ask to be left alone.
    """

    outcome: Outcome
    provider: AnyProvider | None
    attempts: list[dict[str, object]]
    wait: float = 0.0
    throttled: Mapping[UUID, Throttling] = field(default_factory=dict)


# Hears of each exchange: the channel, the provider's type, what came of it, and how long it took.
Observe = Callable[[str, str, Outcome, float], None]


def _unobserved(_channel: str, _provider: str, _outcome: Outcome, _seconds: float) -> None:
    """Count nothing."""


class Sending:
    """Sends over the first provider that works, and leaves alone those that do not."""

    def __init__(self, breaker: CircuitBreaker, observe: Observe = _unobserved) -> None:
        self.breaker = breaker
        self._observe = observe

    def usable(self, organization: UUID, providers: Sequence[AnyProvider]) -> list[AnyProvider]:
        """Return the providers to be tried now."""
        return [each for each in providers if not self.breaker.remaining((organization, each.config.id))]

    def failing(self, organization: UUID, providers: Sequence[AnyProvider]) -> dict[UUID, Failing]:
        """Return the providers to be left alone."""
        found = {}
        for each in providers:
            key = (organization, each.config.id)
            refusal, seconds = self.breaker.refusal(key), self.breaker.remaining(key)
            if refusal is not None and seconds:
                found[each.config.id] = Failing(seconds, refusal.since)
        return found

    def wait(self, organization: UUID, providers: Sequence[AnyProvider]) -> float:
        """Return in how many seconds the first of them may be tried again."""
        waits = [self.breaker.remaining((organization, each.config.id)) for each in providers]
        return max(min(waits, default=0.0), _SHORTEST_WAIT_SECONDS)

    def problem(self, organization: UUID, providers: Sequence[AnyProvider]) -> str:
        """Return why none of them is tried now: the refusal of each, since when, and how often."""
        found = {each.config.name: self.breaker.refusal((organization, each.config.id)) for each in providers}
        known = [f"{name}: {refusal}" for name, refusal in found.items() if refusal is not None]
        return clean("; ".join(["no provider works at present", *known]))

    async def send(self, organization: UUID, channel: str, providers: Sequence[AnyProvider], content: object) -> Sent:
        """Send the content of a channel over the first of the providers that takes it."""
        began = time.monotonic()
        outcome, used = Outcome(Verdict.PROVIDER, "no provider can be used"), None
        attempts: list[dict[str, object]] = []
        throttled: dict[UUID, Throttling] = {}
        for provider in self.usable(organization, providers):
            if attempts and time.monotonic() - began > _MOST_SECONDS:
                break
            used, started, since = provider, clock.now(), time.monotonic()
            outcome = await _outcome(provider, content)
            seconds = time.monotonic() - since
            self._observe(channel, provider.config.type, outcome, seconds)
            attempts.append(
                {
                    "provider": provider.config.name,
                    "started": started.isoformat(),
                    "seconds": round(seconds, 4),
                    "outcome": outcome.verdict,
                    "reason": outcome.reason,
                    **({"blame": outcome.blame} if outcome.blame else {}),
                    **({"queue_id": outcome.queue_id} if outcome.queue_id else {}),
                }
            )
            self._note((organization, provider.config.id), outcome)
            if outcome.verdict is Verdict.RATE_LIMITED:
                asked = outcome.retry_after
                seconds_asked = None if asked is None else min(asked, _MAX_LIMIT_SECONDS)
                throttled[provider.config.id] = Throttling(seconds_asked, outcome.is_daily, outcome.is_crowded)
                if (asked or 0.0) <= _SHORT_LIMIT_SECONDS:
                    break
            elif outcome.verdict is not Verdict.PROVIDER:
                return Sent(outcome, provider, attempts, throttled=throttled)
        waits = [_UNSAID_LIMIT_SECONDS if each.seconds is None else each.seconds for each in throttled.values()]
        wait = min([*waits, self.wait(organization, providers)])
        return Sent(outcome, used, attempts, max(wait, _MIN_LIMIT_SECONDS), throttled)

    def _note(self, key: tuple[UUID, UUID], outcome: Outcome) -> None:
        match outcome.verdict:
            case Verdict.ACCEPTED | Verdict.PERMANENT:
                self.breaker.succeeded(key, clock.now())
            case Verdict.PROVIDER:
                self.breaker.failed(key, outcome.reason, clock.now())
            case _:
                pass


async def _outcome(provider: AnyProvider, content: object) -> Outcome:
    try:
        outcome = await provider.send(content)
    except ContentError as error:
        return Outcome(Verdict.PERMANENT, clean(str(error)), reject=RejectReason.INVALID)
    except Exception as error:  # noqa: BLE001 - a fault of ours, and it is unknown how far the exchange has come
        outcome = Outcome(Verdict.UNKNOWN, f"{type(error).__name__}: {error}")
    if outcome.verdict is Verdict.ACCEPTED:
        queue_id = outcome.queue_id and hide(outcome.queue_id, provider.config.secrets)
        return outcome if queue_id == outcome.queue_id else replace(outcome, queue_id=queue_id)
    return replace(outcome, reason=without(clean(hide(outcome.reason, provider.config.secrets)), content))


def clean(reason: str) -> str:
    """Return a reason without secrets and control characters, fit for the ledger, the queue and the log."""
    reason = scrub("".join(each if each.isprintable() else " " for each in reason[:_LOOKED_AT]))
    return reason if len(reason) <= _LONGEST else reason[: _LONGEST - 1] + "…"
