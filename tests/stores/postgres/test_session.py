import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest

from mauntic_jobs.embedded import binaries, die_with_parent as children, directories as home
from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.errors import (
    ConfigurationError,
    ConflictError,
    ContentionError,
    ExitCode,
    JobFailedError,
    MaunticJobsError,
    StatementTimeoutError,
    UnavailableError,
)
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Limits, Session, connect, json
from tests.support import role, wait_until

PASSWORD = "hunter2"  # noqa: S105 - of nobody
INSERT = (
    b"INSERT INTO analytics.event_aggregates (organization_id, date, event_type)"
    b" VALUES (gen_random_uuid(), '2026-10-05', 'x')"
)
PLAIN = Limits()
COUNT = b"SELECT count(*) AS rows FROM analytics.event_aggregates"
LOCAL = b"""
SELECT current_setting('application_name') AS application_name, current_setting('TimeZone') AS time_zone,
       current_setting('statement_timeout') AS statement_timeout, current_setting('work_mem') AS work_mem,
       current_setting('idle_in_transaction_session_timeout') AS idle_timeout
"""


def _url(settings: Settings, **changes: Any) -> Settings:
    """Return the settings with parts of the address replaced."""
    assert settings.database_url
    url = urlsplit(settings.database_url.get_secret_value())._replace(**changes)
    return Settings(**{**settings.model_dump(), "database_url": url.geturl()})


def _raise(sqlstate: str) -> bytes:
    return f"DO $$ BEGIN RAISE EXCEPTION 'of the test' USING ERRCODE = '{sqlstate}'; END $$".encode()


def _transact(session: Session, *statements: bytes, limits: Limits = PLAIN) -> None:
    with session.transaction(limits):
        for statement in statements:
            session.execute(statement)


def _as_set(session: Session) -> Any:
    """Return the settings of a session outside its transactions."""
    return session._connection.execute(LOCAL).fetchone()


def _count(session: Session) -> int:
    return int(session.row(COUNT)["rows"])


def test_a_transaction_is_committed_as_a_whole(settings: Settings, session: Session) -> None:
    with connect(settings) as writer, writer.transaction():
        assert writer.execute(INSERT) == 1
        writer.execute(INSERT)
        assert _count(session) == 0
    assert _count(session) == 2


def test_an_error_of_the_server_rolls_back(session: Session) -> None:
    with pytest.raises(JobFailedError, match="of the test"):
        _transact(session, INSERT, _raise("P0001"))
    assert _count(session) == 0


def test_an_error_of_the_body_rolls_back_and_is_raised_as_it_is(session: Session) -> None:
    def fails(error: BaseException) -> None:
        with session.transaction():
            session.execute(INSERT)
            raise error

    for error in (ValueError("of the body"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as raised:
            fails(error)
        assert raised.value is error
    assert _count(session) == 0


def test_the_session_can_be_used_after_an_error(session: Session) -> None:
    with pytest.raises(JobFailedError):
        _transact(session, _raise("P0001"))
    _transact(session, INSERT)
    assert (_count(session), session.broken) == (1, False)


def test_a_rehearsal_is_rolled_back(session: Session) -> None:
    with session.rehearsal():
        session.execute(INSERT)
        assert _count(session) == 1
    assert _count(session) == 0


def test_an_error_in_a_rehearsal_is_raised(session: Session) -> None:
    with pytest.raises(JobFailedError, match="of the test"), session.rehearsal():
        session.execute(_raise("P0001"))


@pytest.fixture
def far_away(direct_settings: Settings) -> None:
    """Give the database a default time zone that is not UTC, before anyone connects to it by way of the pooler."""
    assert direct_settings.database_url
    name = urlsplit(direct_settings.database_url.get_secret_value()).path[1:]
    with connect(direct_settings) as owner:
        owner.execute(f"ALTER DATABASE {name} SET TimeZone = 'America/New_York'".encode())


@pytest.mark.usefixtures("far_away")
def test_the_settings_of_a_transaction_end_with_it(settings: Settings) -> None:
    limits = Limits("of the test", timedelta(seconds=11), timedelta(seconds=12), "13MB")
    with connect(settings) as session, connect(settings) as other:
        before = _as_set(session)
        with session.transaction(limits):
            assert session.row(LOCAL) == {
                "application_name": "of the test",
                "time_zone": "UTC",
                "statement_timeout": "11s",
                "idle_timeout": "12s",
                "work_mem": "13MB",
            }
        assert (before["time_zone"], before["statement_timeout"]) == ("America/New_York", "0")
        assert _as_set(session) == before
        assert _as_set(other) == before
        with other.transaction():
            assert other.row(LOCAL)["work_mem"] == before["work_mem"]


@pytest.mark.usefixtures("far_away")
def test_the_settings_of_a_transaction_that_failed_end_with_it(settings: Settings) -> None:
    with connect(settings) as session:
        before = _as_set(session)
        with pytest.raises(JobFailedError):
            _transact(session, _raise("P0001"), limits=Limits("of the test", work_mem="13MB"))
        assert _as_set(session) == before


def test_nothing_is_prepared_on_the_server(session: Session) -> None:
    for number in range(10):
        session.row(b"SELECT %(number)s::int AS number", {"number": number})
    assert session.rows(b"SELECT name FROM pg_prepared_statements") == []


def test_a_parameter_arrives_as_it_was_given(session: Session) -> None:
    values = ["'; DROP TABLE x; --", "100 %s %(value)s", "\\'\n", '"', "ünïcode ✓", None]
    parameters = {"values": values, "json": json(values)}
    row = session.row(b"SELECT %(values)s::text[] AS texts, %(json)s::jsonb AS json", parameters)
    assert row == {"texts": values, "json": values}


def test_rows_are_copied(session: Session) -> None:
    columns = b"(organization_id, date, event_type)"
    rows = [("00000000-0000-0000-0000-000000000001", "2026-10-05", text) for text in ("tab\tbed", "\\N", "line\nfeed")]
    session.copy(b"COPY analytics.event_aggregates " + columns + b" FROM STDIN", rows)
    stored = session.rows(b"SELECT event_type FROM analytics.event_aggregates ORDER BY event_type")
    assert [row["event_type"] for row in stored] == sorted(row[2] for row in rows)


def test_a_statement_that_runs_too_long_is_stopped(session: Session) -> None:
    limits = Limits(statement_timeout=timedelta(milliseconds=50))
    with pytest.raises(StatementTimeoutError, match="raise MAUNTIC_STATEMENT_TIMEOUT") as raised:
        _transact(session, INSERT, b"SELECT pg_sleep(60)", limits=limits)
    assert (raised.value.exit_code, raised.value.transient) == (ExitCode.TIMEOUT, True)
    assert _count(session) == 0


def test_a_running_statement_can_be_cancelled_from_another_thread(settings: Settings, session: Session) -> None:
    sleeping = (
        b"SELECT pid FROM pg_stat_activity"
        b" WHERE query LIKE '%SELECT pg_sleep(60.1)%' AND pid <> pg_backend_pid() AND state = 'active'"
    )
    with connect(settings) as sleeper, ThreadPoolExecutor(1) as pool:
        ended = pool.submit(sleeper.rows, b"SELECT pg_sleep(60.1)")
        wait_until(lambda: session.rows(sleeping), "a statement that runs")
        sleeper.cancel()
        with pytest.raises(MaunticJobsError, match="canceling statement"):
            ended.result(30)
        assert sleeper.row(b"SELECT 1 AS one") == {"one": 1}


@pytest.mark.parametrize(
    ("sqlstate", "error", "code", "transient"),
    [
        ("40001", ContentionError, ExitCode.FAILED, True),
        ("40P01", ContentionError, ExitCode.FAILED, True),
        ("55P03", ContentionError, ExitCode.FAILED, True),
        ("57014", StatementTimeoutError, ExitCode.TIMEOUT, True),
        ("57P01", UnavailableError, ExitCode.UNAVAILABLE, True),
        ("57P03", UnavailableError, ExitCode.UNAVAILABLE, True),
        ("53300", UnavailableError, ExitCode.UNAVAILABLE, True),
        ("53100", UnavailableError, ExitCode.UNAVAILABLE, True),
        ("08006", UnavailableError, ExitCode.UNAVAILABLE, True),
        ("23505", ConflictError, ExitCode.FAILED, False),
        ("25006", ConfigurationError, ExitCode.CONFIGURATION, False),
        ("28000", ConfigurationError, ExitCode.CONFIGURATION, False),
        ("42501", ConfigurationError, ExitCode.CONFIGURATION, False),
        ("42703", ConfigurationError, ExitCode.CONFIGURATION, False),
        ("23514", JobFailedError, ExitCode.FAILED, False),
        ("22012", JobFailedError, ExitCode.FAILED, False),
        ("XX000", JobFailedError, ExitCode.FAILED, False),
    ],
)
def test_an_error_of_the_server_tells_whether_it_can_pass(
    servers: Servers, sqlstate: str, error: type[MaunticJobsError], code: ExitCode, transient: bool
) -> None:
    with connect(Settings(database_url=servers.database_url)) as session, pytest.raises(MaunticJobsError) as raised:
        session.execute(_raise(sqlstate))
    assert type(raised.value) is error
    assert (raised.value.exit_code, raised.value.transient) == (code, transient)


def test_a_deadlock_can_be_tried_again(settings: Settings, session: Session) -> None:
    _transact(session, INSERT, INSERT)
    ids = [row["id"] for row in session.rows(b"SELECT id FROM analytics.event_aggregates")]
    both_hold_one = Barrier(2)

    def touch(first: UUID, second: UUID) -> None:
        statement = b"UPDATE analytics.event_aggregates SET count = count + 1 WHERE id = %(id)s"
        with connect(settings) as own, own.transaction():
            own.execute(b"SET LOCAL deadlock_timeout = '10ms'")
            own.execute(statement, {"id": first})
            both_hold_one.wait(30)
            own.execute(statement, {"id": second})

    with ThreadPoolExecutor(2) as pool:
        ends = [pool.submit(touch, *order) for order in (ids, reversed(ids))]
        errors = [error for error in (end.exception(30) for end in ends) if error]
    assert [type(error) for error in errors] == [ContentionError]
    assert session.row(b"SELECT sum(count) AS touched FROM analytics.event_aggregates") == {"touched": 2}


def test_a_backend_that_is_terminated_is_a_lost_connection(settings: Settings, session: Session) -> None:
    def work(victim: Session) -> None:
        with victim.transaction():
            victim.execute(INSERT)
            pid = victim.row(b"SELECT pg_backend_pid() AS pid")["pid"]
            session.row(b"SELECT pg_terminate_backend(%(pid)s)", {"pid": pid})
            victim.execute(INSERT)

    with connect(settings) as victim:
        with pytest.raises(UnavailableError, match="connection to Postgres was lost") as raised:
            work(victim)
        assert (raised.value.exit_code, victim.broken) == (ExitCode.UNAVAILABLE, True)
    assert _count(session) == 0


def test_a_transaction_that_idles_too_long_is_ended_by_the_server(settings: Settings, session: Session) -> None:
    def work(idle: Session) -> None:
        with idle.transaction(Limits(idle_timeout=timedelta(milliseconds=20))):
            idle.execute(INSERT)
            pid = {"pid": idle.row(b"SELECT pg_backend_pid() AS pid")["pid"]}
            gone = b"SELECT count(*) = 0 AS gone FROM pg_stat_activity WHERE pid = %(pid)s"
            wait_until(lambda: session.row(gone, pid)["gone"], "the end of the idle backend")
            idle.execute(INSERT)

    with connect(settings) as idle, pytest.raises(UnavailableError):
        work(idle)
    assert _count(session) == 0


def test_a_missing_table_of_ours_calls_for_an_upgrade(session: Session) -> None:
    upgrade = r"mauntic_jobs.* does not exist\. Run `mauntic-jobs db upgrade`"
    with pytest.raises(ConfigurationError, match=upgrade):
        session.execute(b"SELECT FROM mauntic_jobs.nothing")
    session.execute(b"DROP SCHEMA mauntic_jobs CASCADE")
    with pytest.raises(ConfigurationError, match=upgrade):
        session.execute(b"SELECT FROM mauntic_jobs.runs")
    with pytest.raises(ConfigurationError, match=upgrade):
        session.execute(b"INSERT INTO mauntic_jobs.runs DEFAULT VALUES")


def test_a_missing_table_of_the_platform_calls_for_another_address(session: Session) -> None:
    for statement in (b"SELECT FROM analytics.nothing", b"INSERT INTO nowhere.nothing DEFAULT VALUES"):
        with pytest.raises(ConfigurationError, match=r"does not exist\. It is a table of the platform: .*DATABASE_URL"):
            session.execute(statement)


def test_copying_into_a_missing_table_is_explained(session: Session) -> None:
    with pytest.raises(ConfigurationError, match="table of the platform"):
        session.copy(b"COPY analytics.nothing FROM STDIN", [("1",)])


def test_a_missing_column_of_the_platform_is_explained(session: Session) -> None:
    with pytest.raises(ConfigurationError, match=r"nothing.* other columns than mauntic-jobs knows"):
        session.execute(b"SELECT nothing FROM analytics.contact_activity")


def test_a_missing_unique_key_calls_for_an_upgrade(session: Session) -> None:
    session.execute(b"DROP INDEX analytics.mauntic_jobs_event_aggregates_key")
    with pytest.raises(ConfigurationError, match="unique key is missing: run `mauntic-jobs db upgrade`") as raised:
        session.execute(INSERT + b" ON CONFLICT (organization_id, date, event_type, channel) DO NOTHING")
    assert raised.value.exit_code == ExitCode.CONFIGURATION


def test_a_read_only_transaction_is_a_matter_of_configuration(session: Session) -> None:
    with pytest.raises(ConfigurationError, match="use the primary, and a role that may write"):
        _transact(session, b"SET TRANSACTION READ ONLY", INSERT)


def test_a_missing_privilege_is_named(session: Session) -> None:
    session.execute(b"CREATE TABLE public.theirs ()")
    for statement, thing in (
        (COUNT, "schema analytics"),
        (b"UPDATE mauntic_jobs.runs SET error = NULL", "schema mauntic_jobs"),
        (b"CREATE SCHEMA mine", "database"),
        (b"SELECT FROM public.theirs", "table theirs"),
    ):
        with pytest.raises(ConfigurationError, match=rf"Permission denied for {thing}.* Grant the role") as raised:
            _transact(session, b"SET LOCAL ROLE pg_monitor", statement)
        assert raised.value.exit_code == ExitCode.CONFIGURATION


@pytest.mark.parametrize(
    "statement",
    [
        b"INSERT INTO people VALUES (%(value)s, 2)",
        b"INSERT INTO people VALUES ('Bob', %(value)s::text::int)",
        b"INSERT INTO people VALUES (%(value)s, -1)",
        b"INSERT INTO people VALUES (%(value)s, NULL)",
        b"SELECT name::uuid FROM people",
        b"SELECT name::date FROM people",
        b"SELECT name::jsonb FROM people",
        b"SELECT name::inet FROM people",
        b"SELECT ('\"' || name || '\" \"')::uuid FROM people",
        b"SELECT (name || '-10-05')::timestamp FROM people",
        b"CREATE UNIQUE INDEX ON people ((left(name, 3)))",
    ],
)
def test_no_error_repeats_the_values_of_rows(servers: Servers, statement: bytes) -> None:
    people = b"CREATE TEMPORARY TABLE people (name text PRIMARY KEY, age int NOT NULL CHECK (age > 0))"
    with connect(Settings(database_url=servers.database_url)) as session:
        session.execute(people)
        session.execute(b"INSERT INTO people VALUES ('Ann Example', 1), ('Ann Other', 1)")
        with pytest.raises(MaunticJobsError) as raised:
            session.rows(statement, {"value": "Ann Example"} if b"%" in statement else None)
    assert "Ann" not in str(raised.value)


def test_a_row_that_is_there_twice_is_a_conflict_of_a_named_key(session: Session) -> None:
    session.execute(b"INSERT INTO mauntic_jobs.migrations VALUES (9000, 'x', 'x')")
    with pytest.raises(ConflictError, match="migrations_pkey"):
        session.execute(b"INSERT INTO mauntic_jobs.migrations VALUES (9000, 'x', 'x')")


@pytest.fixture
def standby(servers: Servers) -> Iterator[Settings]:
    """Yield the settings of a server that waits for a primary, as one does for a moment after a failover."""
    programs, account, data = binaries.locate(), home.server_account(), servers.directory / "standby"
    data.mkdir(mode=0o700)
    if account:
        os.chown(data, *account)
    initdb = [str(programs.initdb), "-D", str(data), "-U", "mauntic", "--auth=trust", "--no-sync", "--no-instructions"]
    log, port = servers.directory / "standby.log", children.free_port()
    assert children.spawn(initdb, directory=data, account=account, log=log).wait(60) == 0, children.log_tail(log)
    (data / "standby.signal").touch()
    options = {"port": str(port), "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
    command = [str(programs.postgres), "-D", str(data)] + [f"--{name}={value}" for name, value in options.items()]
    process = children.spawn(command, directory=data, account=account, log=log)
    settings = Settings(database_url=f"postgresql://mauntic@127.0.0.1:{port}/postgres")
    wait_until(lambda: process.poll() is not None or _answers(settings), "the standby")
    assert process.poll() is None, children.log_tail(log)
    yield settings
    process.kill()
    process.wait()


def _answers(settings: Settings) -> bool:
    try:
        with connect(settings):
            return True
    except MaunticJobsError:
        return False


def test_a_standby_may_be_a_primary_soon(standby: Settings) -> None:
    with connect(standby) as session:
        with pytest.raises(UnavailableError, match="standby"):
            session.execute(b"CREATE TABLE mine ()")
        with pytest.raises(UnavailableError, match="standby"):
            _transact(session, b"CREATE TABLE mine ()")


def _refusal(settings: Settings) -> MaunticJobsError:
    with pytest.raises(MaunticJobsError) as raised, connect(settings):
        pass
    return raised.value


def test_a_closed_port_is_unavailable() -> None:
    error = _refusal(Settings(database_url=f"postgresql://app:{PASSWORD}@127.0.0.1:1/x"))
    assert (type(error), error.exit_code, error.transient) == (UnavailableError, ExitCode.UNAVAILABLE, True)
    assert "postgresql://app:***@127.0.0.1:1/x" in str(error)
    assert PASSWORD not in str(error)


def _hang_up(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    connection.close()


def test_a_server_that_hangs_up_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        pool.submit(_hang_up, listener)
        error = _refusal(Settings(database_url=f"postgresql://127.0.0.1:{listener.getsockname()[1]}/x?sslmode=disable"))
    assert isinstance(error, UnavailableError)


def test_a_server_that_does_not_answer_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"postgresql://127.0.0.1:{listener.getsockname()[1]}/x"
        error = _refusal(Settings(database_url=url, connect_timeout=timedelta(seconds=1)))
    assert isinstance(error, UnavailableError)
    assert "timeout" in str(error)


def test_a_wrong_password_is_a_matter_of_configuration(direct_settings: Settings) -> None:
    assert direct_settings.database_url
    netloc = urlsplit(direct_settings.database_url.get_secret_value()).netloc.rpartition("@")[2]
    error = _refusal(_url(direct_settings, netloc=f"mauntic:{PASSWORD}@{netloc}"))
    assert (type(error), error.exit_code, error.transient) == (ConfigurationError, ExitCode.CONFIGURATION, False)
    assert "password authentication failed" in str(error)
    assert "Check DATABASE_URL" in str(error)
    assert PASSWORD not in str(error)


@pytest.mark.parametrize("password", ["a", "authentication", "postgres"])
def test_a_wrong_password_that_is_a_piece_of_the_message_is_a_matter_of_configuration(
    direct_settings: Settings, password: str
) -> None:
    assert direct_settings.database_url
    netloc = urlsplit(direct_settings.database_url.get_secret_value()).netloc.rpartition("@")[2]
    error = _refusal(_url(direct_settings, netloc=f"mauntic:{password}@{netloc}"))
    assert isinstance(error, ConfigurationError)
    assert f":{password}@" not in str(error)


def test_a_missing_password_is_a_matter_of_configuration(direct_settings: Settings) -> None:
    assert direct_settings.database_url
    netloc = urlsplit(direct_settings.database_url.get_secret_value()).netloc.rpartition("@")[2]
    assert isinstance(_refusal(_url(direct_settings, netloc=f"mauntic@{netloc}")), ConfigurationError)


def test_an_unknown_role_is_a_matter_of_configuration(direct_settings: Settings) -> None:
    assert direct_settings.database_url
    netloc = urlsplit(direct_settings.database_url.get_secret_value()).netloc.rpartition("@")[2]
    error = _refusal(_url(direct_settings, netloc=f"nobody:{PASSWORD}@{netloc}"))
    assert isinstance(error, ConfigurationError)
    assert PASSWORD not in str(error)


def test_an_unknown_database_is_a_matter_of_configuration(settings: Settings) -> None:
    error = _refusal(_url(settings, path="/nothing_of_that_name"))
    assert isinstance(error, ConfigurationError)
    assert "nothing_of_that_name" in str(error)
    assert "Check DATABASE_URL" in str(error)


def test_a_server_with_too_many_connections_is_unavailable(direct_settings: Settings) -> None:
    with role(direct_settings, options="CONNECTION LIMIT 0") as crowded:
        error = _refusal(crowded)
    assert (type(error), error.exit_code) == (UnavailableError, ExitCode.UNAVAILABLE)


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "hunter2",
        "'postgresql://app:hunter2@127.0.0.1:1/x'",
        "psql postgresql://app:hunter2@127.0.0.1:1/x",
        "postgresql//app:hunter2@127.0.0.1:1/x",
        "mysql://app:hunter2@127.0.0.1:1/x",
        "http://app:hunter2@127.0.0.1:1/x",
        "postgresql://app:hunter2@127.0.0.1:port/x",
        "postgresql://app:hunter2@[::1/x",
        "postgresql://app:%zzhunter2@127.0.0.1:1/x",
        "postgresql://app:correct hunter2@127.0.0.1:1/x",
        "postgresql://127.0.0.1:1/x?pasword=hunter2",
        "postgresql://app:hunter2@127.0.0.1:1/x?sslmode=nonsense",
        "host=127.0.0.1 port=1 pasword=hunter2",
        "host=127.0.0.1 port=1 password='hunter2",
        "postgresql://127.0.0.1:hunter2",
    ],
)
def test_an_address_that_cannot_be_read_is_a_matter_of_configuration_and_not_repeated(url: str) -> None:
    error = _refusal(Settings(database_url=url))
    assert PASSWORD not in str(error)
    assert isinstance(error, ConfigurationError)
    assert "Check DATABASE_URL" in str(error)


@pytest.mark.parametrize("mark", ["#", "?", "/", ":", "@"])
def test_a_password_with_a_mark_in_it_is_not_repeated(mark: str) -> None:
    url = f"postgresql://app:a{mark}{PASSWORD}@127.0.0.1:1/x"
    assert PASSWORD not in str(_refusal(Settings(database_url=url)))


@pytest.mark.parametrize("url", [None, ""])
def test_no_address_is_a_matter_of_configuration(url: str | None) -> None:
    error = _refusal(Settings(database_url=url))
    assert isinstance(error, ConfigurationError)
    assert "Set DATABASE_URL" in str(error)
    assert "--embedded" in str(error)
