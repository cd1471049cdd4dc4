"""Plans of backfills: what they say, that they are done exactly, and every doubt about them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from mauntic_jobs.backfill.store import BackfillState, WindowState
from mauntic_jobs.bullmq.windows import ENDED
from mauntic_jobs.cli.backfill.plan_file import _digest
from mauntic_jobs.errors import ExitCode, RefusedError
from mauntic_jobs.job import FigureLook
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.runner.run import run
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, connect
from tests.backfill.fleet import backfill, start_backfill, state, states
from tests.support import (
    Event,
    add_events,
    contact,
    day,
    organization,
    reference_rollups,
    request,
    stored_rollups,
    utc,
    wait_until,
)

HOURLY, REPORTS, MONTHLY = "aggregate-hourly", "generate-daily-reports", "monthly-usage-summary"
_DONE, _FAILED, _WAITING, _SKIPPED = WindowState.DONE, WindowState.FAILED, WindowState.WAITING, WindowState.SKIPPED
_THREE = ("--window", "2026-10-05/2026-10-08")
_EVENTS = [
    Event(organization(owner), contact(person), kind, utc(f"2026-10-0{number}T10:00"))
    for number in (5, 6, 7)
    for owner in (1, 2)
    for person in range(owner * number)
    for kind in ("email_sent", "page_viewed")
]
_RECORDS = (
    b"SELECT (SELECT count(*) FROM mauntic_jobs.backfills) AS backfills,"
    b" (SELECT count(*) FROM mauntic_jobs.runs) AS runs"
)


@pytest.fixture
def session(direct_settings: Settings) -> Iterator[Session]:
    """Yield a session of a database with events of three days, of which none is recorded."""
    with connect(direct_settings) as opened:
        add_events(opened, _EVENTS)
        yield opened


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "plan.json"


def _plan(settings: Settings, file: Path, *arguments: str, job: str = HOURLY) -> dict[str, Any]:
    done = backfill("plan", job, *(arguments or _THREE), "--out", str(file), settings=settings)
    assert done.returncode == ExitCode.DONE, done.stderr
    document: dict[str, Any] = json.loads(file.read_text())
    return document


def _apply(settings: Settings, file: Path, code: ExitCode) -> str:
    done = backfill("apply", str(file), settings=settings)
    assert done.returncode == code, done.stderr
    return done.stderr


def test_a_plan_says_what_is_done_and_writes_nothing(direct_settings: Settings, session: Session, file: Path) -> None:
    assert run(request(direct_settings, day("2026-10-05"), options={"grace": "0s"})).error is None
    add_events(session, [Event(organization(1), contact(99), "sms_sent", utc("2026-10-05T11:00"))])
    session.execute(
        b"UPDATE analytics.event_aggregates SET count = 40"
        b" WHERE event_type = 'page_viewed' AND organization_id = %(org)s",
        {"org": organization(2)},
    )
    before = session.row(_RECORDS)
    plan = _plan(direct_settings, file, *_THREE, "--reprocess", "all")
    assert session.row(_RECORDS) == before
    first, second, third = [each["preview"] for each in plan["windows"]]
    # 10 and 20 events of each kind; 40 stand in the place of the 10 of one group, which is withheld.
    assert (first["events"], first["present"], first["future"]) == (31, 60, 61)
    assert first["withheld"] == {"groups": 1, "present": 40, "counted": 10}
    assert [(each["type"], each["present"], each["future"], each["withheld"]) for each in first["largest"]] == [
        ("page_viewed", 40, 40, "shrinks"),
        ("sms_sent", 0, 1, None),
    ]
    assert (second["present"], second["future"], third["future"]) == (0, 36, 42)
    assert [each["future"] for each in second["largest"]] == [12, 12, 6, 6]
    assert plan["seconds"] == pytest.approx(sum(each["seconds"] for each in (first, second, third)), abs=0.01)
    _apply(direct_settings, file, ExitCode.PARTIAL)
    rows = session.rows(b"SELECT sum(count)::int AS events FROM analytics.event_aggregates GROUP BY date ORDER BY date")
    assert [row["events"] for row in rows] == [61, 36, 42]
    assert states(session) == [_DONE] * 3


@pytest.mark.parametrize(
    ("job", "range_"),
    [(REPORTS, _THREE), (MONTHLY, ("--month", "2026-10"))],
)
def test_plans_of_the_other_jobs_are_done_and_noticed_if_outdated(
    direct_settings: Settings, session: Session, file: Path, job: str, range_: tuple[str, ...]
) -> None:
    session.execute(b"UPDATE analytics.contact_activity SET event_source = %(source)s", {"source": str(UUID(int=7))})
    plan = _plan(direct_settings, file, *range_, job=job)
    assert sum(each["preview"]["future"] for each in plan["windows"]) > 0
    # Of this job there is no run yet.
    assert plan["seconds"] is None
    add_events(session, [Event(organization(9), contact(9), "email_sent", utc("2026-10-05T12:00"))])
    session.execute(
        b"UPDATE analytics.contact_activity SET event_source = %(source)s WHERE event_source IS NULL",
        {"source": str(UUID(int=7))},
    )
    assert "the raw events have changed" in _apply(direct_settings, file, ExitCode.REFUSED)
    session.execute(b"DELETE FROM analytics.contact_activity WHERE organization_id = %(org)s", {"org": organization(9)})
    _apply(direct_settings, file, ExitCode.DONE)
    table = "campaign_daily_stats" if job == REPORTS else "event_aggregates"
    column = "sent" if job == REPORTS else "count"
    recorded = session.row(f"SELECT sum({column})::int AS events FROM analytics.{table}".encode())["events"]
    assert recorded == len(_EVENTS) // (2 if job == REPORTS else 1)


def _more_events(session: Session) -> None:
    add_events(session, [Event(organization(1), contact(77), "email_sent", utc("2026-10-06T12:00"))])


def _another_contact(session: Session) -> None:
    """Change how many contacts there are, and not how many events."""
    assert session.execute(
        b"UPDATE analytics.contact_activity SET contact_id = %(new)s WHERE contact_id = %(old)s"
        b" AND organization_id = %(org)s AND created_at::date = '2026-10-06'",
        {"new": contact(0), "old": contact(1), "org": organization(1)},
    )


def _a_row(session: Session) -> None:
    session.execute(
        b"INSERT INTO analytics.event_aggregates (organization_id, date, event_type, count, unique_count)"
        b" VALUES (%(org)s, '2026-10-06', 'other', 1, 1)",
        {"org": organization(3)},
    )


def _both(session: Session) -> None:
    _a_row(session)
    _more_events(session)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (_more_events, "the raw events have changed in 2026-10-06"),
        (_another_contact, "the raw events have changed in 2026-10-06"),
        (_a_row, "the recorded rows have changed in 2026-10-06"),
        (
            _both,
            "the raw events and the recorded rows have changed in 2026-10-06",
        ),
    ],
    ids=["events", "contacts", "row", "both"],
)
def test_it_stops_before_a_window_that_has_changed_and_writes_nothing_of_it(
    direct_settings: Settings, session: Session, file: Path, change: Callable[[Session], None], what: str
) -> None:
    _plan(direct_settings, file)
    change(session)
    rows = stored_rollups(session)
    said = _apply(direct_settings, file, ExitCode.REFUSED)
    assert what in said
    assert "nothing of it was written. End the backfill with `mauntic-jobs backfill cancel 1`" in said
    assert states(session) == [_DONE, _FAILED, _WAITING]
    assert state(session) is BackfillState.PAUSED
    assert {key: value for key, value in stored_rollups(session).items() if key[1].day == 6} == rows
    # As long as it is changed, it stays so.
    assert backfill("resume", "1", settings=direct_settings).returncode == ExitCode.REFUSED
    assert states(session) == [_DONE, _FAILED, _WAITING]


@pytest.mark.usefixtures("started_processes")  # as the command starts them where no fork server is
def test_several_processes_stop_alike(direct_settings: Settings, session: Session, file: Path) -> None:
    _plan(direct_settings, file, *_THREE, "--parallel", "2")
    _more_events(session)
    _apply(direct_settings, file, ExitCode.REFUSED)
    assert state(session) is BackfillState.PAUSED
    assert states(session)[1] is _FAILED
    # A window that comes by BullMQ is refused as well, and done as far as the queue goes.
    session.execute(b"UPDATE mauntic_jobs.backfills SET state = 'active'")
    work = backfill("work", "1", "--window", "2026-10-06/2026-10-07", settings=direct_settings)
    assert ENDED[ExitCode(work.returncode)] == "failed"
    assert work.returncode == ExitCode.REFUSED
    assert not any(key[1].day == 6 for key in stored_rollups(session))


def test_a_first_window_that_has_changed_is_noticed_before_anything_is_recorded(
    direct_settings: Settings, session: Session, file: Path
) -> None:
    _plan(direct_settings, file, "--from", "2026-10-05", "--to", "2026-10-08", "--newest-first")
    add_events(session, [Event(organization(1), contact(77), "email_sent", utc("2026-10-07T12:00"))])
    assert "the raw events have changed in 2026-10-07/2026-10-08" in _apply(direct_settings, file, ExitCode.REFUSED)
    assert session.row(_RECORDS) == {"backfills": 0, "runs": 0}


def test_a_process_that_is_killed_leaves_the_rest_of_the_plan_to_the_next(
    direct_settings: Settings, session: Session, file: Path
) -> None:
    _plan(direct_settings, file)
    with connect(direct_settings) as other, other.transaction():
        other.execute(b"LOCK TABLE analytics.event_aggregates IN SHARE MODE")
        process = start_backfill("apply", str(file), settings=direct_settings)
        wait_until(lambda: session.rows(b"SELECT FROM mauntic_jobs.runs WHERE status = 'running'"), "a run")
        process.kill()
        process.communicate()
    assert stored_rollups(session) == {}
    done = backfill("resume", "1", settings=direct_settings, MAUNTIC_TAKEOVER_AFTER="0.5s")
    assert done.returncode == ExitCode.DONE, done.stderr
    assert stored_rollups(session) == reference_rollups(_EVENTS)


def _forged(document: dict[str, Any], **changes: Any) -> str:
    """Return a plan with other content, and the digest that fits."""
    changed = {**document, **changes}
    return json.dumps({**changed, "digest": _digest(changed)})


def _with_window(document: dict[str, Any], start: str, end: str) -> str:
    first, *others = document["windows"]
    window = {"start": f"{start}:00+00:00", "end": f"{end}:00+00:00"}
    return _forged(document, windows=[*others, {**first, "window": window}])


def _edited(document: dict[str, Any]) -> str:
    document["windows"][0]["skipped"] = "by hand"
    return json.dumps(document)


def test_doubtful_plans_are_refused_with_the_reason_and_change_nothing(
    direct_settings: Settings, session: Session, file: Path
) -> None:
    plan = _plan(direct_settings, file)
    other = {**plan["database"], "system": "1"}
    elsewhere = {**plan["database"], "name": "elsewhere"}
    gone = {"org": [str(organization(9))]}
    preview = {**plan["windows"][0], "preview": None}
    cases: list[tuple[str, ExitCode, str]] = [
        ("", ExitCode.USAGE, "is no plan, since it is no JSON."),
        ("[]", ExitCode.USAGE, "is no plan of a backfill."),
        ('{"schema": "mauntic-jobs/alert/1"}', ExitCode.USAGE, "is no plan of a backfill."),
        (
            _forged(plan, schema="mauntic-jobs/backfill-plan/2"),
            ExitCode.USAGE,
            "is a plan of another version: mauntic-jobs/backfill-plan/2, and not mauntic-jobs/backfill-plan/1",
        ),
        (_edited(json.loads(json.dumps(plan))), ExitCode.REFUSED, "was edited since it was made"),
        (json.dumps({**plan, "digest": "0" * 64}), ExitCode.REFUSED, "was edited since it was made"),
        (json.dumps({**plan, "more": 1}), ExitCode.REFUSED, "was edited since it was made"),
        (_forged(plan, windows="all"), ExitCode.USAGE, "is no whole plan: windows"),
        (_forged(plan, windows=[]), ExitCode.USAGE, "has no windows"),
        (_forged(plan, windows=[preview]), ExitCode.USAGE, "does not say what 2026-10-05/2026-10-06 looked like"),
        (_forged(plan, job="nonsense"), ExitCode.USAGE, "There is no job nonsense. The jobs are: aggregate-hourly"),
        (_forged(plan, options={"speed": 1}), ExitCode.USAGE, "does not take the options of"),
        (_forged(plan, database=other), ExitCode.REFUSED, "of the server 1, and this is"),
        (_forged(plan, database=elsewhere), ExitCode.REFUSED, "is for the database elsewhere of the server"),
        (_forged(plan, options=gone), ExitCode.USAGE, "No organization"),
        (
            _with_window(plan, "2200-01-01T00:00", "2200-01-02T00:00"),
            ExitCode.USAGE,
            "The window 2200-01-01/2200-01-02 of",
        ),
        (_with_window(plan, "2026-10-05T00:00", "2026-10-05T12:00"), ExitCode.USAGE, "is no whole day."),
        (_with_window(plan, "2026-10-05T00:00", "2026-10-07T00:00"), ExitCode.USAGE, "is no whole day."),
    ]
    for text, code, words in cases:
        file.write_text(text)
        assert words in " ".join(_apply(direct_settings, file, code).split()), words
    assert session.row(_RECORDS) == {"backfills": 0, "runs": 0}
    absent = backfill("apply", str(file.with_name("none.json")), settings=direct_settings)
    assert (absent.returncode, "cannot be read: No such file" in absent.stderr) == (ExitCode.USAGE, True)


def test_an_overlapping_backfill_is_named_and_an_applied_plan_is_done_once(
    direct_settings: Settings, session: Session, file: Path
) -> None:
    _plan(direct_settings, file)
    session.execute(
        b"INSERT INTO mauntic_jobs.backfills (job, range_start, range_end, reprocess, newest_first, parallel,"
        b" stop_after_failures, host, pid, state) VALUES ('aggregate-hourly', '2026-10-07', '2026-10-20', '{missing}',"
        b" false, 1, 5, 'h', 1, 'paused')"
    )
    assert "Backfill 1 of aggregate-hourly (paused) has" in _apply(direct_settings, file, ExitCode.TRY_LATER)
    session.execute(b"UPDATE mauntic_jobs.backfills SET state = 'canceled', ended_at = created_at")
    _apply(direct_settings, file, ExitCode.DONE)
    assert stored_rollups(session) == reference_rollups(_EVENTS)
    assert "the recorded rows have changed in 2026-10-05/2026-10-06" in _apply(direct_settings, file, ExitCode.REFUSED)
    # Nothing is missing any more: a new plan leaves all windows out, and there is nothing to apply.
    plan = _plan(direct_settings, file)
    assert [each["preview"] for each in plan["windows"]] == [None] * 3
    assert "has nothing to do: all of its 3 windows are left out" in _apply(direct_settings, file, ExitCode.USAGE)


def test_a_job_without_windows_and_a_file_that_cannot_be_written_are_told(
    direct_settings: Settings, tmp_path: Path
) -> None:
    path = tmp_path / "none" / "plan.json"
    done = backfill("plan", HOURLY, *_THREE, "--out", str(path), settings=direct_settings)
    assert (done.returncode, f"{path} cannot be written: No such file" in done.stderr) == (ExitCode.USAGE, True)
    done = backfill("plan", "warmup-daily-reset", *_THREE, settings=direct_settings)
    assert (done.returncode, "has no windows to backfill" in done.stderr) == (ExitCode.USAGE, True)


def test_hours_that_another_program_added_are_withheld_as_planned(direct_settings: Settings) -> None:
    """A run lowers what grew by the events of a whole hour, unasked; a plan that does not say so is done as it says."""
    owner, one = organization(1), day("2026-10-05")
    now, job = utc("2026-10-05T10:10"), JOBS[HOURLY]
    with connect(direct_settings) as session:
        add_events(session, [Event(owner, contact(n), "email_sent", utc("2026-10-05T09:30")) for n in range(3)])
        assert run(request(direct_settings, one, now=now, options={"grace": "0s"})).error is None
        session.execute(b"UPDATE analytics.event_aggregates SET count = count + 3")
        with session.look():
            assert job.verify is not None
            found = job.verify(session, job.options(), direct_settings, one, FigureLook(0, preview=True)).preview
        assert found is not None
        assert (found.withheld, found.present, found.future) == (1, 6, 6)
        planned = request(direct_settings, one, now=now, options={"grace": "0s"}, expects=found.fingerprint)
        assert isinstance(run(planned).error, RefusedError)
        assert set(stored_rollups(session).values()) == {(6, 3)}
        assert run(request(direct_settings, one, now=now, options={"grace": "0s"})).error is None
        assert set(stored_rollups(session).values()) == {(3, 3)}
