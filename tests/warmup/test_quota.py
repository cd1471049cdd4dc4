"""Daily limits of a domain that is being warmed up."""

from datetime import UTC, datetime, timedelta

import pytest

from mauntic_jobs.warmup.quota import daily_limit

CREATED = datetime(2026, 10, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("age", "limit"),
    [
        (timedelta(0), 50),
        (timedelta(days=1), 50),
        (timedelta(days=1, seconds=1), 100),
        (timedelta(days=3), 250),
        (timedelta(days=5, hours=1), 1_750),
        (timedelta(days=29, hours=23), 50_000),
        (timedelta(days=10, hours=12), 6_250),
        (timedelta(days=30), 50_000),
        (timedelta(days=30, microseconds=1), None),
        (timedelta(days=-1), 50),
    ],
)
def test_the_warm_ups_limit_follows_the_platforms_table(age: timedelta, limit: int | None) -> None:
    assert daily_limit(CREATED, CREATED + age) == limit
