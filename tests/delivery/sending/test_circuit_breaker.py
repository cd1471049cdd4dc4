"""Circuit breaker: how long a provider is left alone, and the refusal beside it."""

import math
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from mauntic_jobs.delivery.sending.circuit_breaker import Breaker
from mauntic_jobs.delivery.sending.failover import Sending
from mauntic_jobs.delivery.sending.outcome import Outcome, Verdict

NOW = datetime(2026, 11, 26, 11, 42, tzinfo=UTC)


@pytest.mark.parametrize(
    ("said", "kept"),
    [(None, 30.0), (0.0, 0.1), (7.0, 7.0), (86_400.0, 86_400.0), (1e15, 86_400.0), (math.inf, 86_400.0)],
)
def test_a_provider_is_left_alone_for_a_day_at_most(said: float | None, kept: float) -> None:
    sending = Sending(Breaker())
    provider = (UUID(int=1), UUID(int=2))
    assert sending._note(provider, Outcome(Verdict.RATE_LIMITED, "429", retry_after=said)) == kept
    assert 0 < sending.breaker.limit(provider) <= kept


def test_a_provider_that_is_left_alone_has_the_refusal_beside_it() -> None:
    now = 0.0
    breaker = Breaker(lambda: now)
    for minute in range(5):
        assert breaker.refusal("p") is None
        breaker.failed("p", f"535 no {minute}", NOW + timedelta(minutes=minute))
    assert str(breaker.refusal("p")) == "535 no 4 (since 2026-11-26 11:42 UTC, 5 tries)"
    breaker.limited("q", 20, "429 later", NOW)
    assert str(breaker.refusal("q")) == "429 later (since 2026-11-26 11:42 UTC, 1 try)"
    now = 21
    assert breaker.refusal("q") is None
    breaker.close("p")
    assert (breaker.refusal("p"), breaker.opened()) == (None, {})


def test_a_provider_is_left_alone_after_five_failures_and_each_time_for_longer() -> None:
    now = 0.0
    breaker = Breaker(lambda: now)
    for _ in range(4):
        breaker.failed("p", "535 no", NOW)
    assert breaker.remaining("p") == 0
    breaker.failed("p", "535 no", NOW)
    assert breaker.remaining("p") == 30
    breaker.failed("p", "535 no", NOW)
    assert breaker.remaining("p") == 30, "failures that were under way do not count"
    now = 31
    breaker.failed("p", "535 no", NOW)
    assert breaker.remaining("p") == 60
    now = 100
    breaker.succeeded("p")
    breaker.failed("p", "535 no", NOW)
    assert breaker.remaining("p") == 0
