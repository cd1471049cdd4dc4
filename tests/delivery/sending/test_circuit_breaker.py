"""Circuit breaker: how long a provider is left alone, and the refusal beside it."""

from datetime import UTC, datetime, timedelta

from mauntic_jobs.delivery.sending.circuit_breaker import CircuitBreaker, Refusal

NOW = datetime(2026, 11, 26, 11, 42, tzinfo=UTC)


def test_a_provider_that_is_left_alone_has_the_refusal_beside_it() -> None:
    now = 0.0
    breaker = CircuitBreaker(lambda: now)
    for minute in range(5):
        assert breaker.refusal("p") is None
        breaker.failed("p", f"535 no {minute}", NOW + timedelta(minutes=minute))
    assert str(breaker.refusal("p")) == "535 no 4 (since 2026-11-26 11:42 UTC, 5 tries)"
    breaker.close("p")
    assert (breaker.refusal("p"), breaker.opened()) == (None, {})


def test_a_provider_is_left_alone_after_five_failures_and_each_time_for_longer() -> None:
    now = 0.0
    breaker = CircuitBreaker(lambda: now)
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
    breaker.succeeded("p", NOW)
    breaker.failed("p", "535 no", NOW)
    assert breaker.remaining("p") == 0


def test_what_works_here_is_not_left_alone_for_another_host() -> None:
    breaker = CircuitBreaker(lambda: 0.0)
    breaker.succeeded("p", NOW)
    breaker.adopt("p", Refusal("421 busy", NOW - timedelta(seconds=1), 5), 30.0)
    assert breaker.remaining("p") == 0
    breaker.adopt("p", Refusal("421 busy", NOW + timedelta(seconds=1), 5), 30.0)
    assert breaker.remaining("p") == 30
