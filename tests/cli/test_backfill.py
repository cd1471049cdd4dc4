"""The commands `backfill` and `coverage`: what cannot be meant, and what they print."""

import json
from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import urlsplit

import pytest

from mauntic_jobs.backfill.coverage import BucketCoverage, BucketState
from mauntic_jobs.cli.coverage.calendar import calendar_lines
from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.window import Unit, Window
from tests.support import Event, add_events, contact, organization, run_program, stored_rollups, utc

JOB = "aggregate-hourly"
_WEEK = ("--window", "2026-10-05/2026-10-12")
_EMPTY = "its end must come after its start"
_RECORDS = (
    b"SELECT (SELECT count(*) FROM mauntic_jobs.backfills) AS backfills,"
    b" (SELECT count(*) FROM mauntic_jobs.runs) AS runs"
)
_OVERLAP = (
    "Backfill 1 of aggregate-hourly (paused) has 2026-10-05/2026-10-12, and so part of 2026-10-11/2026-10-20. "
    "To go on with it: mauntic-jobs backfill resume 1. To end it: mauntic-jobs backfill cancel 1."
)
_CANCELED = (
    "Backfill 3 was canceled, and does not go on. What it left: mauntic-jobs backfill run aggregate-hourly "
    "--window 2026-08-03/2026-08-10"
)


def _fill(settings: Settings) -> None:
    with connect(settings) as session:
        days = [f"2026-10-{number:02}T10:00" for number in range(5, 12)]
        add_events(session, [Event(organization(1), contact(1), "email_opened", utc(at)) for at in days])


@pytest.fixture(scope="module")
def used(servers: Servers, template: str) -> Iterator[Settings]:
    """Yield the settings of one database for all, with a backfill that is paused, one that ended and a canceled one."""
    url = urlsplit(servers.database_url)._replace(path="/backfilled").geturl()
    with connect(Settings(database_url=servers.database_url)) as owner:
        owner.execute_alone(f"CREATE DATABASE backfilled TEMPLATE {template}".encode())
        settings = Settings(database_url=url)
        _fill(settings)
        with connect(settings) as session:
            session.execute(
                b"INSERT INTO mauntic_jobs.backfills (job, range_start, range_end, reprocess, newest_first, parallel,"
                b" stop_after_failures, host, pid, state, ended_at) SELECT 'aggregate-hourly', start, start + interval"
                b" '7 days', '{missing}', false, 1, 5, 'h', 1, state, ended FROM (VALUES"
                b" ('2026-10-05'::timestamptz, 'paused', NULL), ('2026-08-03', 'ended', '2026-10-06'::timestamptz),"
                b" ('2026-08-03', 'canceled', '2026-10-06')) AS made (start, state, ended)"
            )
        yield settings
        owner.execute_alone(b"DROP DATABASE backfilled WITH (FORCE)")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("run", "nonsense", *_WEEK), ExitCode.USAGE, "There is no job nonsense. The jobs are: aggregate-hourly"),
        (
            ("run", "segment-trigger-eval", *_WEEK),
            ExitCode.USAGE,
            "segment-trigger-eval has no windows to backfill: it looks at the present. Run it once more with",
        ),
        (("run", JOB), ExitCode.USAGE, "Say which windows: --from and --to, --window, --last or --month."),
        (("run", JOB, *_WEEK, "--last", "3d"), ExitCode.USAGE, "Name the range in one way only"),
        (("run", JOB, "--to", "2026-10-05"), ExitCode.USAGE, "--to needs --from"),
        (("run", JOB, "--from", "2200-01-01", "--to", "2200-02-01"), ExitCode.USAGE, "is in the future: it is 20"),
        (
            ("run", JOB, "--from", "2026-10-05", "--to", "2026-10-05"),
            ExitCode.USAGE,
            "its end must come after its start",
        ),
        (
            ("run", JOB, "--from", "2026-10-06", "--to", "2026-10-05"),
            ExitCode.USAGE,
            "its end must come after its start",
        ),
        (("run", JOB, "--from", "soon"), ExitCode.USAGE, "Cannot read 'soon' as a time: write it like 2026-10-01"),
        (("run", JOB, "--from", "1960-01-01", "--to", "2026-10-05"), ExitCode.USAGE, "starts before 1970"),
        (("run", JOB, "--month", "2026-13"), ExitCode.USAGE, "write it like 2026-10"),
        (("run", JOB, *_WEEK, "--org", "acme"), ExitCode.USAGE, "--org acme: Input should be a valid UUID"),
        (("run", JOB, "--last", "3d", "--org", str(organization(9))), ExitCode.USAGE, "No organization"),
        (("run", JOB, *_WEEK, "--parallel", "0"), ExitCode.USAGE, "'--parallel'"),
        (("run", JOB, *_WEEK, "--stop-after-failures", "0"), ExitCode.USAGE, "'--stop-after-failures'"),
        (("run", JOB, *_WEEK, "--reprocess", "some"), ExitCode.USAGE, "'some' is not one of 'missing', 'failed',"),
        (("run", JOB, "--window", "2026-10-11T05:00/2026-10-20"), ExitCode.TRY_LATER, _OVERLAP),
        (
            ("show", "4711"),
            ExitCode.USAGE,
            "There is no backfill 4711. `mauntic-jobs backfill list` shows",
        ),
        (("resume", "4711"), ExitCode.USAGE, "There is no backfill 4711."),
        (("pause", "4711"), ExitCode.USAGE, "There is no backfill 4711."),
        (("cancel", "4711"), ExitCode.USAGE, "There is no backfill 4711."),
        (("show", "9" * 20), ExitCode.USAGE, "ID"),
        (("pause", "2"), ExitCode.USAGE, "Backfill 2 is ended: there is nothing to pause."),
        (("cancel", "2"), ExitCode.USAGE, "Backfill 2 has ended: there is nothing to cancel."),
        (("pause", "3"), ExitCode.USAGE, "Backfill 3 is canceled: there is nothing to pause."),
        (("resume", "3"), ExitCode.USAGE, _CANCELED),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else "",
)
def test_what_cannot_be_done_says_why_and_changes_nothing(
    used: Settings, arguments: tuple[str, ...], code: ExitCode, words: str
) -> None:
    with connect(used) as session:
        before = session.row(_RECORDS)
        done = run_program("backfill", *arguments, settings=used)
        said = " ".join(done.stderr.replace("│", " ").split())
        assert (done.returncode, done.stdout, words in said) == (code, "", True), said
        assert session.row(_RECORDS) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nonsense",), "There is no job nonsense."),
        (("warmup-daily-reset",), "has no windows to backfill"),
        ((JOB, "--last", "0d"), _EMPTY),
        ((JOB, "--to", "2026-10-05"), "--to needs --from"),
        ((JOB, "--org", str(organization(9))), "No organization"),
    ],
    ids=" ".join,
)
def test_coverage_of_what_cannot_be_meant_exits_2(used: Settings, arguments: tuple[str, ...], words: str) -> None:
    done = run_program("coverage", *arguments, settings=used)
    assert (done.returncode, done.stdout, words in done.stderr) == (ExitCode.USAGE, "", True), done.stderr


def test_a_canceled_or_paused_one_may_be_canceled_or_paused_again(used: Settings) -> None:
    assert run_program("backfill", "cancel", "3", settings=used).returncode == ExitCode.DONE
    assert run_program("backfill", "pause", "1", settings=used).returncode == ExitCode.DONE


def test_a_dry_run_shows_what_would_be_run_and_why_and_writes_nothing(direct_settings: Settings) -> None:
    _fill(direct_settings)
    assert run_program(JOB, "--date", "2026-10-07", "--grace", "0s", settings=direct_settings).returncode == 0
    done = run_program("backfill", "run", JOB, *_WEEK, "--dry-run", settings=direct_settings)
    assert done.returncode == ExitCode.DONE
    assert [line.split()[:4] for line in done.stdout.splitlines()[1:]] == [
        ["2026-10-05/2026-10-07", "2", "waiting", "1"],
        ["2026-10-07/2026-10-08", "1", "skipped", "done:"],
        ["2026-10-08/2026-10-12", "4", "waiting", "1"],
    ]
    assert "6 windows would be run; nothing was written" in done.stderr
    with connect(direct_settings) as session:
        assert session.row(_RECORDS) == {"backfills": 0, "runs": 1}
        assert len(stored_rollups(session)) == 1


def test_nothing_to_do_is_no_backfill(direct_settings: Settings) -> None:
    done = run_program("backfill", "run", JOB, *_WEEK, settings=direct_settings)
    assert (done.returncode, "nothing to do in 7 windows" in done.stderr) == (ExitCode.DONE, True)
    assert run_program("backfill", "list", "--json", settings=direct_settings).stdout.strip() == "[]"


def test_one_organization_is_rebuilt_alone(direct_settings: Settings) -> None:
    _fill(direct_settings)
    with connect(direct_settings) as session:
        add_events(session, [Event(organization(2), contact(1), "email_opened", utc("2026-10-05T10:00"))])
        done = run_program("backfill", "run", JOB, *_WEEK, "--org", str(organization(2)), settings=direct_settings)
        assert done.returncode == ExitCode.DONE
        assert [key[0] for key in stored_rollups(session)] == [organization(2)]
    shown = json.loads(run_program("backfill", "show", "1", "--json", settings=direct_settings).stdout)
    assert shown["options"] == {"org": [str(organization(2))]}
    assert shown["windows"]["done"] == 1


def test_a_day_that_is_not_over_is_left_to_the_schedule(direct_settings: Settings) -> None:
    with connect(direct_settings) as session:
        add_events(session, [Event(organization(1), contact(1), "x", clock.now() - timedelta(seconds=1))])
    done = run_program("backfill", "run", JOB, "--last", "2d", "--json", settings=direct_settings)
    assert [each["found"] for each in json.loads(done.stdout)["each"]][-1] == "open"
    assert [each["state"] for each in json.loads(done.stdout)["each"]][-1] == "skipped"


def test_a_backfill_makes_up_for_slots_that_were_missed(direct_settings: Settings) -> None:
    _fill(direct_settings)
    assert run_program("backfill", "run", JOB, *_WEEK, settings=direct_settings).returncode == ExitCode.DONE
    shown = run_program("coverage", JOB, "--from", "2026-10-05", "--to", "2026-10-12", settings=direct_settings)
    assert shown.returncode == ExitCode.DONE
    assert shown.stdout.splitlines()[0] == "aggregate-hourly 2026-10-05/2026-10-12"
    assert shown.stdout.splitlines()[2] == "2026-10             # # # # # # #"


def test_coverage_names_what_is_to_be_rebuilt(direct_settings: Settings) -> None:
    _fill(direct_settings)
    shown = run_program("coverage", "--from", "2026-10-04", "--to", "2026-10-12", settings=direct_settings)
    assert shown.returncode == ExitCode.PARTIAL
    assert "2026-10           . M M M M M M M" in shown.stdout
    assert ". 1 empty  M 7 missing" in shown.stdout
    assert "mauntic-jobs backfill run aggregate-hourly --window 2026-10-05/2026-10-12" in shown.stderr
    for job in (JOB, "generate-daily-reports", "monthly-usage-summary"):
        assert f"\n{job} 2026-10-0" in f"\n{shown.stdout}"


def _bucket(start: str, unit: Unit, state: BucketState) -> BucketCoverage:
    begin = utc(start)
    return BucketCoverage(Window(begin, unit.after(begin)), state, "")


def test_a_calendar_is_at_most_80_columns_wide_and_read_without_colours() -> None:
    days = [day for month in (1, 2) for day in (f"2026-{month:02}-{number:02}T00:00" for number in range(1, 29))]
    states = list(BucketState)
    judged = [_bucket(day, Unit.DAY, states[number % len(states)]) for number, day in enumerate(days)]
    lines = [line.plain for line in calendar_lines(Unit.DAY, judged)]
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["1", "5", "10", "15", "20", "25", "30"]
    assert lines[1].split() == ["2026-01", *"#.MFSvo" * 4]
    # The 10th stands below its number.
    assert lines[1][lines[0].index("10")] == "#.MFSvo"[9 % 7]


@pytest.mark.parametrize(
    ("unit", "starts", "line"),
    [
        (Unit.MONTH, ["2025-12-01", "2026-01-01"], "2026        #"),
        (Unit.HOUR, ["2026-10-05T22:00", "2026-10-06T01:00"], "2026-10-06    #"),
    ],
)
def test_months_and_hours_have_lines_of_their_own(unit: Unit, starts: list[str], line: str) -> None:
    judged = [_bucket(start, unit, BucketState.DONE) for start in starts]
    assert calendar_lines(unit, judged)[2].plain == line
