"""Trying the providers of an organization, one after the other."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from mauntic_jobs import clock
from mauntic_jobs.delivery.breaker import Breaker
from mauntic_jobs.delivery.mime import HeaderError
from mauntic_jobs.delivery.outcome import Outcome, Verdict
from mauntic_jobs.delivery.providers.provider import Provider
from mauntic_jobs.telemetry.scrub import scrub

# A further provider is tried only as long as a claim is fresh.
_MOST_SECONDS = 30.0
_SHORTEST_WAIT_SECONDS = 30.0


@dataclass(frozen=True)
class Sent:
    """What came of it: the last outcome, the provider it is from, and each attempt as the ledger keeps it.

    `wait` is for how many seconds no provider is of use.
    """

    outcome: Outcome
    provider: Provider | None
    attempts: list[dict[str, Any]]
    wait: float = 0.0


class Sending:
    """Sends over the first provider that works, and leaves alone those that do not."""

    def __init__(self, breaker: Breaker) -> None:
        self.breaker = breaker

    def usable(self, organization: UUID, providers: Sequence[Provider]) -> list[Provider]:
        """Return the providers that are not being left alone."""
        return [each for each in providers if not self.breaker.remaining((organization, each.config.id))]

    def wait(self, organization: UUID, providers: Sequence[Provider]) -> float:
        """Return in how many seconds the first of them may be tried again."""
        waits = [self.breaker.remaining((organization, each.config.id)) for each in providers]
        return max(min(waits, default=0.0), _SHORTEST_WAIT_SECONDS)

    async def send(self, organization: UUID, providers: Sequence[Provider], content: Any) -> Sent:
        """Send the content over the first of the providers that takes it."""
        began = time.monotonic()
        outcome, used = Outcome(Verdict.PROVIDER, "no provider can be used"), None
        attempts: list[dict[str, Any]] = []
        for provider in self.usable(organization, providers):
            if attempts and time.monotonic() - began > _MOST_SECONDS:
                break
            used, started, since = provider, clock.now(), time.monotonic()
            outcome = await _outcome(provider, content)
            attempts.append(
                {
                    "provider": provider.config.name,
                    "started": started.isoformat(),
                    "seconds": round(time.monotonic() - since, 4),
                    "outcome": outcome.verdict,
                    "reason": outcome.reason,
                }
            )
            if outcome.verdict is not Verdict.PROVIDER:
                self._note(organization, provider, outcome)
                return Sent(outcome, provider, attempts)
            self.breaker.failed((organization, provider.config.id))
        return Sent(outcome, used, attempts, self.wait(organization, providers))

    def _note(self, organization: UUID, provider: Provider, outcome: Outcome) -> None:
        if outcome.verdict in (Verdict.ACCEPTED, Verdict.PERMANENT):
            self.breaker.succeeded((organization, provider.config.id))


async def _outcome(provider: Provider, content: Any) -> Outcome:
    try:
        outcome = await provider.send(content)
    except HeaderError as error:
        return Outcome(Verdict.PERMANENT, str(error))
    if outcome.verdict is Verdict.ACCEPTED:
        return outcome
    return Outcome(outcome.verdict, clean(outcome.reason), outcome.provider_message_id, outcome.hard_bounce)


def clean(reason: str) -> str:
    """Return a reason without secrets and control characters, fit for the ledger, the queue and the log."""
    return scrub("".join(each if each.isprintable() else " " for each in reason[:1000]))
