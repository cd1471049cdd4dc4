"""The command `verify`: what cannot be meant, what it prints, its exit codes, its alert and its nightly slot."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from mauntic_jobs.errors import ExitCode
from mauntic_jobs.runner.request import Launcher
from mauntic_jobs.runner.run import run
from mauntic_jobs.scheduler.upkeep import TASKS
from mauntic_jobs.scheduler.upkeep_runner import UpkeepRunner
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, connect
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.window import Unit, Window
from tests.support import Event, add_events, contact, organization, request, role, run_program, stored_rollups

JOB = "aggregate-hourly"
_ACME = organization(1)
# The day before yesterday must be the same day at the beginning and at the end of a test.
pytestmark = pytest.mark.usefixtures("same_day")
_ALERTS = b"SELECT fingerprint, severity, action, closed_at FROM mauntic_jobs.alerts ORDER BY id"


@pytest.fixture
def day() -> Window:
    """Return the day before yesterday."""
    start = Unit.DAY.floor(clock.now()) - timedelta(days=2)
    return Window(start, start + timedelta(days=1))


@pytest.fixture
def session(direct_settings: Settings, day: Window) -> Iterator[Session]:
    """Yield a session of a database in which a day of two organizations is recorded."""
    with connect(direct_settings) as opened:
        add_events(opened, [Event(organization(n), contact(1), "email_sent", day.start) for n in (1, 2)])
        assert run(request(direct_settings, day, options={"grace": "0s"})).error is None
        yield opened


def _verify(settings: Settings, *arguments: str, code: ExitCode) -> tuple[str, str]:
    done = run_program("verify", *arguments, settings=settings)
    assert done.returncode == code, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    return done.stdout, "\n".join(str(line["event"]) for line in lines) or done.stderr


def _document(settings: Settings, *arguments: str, code: ExitCode) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(_verify(settings, *arguments, "--json", code=code)[0])
    assert document["exit_code"] == code
    return document


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nonsense",), "There is no job nonsense."),
        (("stale-execution-cleanup",), "stale-execution-cleanup records no figures to verify."),
        ((JOB, "--to", "2026-10-05"), "--to needs --from"),
        ((JOB, "--from", "2026-10-05", "--last", "3d"), "Name the range in one way only"),
        ((JOB, "--from", "2200-01-01", "--to", "2200-02-01"), "is in the future"),
        ((JOB, "--org", "acme"), "--org acme: Input should be a valid UUID"),
        ((JOB, "--sample", "0%"), "Cannot read '0%' as a share: write it like 10%"),
        ((JOB, "--sample", "101%"), "Cannot read '101%' as a share"),
        ((JOB, "--sample", "ten"), "Cannot read 'ten' as a share"),
        ((JOB, "--seed", "7"), "--seed draws a --sample"),
        ((JOB, "--seed", "-1", "--sample", "5%"), "'--seed'"),
        ((JOB, "--limit", "0"), "'--limit'"),
        ((JOB, "--allow-shrink"), "--allow-shrink is for --repair"),
        ((JOB, "--alert", "--sample", "5%"), "--alert looks at all organizations"),
        ((JOB, "--alert", "--org", str(_ACME)), "--alert looks at all organizations"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else "",
)
def test_what_cannot_be_meant_says_why(arguments: tuple[str, ...], words: str) -> None:
    done = run_program("verify", *arguments, settings=Settings(database_url="postgresql://127.0.0.1:1/none"))
    said = " ".join(done.stderr.replace("│", " ").split())
    assert (done.returncode, done.stdout, words in said) == (ExitCode.USAGE, "", True), said


def test_it_says_what_differs_and_repairs_that(direct_settings: Settings, session: Session, day: Window) -> None:
    printed, said = _verify(direct_settings, JOB, "--last", "3d", code=ExitCode.DONE)
    assert (printed, "aggregate-hourly: 2 groups of 3 days agree with the raw events" in said) == ("", True)
    session.execute(b"UPDATE analytics.event_aggregates SET count = 0 WHERE organization_id = %(org)s", {"org": _ACME})
    printed, said = _verify(direct_settings, JOB, "--last", "3d", code=ExitCode.PARTIAL)
    assert printed.splitlines()[1].split() == [str(_ACME), str(day.start.date()), "email_sent", "count", "0", "1", "-"]
    assert "1 of 2 groups of 3 days differ" in said
    start, _, end = str(day).partition("/")
    command = ["verify", JOB, "--from", start, "--to", end, "--repair"]
    assert f"To repair them: mauntic-jobs {' '.join(command)}" in said
    printed, said = _verify(direct_settings, *command[1:], code=ExitCode.DONE)
    assert (printed, "1 of 1 group repaired by 1 run" in said) == ("", True)
    assert set(stored_rollups(session).values()) == {(1, 1)}


def test_what_the_shrink_guard_withholds_is_told_and_not_forced(
    direct_settings: Settings, session: Session, day: Window
) -> None:
    session.execute(b"UPDATE analytics.event_aggregates SET count = 5 WHERE organization_id = %(org)s", {"org": _ACME})
    days = ("--from", str(day.start.date()), "--repair")
    printed, said = _verify(direct_settings, JOB, *days, code=ExitCode.PARTIAL)
    assert "shrinks" in printed
    assert "recorded values would fall, from 5 to 1" in said
    assert "run the same command with --allow-shrink" in said
    assert sorted(stored_rollups(session).values()) == [(1, 1), (5, 1)]
    found = _document(direct_settings, JOB, *days, "--allow-shrink", code=ExitCode.DONE)
    (bucket,) = [each for each in found["jobs"][0]["buckets"] if each["runs"]]
    assert (bucket["differing"], bucket["left"], len(bucket["runs"])) == (1, 0, 1)
    assert set(stored_rollups(session).values()) == {(1, 1)}


def test_a_sample_tells_its_seed_and_can_be_drawn_again(
    direct_settings: Settings, session: Session, day: Window
) -> None:
    add_events(session, [Event(organization(n), contact(1), "email_sent", day.start) for n in range(10, 60)])
    found = _document(direct_settings, JOB, "--sample", "50%", "--seed", "3", code=ExitCode.PARTIAL)
    assert found["sample"] == {"share": 0.5, "seed": 3}
    again = _document(direct_settings, JOB, "--sample", "50 %", "--seed", "3", code=ExitCode.PARTIAL)
    assert again == found
    seeds = {
        _document(direct_settings, JOB, "--sample", "0.000001%", code=ExitCode.DONE)["sample"]["seed"] for _ in range(3)
    }
    assert len(seeds) == 3
    _, said = _verify(direct_settings, JOB, "--sample", "50%", "--seed", "3", code=ExitCode.PARTIAL)
    assert "sample: --sample 50% --seed 3" in said
    assert "--sample 50% --seed 3 --repair" in said


def test_without_a_job_all_that_record_figures_are_verified(direct_settings: Settings, day: Window) -> None:
    with connect(direct_settings) as session:
        add_events(session, [Event(_ACME, contact(1), "email_sent", day.start - timedelta(days=40))])
    found = _document(direct_settings, "--last", "80d", code=ExitCode.PARTIAL)
    differing = {each["job"]: sum(bucket["differing"] for bucket in each["buckets"]) for each in found["jobs"]}
    # The event is of no campaign.
    assert differing == {JOB: 1, "generate-daily-reports": 0, "monthly-usage-summary": 1}


def test_it_writes_nothing(direct_settings: Settings, session: Session) -> None:
    """A role that may read, and make temporary tables, is enough."""
    grants = (
        "GRANT USAGE ON SCHEMA analytics, mauntic_jobs TO {role}",
        "GRANT SELECT ON ALL TABLES IN SCHEMA analytics, mauntic_jobs TO {role}",
    )
    session.execute(b"UPDATE analytics.event_aggregates SET count = 0")
    with role(direct_settings, *grants) as reader:
        _verify(reader, "--last", "3d", code=ExitCode.PARTIAL)
        planned = run_program("backfill", "plan", JOB, "--last", "3d", settings=reader)
        assert planned.returncode == ExitCode.DONE, planned.stderr


def _open(session: Session) -> list[tuple[str, str, str]]:
    rows = session.rows(_ALERTS)
    return [(row["fingerprint"], row["severity"], row["action"]) for row in rows if row["closed_at"] is None]


def test_every_night_it_raises_an_alert_and_ends_it(direct_settings: Settings, session: Session, day: Window) -> None:
    task = next(each for each in TASKS if each.name == "verify")
    on = Settings(**{**direct_settings.model_dump(), "upkeep": True})

    def night() -> tuple[int, int]:
        session.execute(b"DELETE FROM mauntic_jobs.upkeep")
        with UpkeepRunner(on, Launcher.SCHEDULE, lambda _: None, [task]) as upkeep:
            upkeep.start_due(session)
        row = session.row(b"SELECT exit_code, failures FROM mauntic_jobs.upkeep WHERE task = 'verify'")
        return row["exit_code"], row["failures"]

    # What came late is counted the next night, and no alert.
    add_events(session, [Event(_ACME, contact(2), "email_sent", day.start)])
    assert (night(), _open(session)) == ((ExitCode.PARTIAL, 0), [])
    assert run(request(direct_settings, day, options={"grace": "0s"})).error is None
    assert (night(), _open(session)) == ((ExitCode.DONE, 0), [])
    session.execute(b"DELETE FROM analytics.event_aggregates WHERE organization_id = %(org)s", {"org": _ACME})
    start, _, end = str(day).partition("/")
    action = f"mauntic-jobs verify aggregate-hourly --from {start} --to {end} --repair --alert"
    assert (night(), _open(session)) == (
        (ExitCode.PARTIAL, 0),
        [("figures differ:aggregate-hourly", "error", action)],
    )
    # A look at other days does not end it, nor does one that finds the same again.
    _verify(direct_settings, JOB, "--from", end, "--alert", code=ExitCode.DONE)
    _verify(direct_settings, "monthly-usage-summary", "--last", "1h", "--alert", code=ExitCode.DONE)
    assert [each[0] for each in _open(session)] == ["figures differ:aggregate-hourly"]
    add_events(session, [Event(_ACME, contact(1), "email_sent", day.end)])
    _verify(direct_settings, JOB, "--from", end, "--alert", code=ExitCode.PARTIAL)
    after = (day.end + timedelta(days=1)).date()
    action = action.replace(f"--to {end}", f"--to {after}")
    assert [each[2] for each in _open(session)] == [action]
    _verify(direct_settings, *action.split()[2:], code=ExitCode.DONE)
    assert _open(session) == []
    assert night() == (ExitCode.DONE, 0)


def test_a_night_that_cannot_compare_has_failed_and_ends_no_alert(direct_settings: Settings, session: Session) -> None:
    session.execute(b"UPDATE analytics.event_aggregates SET count = 0")
    _verify(direct_settings, JOB, "--alert", code=ExitCode.PARTIAL)
    assert len(_open(session)) == 1
    session.execute(b"UPDATE analytics.event_aggregates SET count = 1")
    with connect(direct_settings) as other, other.transaction():
        other.execute(b"LOCK TABLE analytics.event_aggregates IN ACCESS EXCLUSIVE MODE")
        done = run_program(
            *("verify", JOB, "--last", "2d", "--alert"), settings=direct_settings, MAUNTIC_STATEMENT_TIMEOUT="0.2s"
        )
    assert (done.returncode, "could not be compared" in done.stderr) == (ExitCode.TIMEOUT, True)
    assert len(_open(session)) == 1
    _verify(direct_settings, JOB, "--alert", code=ExitCode.DONE)
    assert _open(session) == []
