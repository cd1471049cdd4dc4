import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.migrations.platform import create_platform
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.timekeeping import clock
from tests.support import Event, add_events, contact, organization, role, run_program, stored_rollups, utc

HIDDEN = "hunter2"
JOB = "aggregate-hourly"
DAY = ("--date", "2026-10-05")
SCHEMAS = "mauntic_jobs, analytics, delivery, journey, crm, content"
READ_ONLY = (
    f"GRANT USAGE ON SCHEMA {SCHEMAS} TO {{role}}",
    f"GRANT SELECT ON ALL TABLES IN SCHEMA {SCHEMAS} TO {{role}}",
)
# What a command could write to, where it is there.
WRITABLE = ("mauntic_jobs.runs", "mauntic_jobs.duplicates", "analytics.event_aggregates")
OBJECTS = b"SELECT oid, relname FROM pg_class WHERE oid >= 16384 ORDER BY oid"


@pytest.fixture(scope="module")
def used(servers: Servers, template: str) -> Iterator[Settings]:
    """Yield the settings of one database for all, in which a run of 5 October 2026 would write something."""
    url = urlsplit(servers.database_url)._replace(path="/used").geturl()
    with connect(Settings(database_url=servers.database_url)) as owner:
        owner.execute_alone(f"CREATE DATABASE used TEMPLATE {template}".encode())
        with connect(Settings(database_url=url)) as session:
            add_events(session, [Event(organization(1), contact(1), "email_opened", utc("2026-10-05T10:00"))])
        yield Settings(database_url=url)
        owner.execute_alone(b"DROP DATABASE used WITH (FORCE)")


def _written(settings: Settings) -> list[list[dict[str, Any]]]:
    """Return every object of the database, and every row that a command may have written."""
    with connect(settings) as session:
        present = session.rows(
            b"SELECT name FROM unnest(%(tables)s::text[]) AS name WHERE to_regclass(name) IS NOT NULL",
            {"tables": [*WRITABLE]},
        )
        tables = [b"SELECT * FROM " + row["name"].encode() + b" ORDER BY id" for row in present]
        return [session.rows(query) for query in (OBJECTS, *tables)]


def _expect(done: subprocess.CompletedProcess[str], code: ExitCode, *words: str) -> None:
    """Check that a command failed as one should: its code, nothing on stdout, and on stderr words and no traceback."""
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    # What Typer says is in a box, broken into lines.
    said = " ".join(done.stderr.replace("│", " ").split())
    for word in words:
        assert word in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            (JOB, "--date", "nonsense"),
            "Cannot read 'nonsense' as a date: write it like 2026-10-01, today or yesterday.",
        ),
        ((JOB, "--date", "2026-02-30"), "Cannot read '2026-02-30' as a"),
        ((JOB, "--date", "9999-12-31"), "the calendar ends there"),
        ((JOB, "--window", "2026-10-05"), "write START/END, like 2026-10-01T09:00/2026-10-01T12:00"),
        ((JOB, "--window", "2026-10-05/tomorrow"), "Cannot read 'tomorrow' as a time: write it like 2026-10-01"),
        ((JOB, "--window", "2026-10-06/2026-10-05"), "its end must come after its start"),
        ((JOB, "--window", "2200-01-01/2200-01-02"), "is in the future: it is 20"),
        ((JOB, "--window", "1969-12-31/2026-10-06"), "starts before 1970: check the year"),
        ((JOB, "--window", "0001-01-01T00:00+02:00/2026-10-05"), "0001-01-01"),
        ((JOB, "--last", "3"), "Cannot read '3' as a length of time: write it like 90s, 15m, 2h, 3d"),
        ((JOB, "--last", "999999d"), "the calendar does not reach that far"),
        ((JOB, *DAY, "--last", "3d"), "Give only one of --"),
        ((JOB, "--window", "2026-10-05/2026-10-06", "--last", "3d"), "Give only one of --"),
        ((JOB, *DAY, "--org", str(organization(1)), "--org", "acme"), "--org acme: Input should be a valid UUID"),
        ((JOB, *DAY, "--grace", "soon"), "--grace soon: Cannot read 'soon' as a length of time"),
        ((JOB, *DAY, "--overlap", "perhaps"), "'--overlap': 'perhaps' is not one of 'skip', 'wait',"),
        ((JOB, *DAY, "--nonsense"), "No such option: --nonsense"),
        ((JOB, "2026-10-05"), "unexpected extra argument"),
        (("aggregate-hourli",), "No such command 'aggregate-hourli'"),
        (("runs", "show"), "Missing argument 'RUN'"),
        (("runs", "show", "4711"), "There is no run 4711. `mauntic-jobs runs list` shows those there are."),
        (("runs", "show", "9" * 20), "RUN"),
        (("runs", "list", "--limit", "0"), "'--limit'"),
        (("runs", "list", "--limit", "9" * 20), "--limit"),
        (("runs", "list", "--since", "yesterday"), "write it like 90s, 15m, 2h, 3d"),
        (("runs", "list", "--since", "999999d"), "999999d"),
        (("runs", "list", "--job", "nonsense"), "There is no job nonsense. The jobs are: aggregate-hourly"),
        (
            ("runs", "list", "--status", "nonsense"),
            "one of running, succeeded, failed, stopped, skipped, lost, missed, superseded.",
        ),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else "",
)
def test_what_cannot_be_meant_exits_2_and_changes_nothing(
    used: Settings, arguments: tuple[str, ...], words: str
) -> None:
    before = _written(used)
    _expect(run_program(*arguments, settings=used), ExitCode.USAGE, words)
    assert _written(used) == before


def test_a_window_that_begins_with_the_next_minute_is_in_the_future(used: Settings) -> None:
    start = clock.now().replace(second=0, microsecond=0) + timedelta(minutes=2)
    window = f"{start:%Y-%m-%dT%H:%M}/{start + timedelta(hours=1):%Y-%m-%dT%H:%M}"
    _expect(run_program(JOB, "--window", window, settings=used), ExitCode.USAGE, f"The window {start:%Y-%m-%dT%H:%M}Z/")


def test_an_unknown_organization_exits_2_and_rebuilds_nothing(used: Settings) -> None:
    done = run_program(JOB, *DAY, "--org", str(organization(99)), settings=used)
    _expect(done, ExitCode.USAGE, f"No organization {organization(99)}", "Check --org.")
    with connect(used) as session:
        assert stored_rollups(session) == {}


@pytest.mark.parametrize("arguments", [(JOB, *DAY), ("runs", "list"), ("db", "status"), ("db", "upgrade")])
def test_without_an_address_both_ways_to_a_database_are_named(arguments: tuple[str, ...]) -> None:
    _expect(run_program(*arguments), ExitCode.CONFIGURATION, "Set DATABASE_URL", "--embedded")


@pytest.mark.parametrize("arguments", [(JOB, *DAY), ("runs", "list"), ("db", "upgrade")])
def test_a_database_that_cannot_be_reached_exits_69(arguments: tuple[str, ...]) -> None:
    url = f"postgresql://app:{HIDDEN}@127.0.0.1:1/x"
    done = run_program(*arguments, DATABASE_URL=url, MAUNTIC_MAX_ATTEMPTS="1")
    _expect(
        done, ExitCode.UNAVAILABLE, "Cannot reach Postgres at postgresql://app:***@127.0.0.1:1/x", "Check that it is"
    )
    assert HIDDEN not in done.stderr


@pytest.mark.parametrize("arguments", [(JOB, *DAY), ("runs", "list")])
def test_a_wrong_password_exits_78_and_is_not_repeated(used: Settings, arguments: tuple[str, ...]) -> None:
    before = _written(used)
    assert used.database_url
    url = urlsplit(used.database_url.get_secret_value())
    wrong = url._replace(netloc=f"mauntic:{HIDDEN}@{url.hostname}:{url.port}").geturl()
    done = run_program(*arguments, DATABASE_URL=wrong)
    _expect(done, ExitCode.CONFIGURATION, "password authentication failed", "Check DATABASE_URL.")
    assert HIDDEN not in done.stderr
    assert _written(used) == before


@pytest.mark.parametrize("mark", ["#", "/", " "])
def test_a_password_that_breaks_its_url_is_not_repeated(mark: str) -> None:
    url = f"postgresql://app:a{mark}{HIDDEN}@127.0.0.1:1/x"
    for arguments in (("runs", "list"), ("config", "show")):
        done = run_program(*arguments, DATABASE_URL=url)
        assert HIDDEN not in done.stdout + done.stderr


def test_an_unknown_database_exits_78(used: Settings) -> None:
    assert used.database_url
    nowhere = urlsplit(used.database_url.get_secret_value())._replace(path="/nothing_of_that_name").geturl()
    done = run_program(JOB, *DAY, DATABASE_URL=nowhere)
    _expect(done, ExitCode.CONFIGURATION, '"nothing_of_that_name" does not exist', "Check DATABASE_URL.")


@pytest.fixture
def platform_only(empty_database: Settings) -> Settings:
    """Return the settings of a database with the platform's tables, that `db upgrade` has not seen yet."""
    with connect(empty_database) as session:
        create_platform(session)
        add_events(session, [Event(organization(1), contact(1), "email_opened", utc("2026-10-05T10:00"))])
    return empty_database


@pytest.mark.parametrize("arguments", [(JOB, *DAY), ("runs", "list"), ("runs", "show", "1")])
def test_a_database_that_was_not_upgraded_exits_78(platform_only: Settings, arguments: tuple[str, ...]) -> None:
    before = _written(platform_only)
    done = run_program(*arguments, settings=platform_only)
    _expect(done, ExitCode.CONFIGURATION, "mauntic_jobs.runs", "Run `mauntic-jobs db upgrade` first.")
    assert _written(platform_only) == before


@pytest.mark.parametrize("arguments", [("db", "upgrade"), ("db", "upgrade", "--dry-run"), ("db", "status")])
def test_a_database_without_a_table_of_the_platform_exits_78(
    platform_only: Settings, arguments: tuple[str, ...]
) -> None:
    with connect(platform_only) as session:
        session.execute(b"DROP TABLE analytics.event_aggregates")
    before = _written(platform_only)
    done = run_program(*arguments, settings=platform_only)
    _expect(done, ExitCode.CONFIGURATION, "analytics.event_aggregates missing", "Check DATABASE_URL", "init-platform")
    assert _written(platform_only) == before


def test_a_job_without_a_table_of_the_platform_exits_78(direct_settings: Settings) -> None:
    with connect(direct_settings) as session:
        session.execute(b"DROP TABLE analytics.contact_activity")
    done = run_program(JOB, *DAY, settings=direct_settings)
    _expect(done, ExitCode.CONFIGURATION, "analytics.contact_activity", "check that DATABASE_URL names the platform's")


def test_a_platform_that_is_there_is_not_made_again(used: Settings) -> None:
    before = _written(used)
    _expect(run_program("db", "init-platform", settings=used), ExitCode.REFUSED, "already has analytics", "only for an")
    assert _written(used) == before


@pytest.fixture
def reader(used: Settings) -> Iterator[Settings]:
    """Yield the settings of a role that may read everything and write nothing."""
    with role(used, *READ_ONLY) as settings:
        yield settings


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((JOB, *DAY), ("Permission denied for table runs.", "Grant the role")),
        (("db", "init-platform"), ("already has analytics",)),
    ],
)
def test_a_role_that_may_only_read_exits_without_a_change(
    used: Settings, reader: Settings, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    before = _written(used)
    done = run_program(*arguments, settings=reader)
    _expect(done, ExitCode.REFUSED if "init-platform" in arguments else ExitCode.CONFIGURATION, *words)
    assert _written(used) == before


def test_a_role_that_may_not_upgrade_is_told_what_it_lacks(platform_only: Settings) -> None:
    before = _written(platform_only)
    with role(platform_only) as nobody:
        done = run_program("db", "upgrade", settings=nobody)
    _expect(done, ExitCode.CONFIGURATION, "Permission denied for", "Grant the role")
    assert _written(platform_only) == before


@pytest.mark.parametrize("arguments", [("runs", "list"), ("db", "status"), ("db", "upgrade"), (JOB, *DAY, "--dry-run")])
def test_a_role_that_may_only_read_can_look(reader: Settings, arguments: tuple[str, ...]) -> None:
    done = run_program(*arguments, settings=reader)
    assert (done.returncode, done.stderr) == (ExitCode.DONE, "")


def test_a_role_whose_transactions_are_read_only_is_told_to_use_another(used: Settings) -> None:
    before = _written(used)
    read_only = "ALTER ROLE {role} SET default_transaction_read_only = on"
    with role(used, read_only, options="SUPERUSER") as settings:
        done = run_program(JOB, *DAY, settings=settings)
    _expect(done, ExitCode.CONFIGURATION, "read-only", "use the primary, and a role that may write")
    assert _written(used) == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("work_mem = ", "Cannot read the configuration file"),
        ("databse_url = 'postgresql://app:hunter2@db/x'", "databse_url (from FILE): no such setting"),
        ("max_attempts = 0", "max_attempts (from FILE): Input should be greater than 0"),
        (
            "takeover_after = 'soon'",
            "takeover_after (from FILE): Cannot read 'soon' as a length of time: write it like",
        ),
        ("[jobs.aggregate-hourly]\nattempts = 1", "jobs.aggregate-hourly.attempts (from FILE): no such setting"),
        (None, "FILE does not exist"),
    ],
)
def test_a_broken_configuration_file_exits_78(used: Settings, tmp_path: Path, content: str | None, words: str) -> None:
    file = tmp_path / "broken.toml"
    if content is not None:
        file.write_text(content)
    before = _written(used)
    done = run_program(JOB, *DAY, "--config", str(file), settings=used)
    _expect(done, ExitCode.CONFIGURATION, words.replace("FILE", str(file)))
    assert HIDDEN not in done.stderr
    assert _written(used) == before


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("MAUNTIC_MAX_ATTEMPTS", "many", "max_attempts (from environment): Input should be a valid integer"),
        ("MAUNTIC_JOBS", "many", "MAUNTIC_JOBS must be JSON"),
    ],
)
def test_a_broken_variable_exits_78(used: Settings, name: str, value: str, words: str) -> None:
    _expect(run_program(JOB, *DAY, settings=used, **{name: value}), ExitCode.CONFIGURATION, words)
