"""What becomes of slots, by policy, on both sides of every edge."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from mauntic_jobs.errors import UsageError
from mauntic_jobs.job import Job
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.runner.request import Status
from mauntic_jobs.scheduler import plan as plans
from mauntic_jobs.scheduler.overview import upcoming
from mauntic_jobs.scheduler.plan import Plan, SlotState, ordered, passed_lines
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.timekeeping.catch_up import ON_TIME, CatchUp, Which, parse_catch_up
from mauntic_jobs.timekeeping.cron import slots
from tests.support import utc

MICROSECOND = timedelta(microseconds=1)
HOURLY = JOBS["aggregate-hourly"]
LATEST = JOBS["segment-trigger-eval"]


def plan(job: Job[Any], state: SlotState, now: datetime) -> Plan:
    return plans.plan(job, state, Settings(), now)


def _known(job: Job[Any], settled: str, *done: str, **more: Any) -> SlotState:
    return SlotState(cron=job.cron, settled=utc(settled), done=frozenset(utc(each) for each in done), **more)


def _times(found: Any) -> list[str]:
    return [f"{getattr(each, 'slot', each):%d %H:%M}" for each in found]


def test_all_runs_every_slot_that_was_left_out_oldest_first() -> None:
    reports = JOBS["generate-daily-reports"]
    made = plan(reports, _known(reports, "2026-10-02T02:00"), utc("2026-10-05T12:30"))
    assert _times(made.due) == ["03 02:00", "04 02:00", "05 02:00"]
    assert (made.passed, made.news) == ([], True)


def test_each_day_is_rebuilt_once_by_its_latest_slot() -> None:
    made = plan(HOURLY, _known(HOURLY, "2026-10-02T12:00"), utc("2026-10-05T12:30"))
    assert _times(made.due) == ["03 00:00", "04 00:00", "05 00:00", "05 12:00"]
    assert {each.status for each in made.passed} == {Status.SUPERSEDED}
    reasons = {f"{each.slot:%d %H:%M}": each.reason for each in made.passed}
    assert (made.waiting[0], len(made.waiting)) == (utc("2026-10-02T13:00"), 72)
    assert reasons["02 13:00"] == "slot 2026-10-03T00:00Z stands for it"
    assert reasons["04 01:00"] == "slot 2026-10-05T00:00Z stands for it"
    assert reasons["05 11:00"] == "slot 2026-10-05T12:00Z stands for it"
    assert len(made.due) + len(made.passed) == 72


def test_what_is_passed_over_is_a_line_for_each_reason() -> None:
    made = plan(HOURLY, _known(HOURLY, "2026-10-02T12:00"), utc("2026-10-05T12:30"))
    assert passed_lines("a", made.passed) == [
        "a 2026-10-02T13:00Z to 2026-10-02T23:00Z (11 slots) superseded: slot 2026-10-03T00:00Z stands for it",
        "a 2026-10-03T01:00Z to 2026-10-03T23:00Z (23 slots) superseded: slot 2026-10-04T00:00Z stands for it",
        "a 2026-10-04T01:00Z to 2026-10-04T23:00Z (23 slots) superseded: slot 2026-10-05T00:00Z stands for it",
        "a 2026-10-05T01:00Z to 2026-10-05T11:00Z (11 slots) superseded: slot 2026-10-05T12:00Z stands for it",
    ]
    assert passed_lines("a", made.passed[:1])[0].startswith("a 2026-10-02T13:00Z superseded")


def test_a_slot_that_covers_a_further_day_is_run_all_the_same() -> None:
    # The first two slots of a day rebuild the day before as well, for late events; its own slots have been run.
    made = plan(HOURLY, _known(HOURLY, "2026-10-05T00:00"), utc("2026-10-05T06:30"))
    assert _times(made.due) == ["05 02:00", "05 06:00"]
    assert _times(made.passed) == ["05 01:00", "05 03:00", "05 04:00", "05 05:00"]


@pytest.mark.parametrize(("hours", "latest_missed"), [(26, None), (24, None), (22, "06 02:00"), (20, "06 02:00")])
def test_an_old_slot_of_a_day_that_is_rebuilt_anyway_is_not_missed(hours: int, latest_missed: str | None) -> None:
    job = replace(HOURLY, catch_up=CatchUp(Which.ALL, timedelta(hours=hours)))
    made = plan(job, _known(job, "2026-10-05T09:00"), utc("2026-10-07T01:30"))
    missed = _times(each for each in made.passed if each.status is Status.MISSED)
    assert (missed[-1] if missed else None) == latest_missed
    assert len(made.due) + len(made.passed) == 40


def test_a_slot_that_was_lost_repeatedly_stands_for_no_other() -> None:
    state = _known(HOURLY, "2026-10-05T09:00", held=frozenset([utc("2026-10-05T12:00")]))
    made = plan(HOURLY, state, utc("2026-10-05T12:30"))
    assert (_times(made.due), _times(made.passed)) == (["05 11:00"], ["05 10:00"])


def test_latest_runs_the_latest_which_stands_for_the_others() -> None:
    made = plan(LATEST, _known(LATEST, "2026-10-05T05:00"), utc("2026-10-05T08:30"))
    assert _times(made.due) == ["05 08:00"]
    assert [(f"{each.slot:%H:%M}", each.status, each.reason) for each in made.passed] == [
        ("06:00", Status.SUPERSEDED, "slot 2026-10-05T08:00Z stands for it"),
        ("07:00", Status.SUPERSEDED, "slot 2026-10-05T08:00Z stands for it"),
    ]
    assert made.settled == utc("2026-10-05T07:00")


def test_latest_does_not_go_back_behind_a_slot_that_somebody_ran() -> None:
    made = plan(LATEST, _known(LATEST, "2026-10-05T05:00", "2026-10-05T08:00"), utc("2026-10-05T08:30"))
    assert (_times(made.due), _times(made.passed)) == ([], ["05 06:00", "05 07:00"])
    assert made.settled == utc("2026-10-05T08:00")


@pytest.mark.parametrize(("late", "due"), [(timedelta(), 1), (MICROSECOND, 0)])
@pytest.mark.parametrize("which", [Which.ALL, Which.LATEST])
def test_a_slot_is_caught_up_with_until_just_then(which: Which, late: timedelta, due: int) -> None:
    job = replace(JOBS["monthly-usage-summary"], catch_up=CatchUp(which, timedelta(days=7)))
    made = plan(job, _known(job, "2026-10-01T00:00"), utc("2026-10-08T03:00") + late)
    assert len(made.due) == due
    assert [(each.status, each.reason) for each in made.passed] == [(Status.MISSED, "no clock ran it within 7d")][due:]


@pytest.mark.parametrize(("late", "due"), [(ON_TIME, 1), (ON_TIME + MICROSECOND, 0)])
def test_none_runs_a_slot_at_its_time_only(late: timedelta, due: int) -> None:
    job = replace(HOURLY, catch_up=parse_catch_up("none"))
    made = plan(job, _known(job, "2026-10-05T09:30"), utc("2026-10-05T10:00") + late)
    assert (len(made.due), len(made.passed)) == (due, 1 - due)


def test_a_job_seen_for_the_first_time_never_backfills() -> None:
    made = plan(HOURLY, SlotState(), utc("2026-10-05T12:30"))
    assert (made.due, made.passed, made.news) == ([], [], True)


def test_a_job_seen_for_the_first_time_runs_the_slot_that_has_just_struck() -> None:
    assert _times(plan(HOURLY, SlotState(), utc("2026-10-05T12:00:30")).due) == ["05 12:00"]


def test_a_job_that_a_crontab_ran_before_goes_on_from_there() -> None:
    made = plan(HOURLY, SlotState(latest=utc("2026-10-05T10:00")), utc("2026-10-05T12:30"))
    assert (_times(made.due), _times(made.passed)) == (["05 12:00"], ["05 11:00"])


def test_a_slot_being_run_is_neither_due_nor_settled() -> None:
    state = _known(HOURLY, "2026-10-05T09:00", "2026-10-05T11:00", open=frozenset([utc("2026-10-05T10:00")]))
    made = plan(HOURLY, state, utc("2026-10-05T11:30"))
    assert (made.due, made.passed, made.settled) == ([], [], utc("2026-10-05T09:00"))


def test_with_nothing_due_there_is_no_news() -> None:
    assert not plan(HOURLY, _known(HOURLY, "2026-10-05T09:00", "2026-10-05T10:00"), utc("2026-10-05T10:59")).news


def test_a_record_that_lags_far_behind_is_brought_up_to_date() -> None:
    done = [f"2026-10-{day:02}T{hour:02}:00" for day in range(1, 6) for hour in range(24)]
    made = plan(HOURLY, _known(HOURLY, "2026-09-30T23:00", *done), utc("2026-10-05T23:59"))
    assert (made.news, made.settled) == (True, utc("2026-10-05T23:00"))


def test_a_clock_that_was_set_back_makes_nothing_due() -> None:
    made = plan(HOURLY, _known(HOURLY, "2026-10-05T12:00"), utc("2026-10-05T11:59"))
    assert (made.due, made.passed, made.news, made.resets) == ([], [], False, False)


def test_slots_of_the_future_that_are_settled_are_taken_back_first() -> None:
    made = plan(HOURLY, _known(HOURLY, "2026-10-05T12:00"), utc("2026-10-05T11:59") - MICROSECOND)
    assert (made.due, made.passed, made.news, made.resets) == ([], [], True, True)


def test_the_slots_of_both_lines_count_until_all_are_accounted_for() -> None:
    changed = replace(HOURLY, cron="*/20 * * * *")
    seen = plan(changed, _known(HOURLY, "2026-10-05T09:00"), utc("2026-10-05T10:30"))
    assert (_times(seen.due), seen.changed) == (["05 10:00"], True)
    assert (seen.cron, seen.former, seen.settled) == (changed.cron, (HOURLY.cron,), utc("2026-10-05T09:00"))
    both = replace(_known(changed, "2026-10-05T09:00"), former=("30 * * * *",))
    made = plan(changed, both, utc("2026-10-05T10:35"))
    counted = sorted([*made.due, *(passed.slot for passed in made.passed)])
    assert _times(counted) == ["05 09:20", "05 09:30", "05 09:40", "05 10:00", "05 10:20", "05 10:30"]
    assert made.former == both.former
    ended = plan(changed, replace(both, done=frozenset(counted)), utc("2026-10-05T10:35"))
    assert (ended.due, ended.former, ended.settled, ended.news) == ([], (), utc("2026-10-05T10:30"), True)


def test_a_line_is_changed_at_once_where_nothing_is_left_of_the_old_one() -> None:
    changed = replace(HOURLY, cron="*/10 * * * *")
    made = plan(changed, _known(HOURLY, "2026-10-05T09:00", "2026-10-05T10:00"), utc("2026-10-05T10:31"))
    assert (made.due, made.cron, made.settled, made.news) == ([], "*/10 * * * *", utc("2026-10-05T10:00"), True)
    assert (made.changed, made.former) == (True, ())


@pytest.mark.slow
def test_no_number_of_missed_slots_is_too_many() -> None:
    made = plan(HOURLY, _known(HOURLY, "2016-10-05T09:00"), utc("2026-10-05T09:30"))
    assert (len(made.due), len(made.passed)) == (8, 3652 * 24 - 8)
    assert sum(each.status is Status.MISSED for each in made.passed) > 3644 * 24


def test_what_is_due_is_run_by_time_and_then_in_the_order_of_the_data() -> None:
    now = utc("2026-10-05T02:30")
    made = [
        plan(JOBS[name], SlotState(cron=JOBS[name].cron, settled=utc("2026-10-05T00:30")), now)
        for name in ("aggregate-hourly", "generate-daily-reports", "segment-trigger-eval")
    ]
    assert [(job.name, f"{slot:%H:%M}") for job, slot in ordered(made)] == [
        ("aggregate-hourly", "02:00"),
        ("generate-daily-reports", "02:00"),
        ("segment-trigger-eval", "02:00"),
    ]


def test_the_coming_slots_of_all_jobs_are_told_in_their_order() -> None:
    found = upcoming(list(JOBS.values()), utc("2026-10-31T23:30"), 8)
    assert [(f"{slot:%d %H:%M}", job.name) for slot, job in found] == [
        ("01 00:00", "aggregate-hourly"),
        ("01 00:00", "segment-trigger-eval"),
        ("01 00:00", "warmup-daily-reset"),
        ("01 01:00", "aggregate-hourly"),
        ("01 01:00", "segment-trigger-eval"),
        ("01 02:00", "aggregate-hourly"),
        ("01 02:00", "generate-daily-reports"),
        ("01 02:00", "segment-trigger-eval"),
    ]


@pytest.mark.parametrize("text", ["", "all", "latest", "none/1h", "some/1h", "all/", "all/soon", "all/1h/2h"])
def test_a_policy_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_catch_up(text)


@pytest.mark.parametrize("text", ["none", "latest/1d", "all/2d12h"])
def test_a_policy_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_catch_up(text)) == text


_instants = st.datetimes(datetime(2026, 1, 1), datetime(2026, 3, 1), timezones=st.just(UTC))  # noqa: DTZ001


@pytest.mark.slow
@settings(deadline=None)
@given(_instants, _instants, st.data(), st.sampled_from([*Which]), st.integers(1, 200))
def test_every_slot_that_has_struck_is_accounted_for_once(
    first: datetime, second: datetime, data: st.DataObject, which: Which, hours: int
) -> None:
    settled, now = sorted((first, second))
    job = replace(HOURLY, catch_up=CatchUp(which, timedelta(hours=hours)))
    struck = list(takewhile(lambda slot: slot <= now, slots(job.cron, settled)))
    done = frozenset(data.draw(st.lists(st.sampled_from(struck), max_size=9))) if struck else frozenset()
    left = [slot for slot in struck if slot not in done]
    running = frozenset(data.draw(st.lists(st.sampled_from(left), max_size=3))) if left else frozenset()
    made = plan(job, SlotState(job.cron, settled, None, done, running), now)
    passed = [each.slot for each in made.passed]
    assert sorted([*done, *running, *made.due, *passed]) == struck
    unsettled = [slot for slot in struck if slot > made.settled]
    assert {*made.due, *running} <= {*unsettled}
    assert made.due == [] or made.due == sorted(made.due)
