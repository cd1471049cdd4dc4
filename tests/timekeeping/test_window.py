from calendar import monthrange
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given, settings, strategies as st

from mauntic_jobs.errors import UsageError
from mauntic_jobs.timekeeping.window import (
    Unit,
    Window,
    format_duration,
    naive,
    parse_date,
    parse_duration,
    parse_last,
    parse_window,
)
from tests.support import day, utc

NOW = utc("2026-10-05T14:37:21.5")
MICROSECOND = timedelta(microseconds=1)
HUGE = "9" * 400

# A shared machine may be slow for a moment.
at_leisure = settings(deadline=None)
instants = st.datetimes(naive(utc("1970-01-02")), naive(utc("9999-01-01")), timezones=st.just(UTC))
units = st.sampled_from(Unit)


@st.composite
def windows(draw: st.DrawFn) -> Window:
    start = draw(instants)
    length = draw(st.timedeltas(MICROSECOND, timedelta(days=70)))
    return Window(start, start + length)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2026-10-01/2026-10-02", "2026-10-01T00:00", "2026-10-02T00:00"),
        ("2026-10-01T09:00/2026-10-01T12:00", "2026-10-01T09:00", "2026-10-01T12:00"),
        ("2026-10-01T09:00Z/2026-10-01T12:00Z", "2026-10-01T09:00", "2026-10-01T12:00"),
        ("2026-10-01T09:00+02:00/2026-10-01T09:00", "2026-10-01T07:00", "2026-10-01T09:00"),
        ("2026-10-01T00:00+02:00/2026-10-02T00:00-05:30", "2026-09-30T22:00", "2026-10-02T05:30"),
        (" 2026-10-01 09:00 / 2026-10-02 ", "2026-10-01T09:00", "2026-10-02T00:00"),
        ("2026-10-01T09:00:00.000001/2026-10-01T09:00:00.000002", "2026-10-01T09:00:00.000001", None),
        ("2024-02-29/2024-03-01", "2024-02-29T00:00", "2024-03-01T00:00"),
        ("2025-12-31T23:59/2026-01-01T00:01", "2025-12-31T23:59", "2026-01-01T00:01"),
    ],
)
def test_a_window_is_two_times_in_utc_or_with_their_offset(text: str, start: str, end: str | None) -> None:
    assert parse_window(text) == Window(utc(start), utc(end) if end else utc(start) + MICROSECOND)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "nonsense",
        "2026-10-01",
        "2026-10-01/",
        "/2026-10-01",
        "today/tomorrow",
        "2026-02-30/2026-03-01",
        "2026-02-29/2026-03-01",
        "2026-13-01/2027-01-01",
        "2026-10-01T24:00/2026-10-03",  # Python itself reads this from 3.14 on
        "2026-10-01T25:00/2026-10-02",
        "2026-10-01T09:60/2026-10-02",
        "2026-10-01T09:00+24:00/2026-10-02",
        "2026-10-01T09:00 UTC/2026-10-02",
        "２０２６-10-01/2026-10-02",
        "2026‑10‑01/2026‑10‑02",
        "10000-01-01/10000-01-02",
        "1759276800/1759363200",
        "2026-10-01--2026-10-02",
        "2026-10-01/2026-10-02/2026-10-03",
        "2026-10-01/P1D",
        "2026-10-01/2026-10-02\0",
        f"2026-10-01/{HUGE}",
    ],
)
def test_what_is_no_window_is_an_error_of_usage_that_shows_how_to_write_one(text: str) -> None:
    with pytest.raises(UsageError, match="2026-10-01"):
        parse_window(text)


def test_a_window_of_more_than_two_times_is_not_read_as_two() -> None:
    with pytest.raises(UsageError):
        parse_window("2026-10-01/2026-10-02/09:00")


@pytest.mark.parametrize("text", ["0001-01-01T00:00+02:00/2026-10-01", "2026-10-01/9999-12-31T23:00-05:00"])
def test_an_offset_that_leaves_the_calendar_is_an_error_of_usage(text: str) -> None:
    with pytest.raises(UsageError):
        parse_window(text)


@pytest.mark.parametrize(
    "text",
    [
        "2026-10-02/2026-10-01",
        "2026-10-01/2026-10-01",
        "2026-10-01T09:00+02:00/2026-10-01T07:00",
        "2026-10-01T09:00/2026-10-01T08:59:59.999999",
    ],
)
def test_a_window_whose_end_does_not_come_after_its_start_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="its end must come after its start"):
        parse_window(text)


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("2026-10-01", "2026-10-01T00:00"),
        (" 2024-02-29 ", "2024-02-29T00:00"),
        ("today", "2026-10-05T00:00"),
        ("Yesterday", "2026-10-04T00:00"),
    ],
)
def test_a_date_is_a_utc_day(text: str, start: str) -> None:
    assert parse_date(text, NOW) == day(start)


@pytest.mark.parametrize(
    ("now", "today"),
    [
        ("2026-10-04T23:59:59.999999", "2026-10-04"),
        ("2026-10-05T00:00", "2026-10-05"),
        ("2024-03-01T00:00", "2024-03-01"),
        ("2026-01-01T00:00", "2026-01-01"),
    ],
)
def test_today_begins_at_midnight_and_yesterday_ends_there(now: str, today: str) -> None:
    assert parse_date("today", utc(now)) == day(today)
    assert parse_date("yesterday", utc(now)).end == utc(today)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "nonsense",
        "tomorrow",
        "2026-02-30",
        "2026-02-29",
        "2026-00-10",
        "2026-10-00",
        "2026-10-1",
        "26-10-01",
        "01.10.2026",
        "10/01/2026",
        "2026-10-01T00:00",
        "2026-10-01/2026-10-02",
        "2026-W40-4",
        "20261001",
        "-2026-10-01",
        "0000-01-01",
        "２０２６-１０-０１",
        "٢٠٢٦-١٠-٠١",
        HUGE,
    ],
)
def test_what_is_no_date_is_an_error_of_usage_that_shows_how_to_write_one(text: str) -> None:
    with pytest.raises(UsageError, match="write it like 2026-10-01"):
        parse_date(text, NOW)


def test_the_last_day_of_the_calendar_has_no_end() -> None:
    assert parse_date("9999-12-30", NOW).end == utc("9999-12-31T00:00")
    with pytest.raises(UsageError, match="calendar"):
        parse_date("9999-12-31", NOW)


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("90s", timedelta(seconds=90)),
        ("0.25s", timedelta(milliseconds=250)),
        ("15m", timedelta(minutes=15)),
        ("2h", timedelta(hours=2)),
        ("3d", timedelta(days=3)),
        ("1w", timedelta(days=7)),
        ("1d12h", timedelta(hours=36)),
        ("1w1d1h1m1.5s", timedelta(days=8, hours=1, minutes=1, seconds=1.5)),
        (" 3D ", timedelta(days=3)),
        ("0s", timedelta()),
        ("48h", timedelta(days=2)),
        ("999999999d", timedelta(days=999_999_999)),
    ],
)
def test_a_length_of_time_is_numbers_with_units(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "3",
        "d",
        "-3d",
        "+3d",
        "1.5h",
        "1.s",
        ".5s",
        "3 d",
        "1d 12h",
        "12h1d",
        "1d1d",
        "3y",
        "3M1",
        "1e3s",
        "infs",
        "nans",
        "1_000s",
        "0x10s",
        "PT1H",
        "1:30",
        "²d",
        "½h",
        "3d\0",
    ],
)
def test_what_is_no_length_of_time_is_an_error_of_usage_that_shows_how_to_write_one(text: str) -> None:
    with pytest.raises(UsageError, match="write it like 90s"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["３d", "٣d", "1d१२h"])
def test_digits_of_other_scripts_are_no_digits(text: str) -> None:
    with pytest.raises(UsageError, match="write it like 90s"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["1000000000d", f"{HUGE}d", f"{HUGE}s", f"{HUGE}w{HUGE}d"])
def test_a_length_of_time_beyond_the_calendar_is_an_error_of_usage(text: str) -> None:
    with pytest.raises(UsageError, match="too long"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("now", "text", "window"),
    [
        ("2026-10-05T14:37", "3h", "2026-10-05T11:00/2026-10-05T14:00"),
        ("2026-10-05T14:00", "3h", "2026-10-05T11:00/2026-10-05T14:00"),
        ("2026-10-05T13:59:59.999999", "3h", "2026-10-05T10:00/2026-10-05T13:00"),
        ("2024-03-01T00:30", "1d", "2024-02-29T00:00/2024-03-01T00:00"),
        ("2026-01-01T00:30", "90m", "2025-12-31T22:30/2026-01-01T00:00"),
    ],
)
def test_the_last_hours_end_with_the_last_full_hour(now: str, text: str, window: str) -> None:
    assert parse_last(text, utc(now)) == parse_window(window)


@pytest.mark.parametrize("text", ["0s", "999999d", f"{HUGE}d", "", "3", "-3d"])
def test_no_window_can_be_so_long_ago_or_so_short(text: str) -> None:
    with pytest.raises(UsageError):
        parse_last(text, NOW)


def test_a_window_is_in_utc_whatever_zone_its_instants_came_in() -> None:
    zone = timezone(timedelta(hours=2))
    window = Window(datetime(2026, 10, 1, tzinfo=zone), datetime(2026, 10, 2, tzinfo=zone))
    assert window == Window(utc("2026-09-30T22:00"), utc("2026-10-01T22:00"))
    assert str(window) == "2026-09-30T22:00Z/2026-10-01T22:00Z"
    assert window.start.utcoffset() == window.end.utcoffset() == timedelta()


def test_a_window_is_not_made_of_instants_without_a_zone() -> None:
    with pytest.raises(ValueError, match="aware instants"):
        Window(datetime(2026, 10, 1), datetime(2026, 10, 2))  # noqa: DTZ001 - that is what is refused


def test_an_instant_is_stored_as_utc_without_a_zone() -> None:
    instant = datetime.fromisoformat("2026-10-01T01:00+02:00")
    assert naive(instant) == datetime.fromisoformat("2026-09-30T23:00")


@pytest.mark.parametrize(
    ("unit", "instant", "floor", "after"),
    [
        (Unit.HOUR, "2026-10-05T14:37:21.5", "2026-10-05T14:00", "2026-10-05T15:00"),
        (Unit.HOUR, "2026-12-31T23:59:59.999999", "2026-12-31T23:00", "2027-01-01T00:00"),
        (Unit.HOUR, "2024-02-29T23:00", "2024-02-29T23:00", "2024-03-01T00:00"),
        (Unit.DAY, "2026-10-05T23:59:59.999999", "2026-10-05T00:00", "2026-10-06T00:00"),
        (Unit.DAY, "2024-02-28T12:00", "2024-02-28T00:00", "2024-02-29T00:00"),
        (Unit.DAY, "2025-02-28T12:00", "2025-02-28T00:00", "2025-03-01T00:00"),
        (Unit.DAY, "2000-02-28T12:00", "2000-02-28T00:00", "2000-02-29T00:00"),
        (Unit.DAY, "2100-02-28T12:00", "2100-02-28T00:00", "2100-03-01T00:00"),
        (Unit.DAY, "2025-12-31T00:00", "2025-12-31T00:00", "2026-01-01T00:00"),
        (Unit.MONTH, "2024-02-29T23:59:59.999999", "2024-02-01T00:00", "2024-03-01T00:00"),
        (Unit.MONTH, "2025-02-28T23:59:59.999999", "2025-02-01T00:00", "2025-03-01T00:00"),
        (Unit.MONTH, "2026-01-31T00:00", "2026-01-01T00:00", "2026-02-01T00:00"),
        (Unit.MONTH, "2026-04-01T00:00", "2026-04-01T00:00", "2026-05-01T00:00"),
        (Unit.MONTH, "2025-12-31T23:00", "2025-12-01T00:00", "2026-01-01T00:00"),
    ],
)
def test_an_instant_lies_between_the_start_of_its_unit_and_the_start_of_the_next(
    unit: Unit, instant: str, floor: str, after: str
) -> None:
    assert (unit.floor(utc(instant)), unit.after(utc(instant))) == (utc(floor), utc(after))


@pytest.mark.parametrize(
    ("unit", "slot", "window"),
    [
        (Unit.HOUR, "2026-10-05T10:00", "2026-10-05T09:00/2026-10-05T10:00"),
        (Unit.HOUR, "2026-10-05T10:30", "2026-10-05T09:00/2026-10-05T10:00"),
        (Unit.HOUR, "2026-01-01T00:00", "2025-12-31T23:00/2026-01-01T00:00"),
        (Unit.DAY, "2026-10-05T02:00", "2026-10-04/2026-10-05"),
        (Unit.DAY, "2026-10-05T00:00", "2026-10-04/2026-10-05"),
        (Unit.DAY, "2024-03-01T02:00", "2024-02-29/2024-03-01"),
        (Unit.DAY, "2025-03-01T02:00", "2025-02-28/2025-03-01"),
        (Unit.MONTH, "2026-10-01T03:00", "2026-09-01/2026-10-01"),
        (Unit.MONTH, "2026-01-01T03:00", "2025-12-01/2026-01-01"),
        (Unit.MONTH, "2024-03-01T03:00", "2024-02-01/2024-03-01"),
    ],
)
def test_a_slot_covers_the_last_whole_unit_before_it(unit: Unit, slot: str, window: str) -> None:
    assert Window.before(utc(slot), unit) == parse_window(window)


@pytest.mark.parametrize(
    ("unit", "window", "aligned"),
    [
        (Unit.HOUR, "2026-10-05T09:30/2026-10-05T09:31", "2026-10-05T09:00/2026-10-05T10:00"),
        (Unit.DAY, "2026-10-05/2026-10-06", "2026-10-05/2026-10-06"),
        (Unit.DAY, "2026-10-05/2026-10-06T00:00:00.000001", "2026-10-05/2026-10-07"),
        (Unit.DAY, "2026-10-04T23:59:59.999999/2026-10-06", "2026-10-04/2026-10-06"),
        (Unit.MONTH, "2024-02-29/2024-03-01", "2024-02-01/2024-03-01"),
        (Unit.MONTH, "2025-12-31T23:00/2026-01-01T01:00", "2025-12-01/2026-02-01"),
    ],
)
def test_aligning_widens_a_window_to_whole_units_and_no_further(unit: Unit, window: str, aligned: str) -> None:
    assert parse_window(window).aligned(unit) == parse_window(aligned)


@pytest.mark.parametrize("unit", Unit)
def test_a_window_in_the_last_unit_of_the_calendar_is_an_error_of_usage(unit: Unit) -> None:
    window = Window(utc("9999-12-31T23:00"), utc("9999-12-31T23:30"))
    with pytest.raises(UsageError, match="calendar"):
        window.aligned(unit)
    with pytest.raises(UsageError, match="calendar"):
        list(window.split(unit))


@pytest.mark.parametrize(
    ("unit", "window", "pieces"),
    [
        (Unit.DAY, "2026-10-05/2026-10-06", ["2026-10-05/2026-10-06"]),
        (
            Unit.DAY,
            "2024-02-28T23:00/2024-03-01T01:00",
            ["2024-02-28T23:00/2024-02-29", "2024-02-29/2024-03-01", "2024-03-01/2024-03-01T01:00"],
        ),
        (
            Unit.MONTH,
            "2025-12-31T23:00/2026-02-01T00:00:00.000001",
            ["2025-12-31T23:00/2026-01-01", "2026-01-01/2026-02-01", "2026-02-01/2026-02-01T00:00:00.000001"],
        ),
        (
            Unit.HOUR,
            "2026-12-31T23:30/2027-01-01T00:30",
            ["2026-12-31T23:30/2027-01-01", "2027-01-01/2027-01-01T00:30"],
        ),
    ],
)
def test_a_window_is_cut_at_each_boundary_inside_it(unit: Unit, window: str, pieces: list[str]) -> None:
    assert list(parse_window(window).split(unit)) == [parse_window(piece) for piece in pieces]


@pytest.mark.slow
@at_leisure
@given(windows(), units)
def test_the_pieces_of_a_window_tile_it_and_lie_in_one_unit_each(window: Window, unit: Unit) -> None:
    pieces = list(window.split(unit))
    assert [piece.start for piece in pieces] == [window.start, *[piece.end for piece in pieces[:-1]]]
    assert pieces[-1].end == window.end
    assert all(unit.floor(piece.start) == unit.floor(piece.end - MICROSECOND) for piece in pieces)
    # No cut is made where there is no boundary.
    assert all(unit.floor(piece.start) == piece.start for piece in pieces[1:])


@at_leisure
@given(windows(), units)
def test_aligning_contains_the_window_in_whole_units_and_adds_less_than_one_at_each_end(
    window: Window, unit: Unit
) -> None:
    aligned = window.aligned(unit)
    assert aligned.start <= window.start
    assert window.end <= aligned.end
    assert (unit.floor(aligned.start), unit.floor(aligned.end)) == (aligned.start, aligned.end)
    assert unit.after(aligned.start) > window.start
    assert unit.floor(aligned.end - MICROSECOND) < window.end
    assert aligned.aligned(unit) == aligned


@at_leisure
@given(instants, units)
def test_the_window_before_a_slot_is_the_whole_unit_that_ends_last(slot: datetime, unit: Unit) -> None:
    window = Window.before(slot, unit)
    assert window.end <= slot < unit.after(window.end)
    assert list(window.split(unit)) == [window.aligned(unit)]


@at_leisure
@given(instants)
def test_months_begin_where_the_calendar_says(instant: datetime) -> None:
    start = Unit.MONTH.floor(instant)
    assert (start.year, start.month, start.day) == (instant.year, instant.month, 1)
    assert Unit.MONTH.after(instant) - start == timedelta(days=monthrange(instant.year, instant.month)[1])


@at_leisure
@given(windows())
def test_a_window_is_written_as_it_is_read(window: Window) -> None:
    assert parse_window(str(window)) == window


@pytest.mark.parametrize(
    ("window", "text"),
    [
        ("2026-10-01/2026-10-02", "2026-10-01/2026-10-02"),
        ("2026-10-01T09:00:30+02:00/2026-10-02", "2026-10-01T07:00:30Z/2026-10-02T00:00Z"),
    ],
)
def test_a_window_is_written_in_utc_and_no_finer_than_needed(window: str, text: str) -> None:
    assert str(parse_window(window)) == text


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(), "0s"),
        (timedelta(seconds=90), "1m30s"),
        (timedelta(milliseconds=1500), "1.5s"),
        (timedelta(hours=36), "1d12h"),
        (timedelta(days=7), "7d"),
        (timedelta(days=1, seconds=1), "1d1s"),
    ],
)
def test_a_length_of_time_is_written_shortly(duration: timedelta, text: str) -> None:
    assert format_duration(duration) == text


@at_leisure
@given(st.timedeltas(timedelta(), timedelta(days=36_500)))
@example(MICROSECOND)
@example(timedelta(seconds=12, microseconds=345_678))
@example(timedelta(days=10, microseconds=3))
def test_a_length_of_time_is_written_as_it_is_read(duration: timedelta) -> None:
    assert parse_duration(format_duration(duration)) == duration
