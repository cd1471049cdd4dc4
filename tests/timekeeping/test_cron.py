from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given, settings, strategies as st

from mauntic_jobs.job import Job
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.timekeeping.cron import latest_slot
from mauntic_jobs.timekeeping.window import naive
from tests.support import utc

HOURLY, MIDNIGHT, AT_TWO, MONTHLY = "0 * * * *", "0 0 * * *", "0 2 * * *", "0 3 1 * *"
MICROSECOND = timedelta(microseconds=1)
BERLIN_SUMMER = timezone(timedelta(hours=2))


def _matches(cron: str, minute: datetime) -> bool:
    """Tell whether a line of numbers and stars names this minute."""
    fields = (minute.minute, minute.hour, minute.day, minute.month, minute.isoweekday() % 7)
    return all(part in ("*", str(field)) for part, field in zip(cron.split(), fields, strict=True))


def _searched(cron: str, now: datetime) -> datetime:
    """Find the latest slot by looking at one minute of every hour after another; the lines here name minute 0."""
    minute = now.replace(minute=0, second=0, microsecond=0)
    while not _matches(cron, minute):
        minute -= timedelta(hours=1)
    return minute


@pytest.mark.parametrize(
    ("cron", "slot", "before"),
    [
        (HOURLY, "2026-10-05T10:00", "2026-10-05T09:00"),
        (HOURLY, "2026-10-05T00:00", "2026-10-04T23:00"),
        (HOURLY, "2027-01-01T00:00", "2026-12-31T23:00"),
        (HOURLY, "2026-03-29T01:00", "2026-03-29T00:00"),
        (HOURLY, "2026-10-25T02:00", "2026-10-25T01:00"),
        (MIDNIGHT, "2024-03-01T00:00", "2024-02-29T00:00"),
        (AT_TWO, "2025-03-01T02:00", "2025-02-28T02:00"),
        (AT_TWO, "2026-01-01T02:00", "2025-12-31T02:00"),
        (MONTHLY, "2026-10-01T03:00", "2026-09-01T03:00"),
        (MONTHLY, "2026-01-01T03:00", "2025-12-01T03:00"),
        (MONTHLY, "2024-03-01T03:00", "2024-02-01T03:00"),
    ],
)
def test_a_slot_begins_at_its_own_instant_and_not_before(cron: str, slot: str, before: str) -> None:
    assert latest_slot(cron, utc(slot) - MICROSECOND) == utc(before)
    assert latest_slot(cron, utc(slot)) == utc(slot)
    assert latest_slot(cron, utc(slot) + MICROSECOND) == utc(slot)


def test_a_slot_holds_until_the_next_one() -> None:
    assert latest_slot(MONTHLY, utc("2026-10-31T23:59:59.999999")) == utc("2026-10-01T03:00")


@pytest.mark.parametrize("zone", [BERLIN_SUMMER, timezone(timedelta(hours=-11, minutes=-30))])
def test_a_slot_is_in_utc_whatever_the_zone_of_the_question(zone: timezone) -> None:
    slot = latest_slot(AT_TWO, utc("2026-10-05T02:00").astimezone(zone))
    assert (slot, slot.utcoffset()) == (utc("2026-10-05T02:00"), timedelta())


@settings(deadline=None)
@given(
    st.sampled_from([HOURLY, MIDNIGHT, AT_TWO, MONTHLY, "0 6 * * 1"]),
    st.datetimes(naive(utc("1971-01-01")), naive(utc("2100-01-01")), timezones=st.just(UTC)),
)
@example(MONTHLY, utc("2024-02-29T23:59:59.999999"))
@example(HOURLY, utc("2026-10-05T09:59:59.999999"))
def test_the_latest_slot_is_the_one_that_a_search_finds(cron: str, now: datetime) -> None:
    assert latest_slot(cron, now) == _searched(cron, now)


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_every_job_has_a_slot_within_a_month(job: Job[Any]) -> None:
    now = utc("2026-03-31T12:00")
    assert now - latest_slot(job.cron, now) <= timedelta(days=31)
