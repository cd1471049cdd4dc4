"""Running what is due, against the real ledger: once whoever asks, and nothing left without an account."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import takewhile
from random import Random
from typing import NoReturn

import pytest

from mauntic_jobs.errors import ExitCode, UnavailableError
from mauntic_jobs.installation import Installation
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.runner import claim as claims
from mauntic_jobs.runner.history import list_runs
from mauntic_jobs.runner.request import Launcher, Status
from mauntic_jobs.runner.run import run
from mauntic_jobs.runner.slot_request import slot_request
from mauntic_jobs.scheduler.due import Round
from mauntic_jobs.scheduler.overview import read_overview
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.catch_up import Which, parse_catch_up
from mauntic_jobs.timekeeping.cron import slots
from mauntic_jobs.timekeeping.window import Window
from tests.pooler import RANDOM_RUNS
from tests.scheduler.ticking import TABLE, failing, look, ticking, ticks
from tests.support import Event, add_events, contact, day, organization, request, utc

EVERY = ticking("every", "0 * * * *", Which.ALL, timedelta(hours=6))
LATEST = ticking("latest", "0 * * * *", Which.LATEST, timedelta(hours=2))


def _defect(*_: object) -> NoReturn:
    raise KeyError("of the test")


@pytest.fixture
def ready(session: Session) -> Session:
    session.execute(TABLE)
    return session


def _accounts(session: Session, job: str) -> dict[datetime, str]:
    rows = [row for row in list_runs(session, job=job, limit=100_000) if row["claims_slot"]]
    found = {row["slot"]: row["status"] for row in rows}
    assert len(found) == len(rows)
    return found


def test_what_was_missed_is_run_or_recorded_with_the_reason(settings: Settings, ready: Session) -> None:
    look(settings, utc("2026-10-05T00:30"), EVERY, LATEST)
    assert ticks(ready) == []
    reports, looked = look(settings, utc("2026-10-05T10:30"), EVERY, LATEST)
    assert [report.status for report in reports] == [Status.SUCCEEDED] * 7
    assert _accounts(ready, "every") == {
        utc(f"2026-10-05T{hour:02}:00"): "missed" if hour < 5 else "succeeded" for hour in range(1, 11)
    }
    assert _accounts(ready, "latest") == {
        utc(f"2026-10-05T{hour:02}:00"): "superseded" if hour < 10 else "succeeded" for hour in range(1, 11)
    }
    missed = list_runs(ready, job="every", status=Status.MISSED)[-1]
    assert (missed["error"], missed["attempt"], missed["launcher"]) == ("no clock ran it within 6h", 0, "schedule")
    assert (missed["window_start"], missed["window_end"]) == (utc("2026-10-05T00:00"), utc("2026-10-05T01:00"))
    assert len(looked.passed) == 4 + 9


def test_a_second_look_finds_nothing_and_writes_nothing(settings: Settings, ready: Session) -> None:
    look(settings, utc("2026-10-05T00:30"), EVERY)
    look(settings, utc("2026-10-05T03:30"), EVERY)
    before = [ready.rows(b"SELECT xmin, * FROM mauntic_jobs." + table) for table in (b"runs", b"schedules")]
    assert look(settings, utc("2026-10-05T03:59"), EVERY)[0] == []
    assert [ready.rows(b"SELECT xmin, * FROM mauntic_jobs." + table) for table in (b"runs", b"schedules")] == before


def test_with_nothing_due_there_are_two_queries(
    direct_settings: Settings, monkeypatch: pytest.MonkeyPatch, servers: object
) -> None:
    asked: list[bytes] = []

    def counted(name: str) -> None:
        original = getattr(Session, name)

        def ask(self: Session, query: bytes, *rest: object) -> object:
            asked.append(query)
            return original(self, query, *rest)

        monkeypatch.setattr(Session, name, ask)

    assert servers
    jobs = {job.name: replace(job, cron="0 0 1 1 *") for job in JOBS.values()}
    assert list(Round(jobs, direct_settings, clock.now, lambda _: None).run()) == []
    for name in ("rows", "execute", "transaction"):
        counted(name)
    assert list(Round(jobs, direct_settings, clock.now, lambda _: None).run()) == []
    assert len(asked) == 2, "the database's time, and the slots"


def test_tasks_beside_the_jobs_are_started_before_the_runs_and_after_them(settings: Settings, ready: Session) -> None:
    look(settings, utc("2026-10-05T00:30"), EVERY)
    before, seen = utc("2026-10-05T01:30"), list[int]()
    round_ = Round(
        {EVERY.name: EVERY},
        settings,
        lambda: before,
        lambda _: None,
        upkeep=lambda _: seen.append(len(ticks(ready))),
        read_time=lambda *_: before,
    )
    assert len(list(round_.run())) == 1
    # What the run has left in the outbox is published at once.
    assert seen == [0, 1]


def test_a_dry_run_tells_what_is_due_and_writes_nothing(settings: Settings, ready: Session) -> None:
    look(settings, utc("2026-10-05T00:30"), EVERY)
    before = ready.rows(b"SELECT * FROM mauntic_jobs.schedules")
    reports, looked = look(settings, utc("2026-10-05T08:30"), EVERY, dry=True)
    assert [(report.status, report.window.end.hour) for report in reports] == [
        (Status.DRY_RUN, hour) for hour in range(3, 9)
    ]
    assert len(looked.passed) == 2
    assert (ticks(ready), list_runs(ready), ready.rows(b"SELECT * FROM mauntic_jobs.schedules")) == ([], [], before)


@RANDOM_RUNS
def test_the_real_ledger_bears_weeks_of_downtime_clock_steps_and_three_launchers_at_once(
    settings: Settings, ready: Session
) -> None:
    random, now, end = Random(1), utc("2026-03-01T00:30"), utc("2026-03-29T00:30")
    look(settings, now, EVERY, LATEST)
    with ThreadPoolExecutor(3) as pool:
        while now < end:
            now += timedelta(minutes=random.randint(1, 60 * random.choice([1, 2, 12, 48])))
            # Hosts whose clocks are hours off do not look at all.
            off = random.choice([timedelta()] * 6 + [timedelta(seconds=50), timedelta(seconds=-50)])
            moments = [now + timedelta(milliseconds=each) for each in range(random.choice([1, 3]))]
            looks = [pool.submit(look, settings, moment + off, EVERY, LATEST, there=moment) for moment in moments]
            for each in looks:
                # Of two that want the same job at once, the later one leaves the slot to the earlier.
                assert {report.exit_code for report in each.result()[0]} <= {ExitCode.DONE, ExitCode.TRY_LATER}
    look(settings, end + timedelta(hours=1), EVERY, LATEST)
    look(settings, end + timedelta(hours=1), EVERY, LATEST)
    made = Counter(ticks(ready))
    assert set(made.values()) == {1}
    for job in (EVERY, LATEST):
        expected = takewhile(lambda slot: slot <= end + timedelta(hours=1), slots(job.cron, utc("2026-03-01T00:30")))
        accounts = _accounts(ready, job.name)
        assert sorted(accounts) == list(expected)
        run = {slot for name, slot in made if name == job.name}
        assert run == {slot for slot, status in accounts.items() if status == "succeeded"}
        assert set(accounts.values()) == {"succeeded", "missed" if job is EVERY else "superseded"}


def test_a_failed_run_has_answered_its_slot_and_the_others_go_on(settings: Settings, ready: Session) -> None:
    broken = replace(EVERY, name="broken", run=failing)
    look(settings, utc("2026-10-05T00:30"), broken, EVERY)
    reports, _ = look(settings, utc("2026-10-05T02:30"), broken, EVERY)
    assert [report.status for report in reports] == [Status.FAILED, Status.SUCCEEDED] * 2
    assert look(settings, utc("2026-10-05T02:40"), broken, EVERY)[0] == []
    assert len(ticks(ready)) == 2


@pytest.mark.usefixtures("ready")
def test_a_defect_in_one_job_leaves_the_others_their_runs(settings: Settings) -> None:
    defect = ticking("defect", "0 * * * *", Which.LATEST, timedelta(hours=2), run=_defect)
    said: list[str] = []
    look(settings, utc("2026-10-05T00:30"), defect, EVERY)
    reports, _ = look(settings, utc("2026-10-05T01:30"), defect, EVERY, log=said.append)
    assert [(report.job, report.status) for report in reports] == [
        ("defect", Status.FAILED),
        ("every", Status.SUCCEEDED),
    ]
    assert any("KeyError" in line for line in said)


@pytest.mark.usefixtures("ready")
def test_a_report_that_fails_ends_neither_its_run_nor_the_round(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mauntic_jobs.runner.observers.notify_end", _defect)
    monkeypatch.setattr("mauntic_jobs.runner.observers.write_numbers", _defect)
    said: list[str] = []
    look(settings, utc("2026-10-05T00:30"), EVERY, LATEST)
    reports, _ = look(settings, utc("2026-10-05T01:30"), EVERY, LATEST, log=said.append)
    assert [report.status for report in reports] == [Status.SUCCEEDED] * 2
    assert "every: no alerts: KeyError: 'of the test'" in said


def test_the_slot_of_a_run_whose_owner_fell_silent_is_due_again(settings: Settings, ready: Session) -> None:
    now = utc("2026-10-05T01:30")
    look(settings, utc("2026-10-05T00:30"), EVERY)
    dead = slot_request(EVERY, utc("2026-10-05T01:00"), settings, Launcher.LOOP, now)
    claims.acquire(ready, dead, 1)
    assert look(settings, now, EVERY)[0] == []
    ready.execute(b"UPDATE mauntic_jobs.runs SET heartbeat_at = heartbeat_at - interval '2 minutes'")
    assert [report.status for report in look(settings, now, EVERY)[0]] == [Status.SUCCEEDED]
    assert [row["status"] for row in list_runs(ready)] == ["succeeded", "lost"]


def test_a_slot_too_old_is_missed_also_if_its_owner_died(settings: Settings, ready: Session) -> None:
    look(settings, utc("2026-10-05T00:30"), EVERY)
    claims.acquire(ready, slot_request(EVERY, utc("2026-10-05T01:00"), settings, Launcher.LOOP, utc("2026-10-05")), 1)
    ready.execute(b"UPDATE mauntic_jobs.runs SET heartbeat_at = heartbeat_at - interval '2 minutes'")
    look(settings, utc("2026-10-05T07:30"), EVERY)
    assert _accounts(ready, "every")[utc("2026-10-05T01:00")] == "missed"


def test_a_slot_stays_due_while_the_job_is_being_run_otherwise(settings: Settings, ready: Session) -> None:
    look(settings, utc("2026-10-05T00:30"), EVERY)
    by_hand = replace(
        slot_request(EVERY, utc("2026-10-04T01:00"), settings, Launcher.CLI, utc("2026-10-05")), claim_slot=False
    )
    claim = claims.acquire(ready, by_hand, 1)
    (report,), _ = look(settings, utc("2026-10-05T01:30"), EVERY)
    assert (report.exit_code, "The slot stays due" in str(report.error)) == (ExitCode.TRY_LATER, True)
    claims.fail(ready, claim, "done")
    (report,), _ = look(settings, utc("2026-10-05T01:31"), EVERY)
    assert report.status is Status.SUCCEEDED


def test_a_crontab_and_the_schedule_do_not_run_a_slot_twice(settings: Settings, ready: Session) -> None:
    look(settings, utc("2026-10-05T00:30"), EVERY)
    slot, now = utc("2026-10-05T01:00"), utc("2026-10-05T01:00:01")
    assert run(slot_request(EVERY, slot, settings, Launcher.CRON, now)).status is Status.SUCCEEDED
    assert look(settings, now, EVERY)[0] == []
    again = run(slot_request(EVERY, slot, settings, Launcher.BULLMQ, now))
    assert (again.answered, again.exit_code) == (True, ExitCode.DONE)
    assert "answered by run 1 (succeeded, cron on" in str(again.error)
    assert (len(ticks(ready)), len(list_runs(ready))) == (1, 1)


def test_two_clocks_of_one_job_are_named(settings: Settings, ready: Session) -> None:
    now = utc("2026-10-05T02:30")
    look(settings, utc("2026-10-05T00:30"), EVERY, LATEST)
    look(settings, utc("2026-10-05T01:30"), EVERY, LATEST)
    other = Settings(**{**settings.model_dump(), "launcher_id": "spare"})
    run(slot_request(EVERY, utc("2026-10-05T02:00"), other, Launcher.CRON, now))
    every, latest = read_overview(Installation(settings, now, [EVERY, LATEST], session=ready))
    assert len(every.clocks) == 2
    assert "cron on spare" in every.clocks
    assert len(latest.clocks) == 1


def test_the_overview_tells_overdue_missed_and_last(settings: Settings, ready: Session) -> None:
    look(settings, utc("2026-10-05T00:30"), EVERY)
    look(settings, utc("2026-10-05T09:30"), EVERY)
    (on_time,) = read_overview(Installation(settings, utc("2026-10-05T10:05"), [EVERY], session=ready))
    (overdue,) = read_overview(Installation(settings, utc("2026-10-05T10:05:00.000001"), [EVERY], session=ready))
    assert (on_time.overdue_since, overdue.overdue_since) == (None, utc("2026-10-05T10:00"))
    assert (overdue.missed, overdue.next, len(overdue.due)) == (3, utc("2026-10-05T11:00"), 1)
    assert overdue.last is not None
    assert (overdue.last["status"], overdue.last["slot"]) == ("succeeded", utc("2026-10-05T09:00"))


def test_a_report_says_that_its_day_is_not_aggregated(settings: Settings, ready: Session) -> None:
    hourly, daily = JOBS["aggregate-hourly"], JOBS["generate-daily-reports"]
    add_events(ready, [Event(organization(1), contact(1), "email_sent", utc("2026-10-04T10:00"))])
    told: list[str] = []
    look(settings, utc("2026-10-04T23:30"), daily)
    (report,), _ = look(settings, utc("2026-10-05T02:30"), hourly, daily, log=told.append)
    remark = "aggregate-hourly has not covered all of 2026-10-04/2026-10-05 yet"
    assert (report.exit_code, list_runs(ready)[0]["error"]) == (ExitCode.DONE, remark)
    assert told == [f"generate-daily-reports 2026-10-04/2026-10-05: {remark}"]


@pytest.mark.parametrize(("slot", "remarked"), [("2026-10-05T00:00", False), ("2026-10-04T23:00", True)])
def test_the_run_after_midnight_aggregates_the_day(
    settings: Settings, ready: Session, slot: str, *, remarked: bool
) -> None:
    hourly, daily = JOBS["aggregate-hourly"], JOBS["generate-daily-reports"]
    look(settings, utc("2026-10-04T22:30"), daily)
    no_grace = Settings(**{**settings.model_dump(), "lateness_grace": timedelta()})
    on_time_only = replace(hourly, catch_up=parse_catch_up("none"))
    run(slot_request(hourly, utc(slot), settings, Launcher.CRON, utc(slot)))
    look(no_grace, utc("2026-10-05T02:00:10"), on_time_only, daily)
    assert (list_runs(ready, job=daily.name)[0]["error"] is not None) is remarked


def test_a_run_of_the_day_while_it_lasted_does_not_count(settings: Settings, ready: Session) -> None:
    daily = JOBS["generate-daily-reports"]
    run(request(settings, day("2026-10-04")))
    ready.execute(b"UPDATE mauntic_jobs.runs SET started_at = '2026-10-04 12:00Z'")
    look(settings, utc("2026-10-04T22:30"), daily)
    look(settings, utc("2026-10-05T02:00:10"), daily, JOBS["aggregate-hourly"])
    error = list_runs(ready, job=daily.name)[0]["error"]
    assert error is not None
    assert "has not covered" in error


def test_a_database_that_stays_away_is_an_error_after_the_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("mauntic_jobs.scheduler.due.time.sleep", waits.append)
    away = Settings(database_url="postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(UnavailableError):
        look(away, utc("2026-10-05"), EVERY)
    assert waits == [1.0, 2.0, 4.0]


def test_the_window_of_a_slot_is_what_came_before_it() -> None:
    assert str(Window.before(utc("2026-10-05T02:00"), EVERY.unit)) == "2026-10-05T01:00Z/2026-10-05T02:00Z"
