"""Quiet hours by the recipient's local time: over midnight, and when clocks are changed."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from mauntic_jobs.settings.quiet_hours import QuietHours
from mauntic_jobs.settings.settings import Settings

NEW_YORK = "America/New_York"


def end_of(text: str, zone: str, now: str) -> str | None:
    end = QuietHours.read(text).end_after(datetime.fromisoformat(now).replace(tzinfo=UTC), ZoneInfo(zone))
    return None if end is None else f"{end:%Y-%m-%dT%H:%M}"


@pytest.mark.parametrize(
    ("text", "zone", "now", "end"),
    [
        # Over midnight: before it, after it, at both ends.
        ("21:00-08:00", "UTC", "2026-11-27T22:30", "2026-11-28T08:00"),
        ("21:00-08:00", "UTC", "2026-11-28T00:00", "2026-11-28T08:00"),
        ("21:00-08:00", "UTC", "2026-11-28T07:59:59", "2026-11-28T08:00"),
        ("21:00-08:00", "UTC", "2026-11-28T08:00", None),
        ("21:00-08:00", "UTC", "2026-11-28T20:59:59", None),
        ("21:00-08:00", "UTC", "2026-11-28T21:00", "2026-11-29T08:00"),
        # Within a day, and to its end.
        ("12:00-14:00", "UTC", "2026-11-27T13:00", "2026-11-27T14:00"),
        ("12:00-14:00", "UTC", "2026-11-27T14:00", None),
        ("12:00-14:00", "UTC", "2026-11-27T11:59", None),
        ("20:00-00:00", "UTC", "2026-11-27T23:00", "2026-11-28T00:00"),
        # A campaign at 22:00 in New York: there it waits, in Los Angeles it is 19:00.
        ("us", NEW_YORK, "2026-11-28T03:00", "2026-11-28T13:00"),
        ("us", "America/Los_Angeles", "2026-11-28T03:00", None),
        # Another day there than in UTC.
        ("us", "Pacific/Auckland", "2026-11-27T09:00", "2026-11-27T19:00"),
        ("us", "Asia/Kathmandu", "2026-11-27T20:00", "2026-11-28T02:15"),
        # In summer time it is an hour earlier by UTC, and in the nights of the change the end is by the new time.
        ("us", NEW_YORK, "2026-07-28T02:00", "2026-07-28T12:00"),
        ("us", NEW_YORK, "2026-03-08T03:00", "2026-03-08T12:00"),
        ("us", NEW_YORK, "2026-11-01T02:00", "2026-11-01T13:00"),
        # The end is in the hour that is skipped: 02:30 does not exist, and is 03:30.
        ("22:00-02:30", NEW_YORK, "2026-03-08T04:00", "2026-03-08T07:30"),
        # The end is in the hour that comes twice: the first counts, and in the second it is quiet once more.
        ("22:00-01:30", NEW_YORK, "2026-11-01T04:00", "2026-11-01T05:30"),
    ],
)
def test_the_end_of_quiet_hours(text: str, zone: str, now: str, end: str | None) -> None:
    assert end_of(text, zone, now) == end


def test_the_end_is_never_past() -> None:
    """Whatever the minute: no message is asked for in a loop."""
    hours = QuietHours.read("22:00-01:30")
    for zone in (NEW_YORK, "Australia/Lord_Howe", "Europe/Berlin"):
        for minute in range(0, 3 * 24 * 60, 7):
            for first in (datetime(2026, 10, 31, tzinfo=UTC), datetime(2026, 3, 7, tzinfo=UTC)):
                now = datetime.fromtimestamp(first.timestamp() + 60 * minute, UTC)
                end = hours.end_after(now, ZoneInfo(zone))
                assert end is None or now < end <= datetime.fromtimestamp(now.timestamp() + 5 * 3600, UTC)


@pytest.mark.parametrize("text", ["", "21-8", "24:00-08:00", "08:00-08:00", "9:00-10:00", "eu", "21:00-08:60"])
def test_what_is_no_such_time_is_refused_with_what_it_must_be(text: str) -> None:
    with pytest.raises(ValueError, match=r"two times of a day, like 21:00-08:00, or one of: us"):
        Settings(channels={"sms": {"quiet_hours": text}})


def test_they_are_written_as_they_are_read() -> None:
    assert [str(QuietHours.read(each)) for each in ("us", "22:15-06:05")] == ["21:00-08:00", "22:15-06:05"]
