"""A read replica: what is read there, and that it has seen all that was committed before."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.errors import ConfigurationError, ContentionError, StatementTimeoutError, UnavailableError
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Limits, Session, connect
from tests.standby import Standby, running_standby
from tests.support import role, wait_until


@pytest.fixture(scope="module")
def standby(servers: Servers) -> Iterator[Standby]:
    with running_standby(servers) as running:
        yield running


@pytest.fixture
def reading(settings: Settings, standby: Standby) -> Settings:
    return standby.beside(settings)


def test_what_only_reads_is_asked_of_the_replica(reading: Settings) -> None:
    where = b"SELECT pg_is_in_recovery() AS standby"
    with connect(reading) as session:
        assert session.read(where) == [{"standby": True}]
        with session.transaction():
            session.gather("found", where + b", %(number)s::bigint AS number", {"number": 5})
            assert session.rows(b"SELECT * FROM pg_temp.found") == [{"standby": True, "number": 5}]
            assert session.row(where) == {"standby": False}


def test_it_has_seen_what_was_committed_a_moment_ago(direct_settings: Settings, standby: Standby) -> None:
    with connect(direct_settings) as writer, connect(standby.beside(direct_settings)) as reader:
        writer.execute(b"CREATE TABLE numbers (number int)")
        for number in range(1, 101):
            with writer.transaction():
                # A commit that is not flushed is seen by all the same.
                writer.execute(b"SET LOCAL synchronous_commit TO off")
                writer.execute(b"INSERT INTO numbers VALUES (%(number)s)", {"number": number})
            assert reader.read(b"SELECT max(number) AS last FROM numbers") == [{"last": number}]


def test_one_that_lags_is_waited_for(direct_settings: Settings, standby: Standby) -> None:
    with connect(direct_settings) as writer, connect(standby.beside(direct_settings)) as reader:
        writer.execute(b"CREATE TABLE numbers AS SELECT 1 AS number")
        assert reader.read(b"SELECT number FROM numbers") == [{"number": 1}]
        standby.pause()
        writer.execute(b"UPDATE numbers SET number = 2")
        found: list[object] = []
        thread = threading.Thread(target=lambda: found.extend(reader.read(b"SELECT number FROM numbers")))
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        standby.resume()
        thread.join()
        assert found == [{"number": 2}]


def test_one_that_lags_too_far_is_unavailable(direct_settings: Settings, standby: Standby) -> None:
    with connect(direct_settings) as writer, connect(standby.beside(direct_settings)) as reader:
        assert _reads(reader)
        standby.pause()
        writer.execute(b"CREATE TABLE numbers (number int)")
        with pytest.raises(UnavailableError, match=r"is [\d,]+ bytes of WAL behind .* unset DATABASE_READ_URL"):
            reader.read(b"SELECT 1 AS number", patience=timedelta(seconds=0.1))
        standby.resume()
        assert _reads(reader)


def _reads(session: Session) -> bool:
    return session.read(b"SELECT 1 AS number") == [{"number": 1}]


def test_what_the_replay_is_in_the_way_of_is_tried_again(direct_settings: Settings, standby: Standby) -> None:
    with connect(direct_settings) as writer, connect(standby.beside(direct_settings)) as reader:
        writer.execute(b"CREATE TABLE numbers AS SELECT 1 AS number")
        refused: list[BaseException] = []

        def read() -> None:
            try:
                reader.read(b"SELECT number, pg_sleep(60) FROM numbers")
            except ContentionError as error:
                refused.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        asleep = b"SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
        with connect(_of_the_replica(standby, direct_settings)) as watcher:
            wait_until(lambda: watcher.rows(asleep), "the query")
            writer.execute(b"DROP TABLE numbers")
            thread.join()
        assert "conflict with recovery" in str(refused[0])
        assert reader.read(b"SELECT 1 AS number") == [{"number": 1}]


def _of_the_replica(standby: Standby, settings: Settings) -> Settings:
    return settings.model_copy(update={"database_url": standby.beside(settings).database_read_url})


def test_a_query_there_ends_with_its_time_and_with_a_cancellation(direct_settings: Settings, standby: Standby) -> None:
    with connect(standby.beside(direct_settings)) as session:
        brief = Limits(statement_timeout=timedelta(seconds=0.2))
        with pytest.raises(StatementTimeoutError), session.transaction(brief):
            session.gather("found", b"SELECT pg_sleep(60)::text AS slept")
        asleep = b"SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
        ended = threading.Event()

        def cancel() -> None:
            with connect(_of_the_replica(standby, direct_settings)) as watcher:
                wait_until(lambda: watcher.rows(asleep), "the query")
                session.cancel()
                wait_until(lambda: not watcher.rows(asleep), "its end")
            ended.set()

        thread = threading.Thread(target=cancel)
        thread.start()
        with pytest.raises(StatementTimeoutError), session.transaction():
            session.gather("found", b"SELECT pg_sleep(60)::text AS slept")
        thread.join()
        assert ended.is_set()


def test_the_primary_does_not_take_its_wait_for_idleness(direct_settings: Settings, standby: Standby) -> None:
    brief = Limits(idle_timeout=timedelta(seconds=0.3))
    with connect(standby.beside(direct_settings)) as session, session.transaction(brief):
        session.gather("found", b"SELECT pg_sleep(1)::text AS slept")
        assert session.rows(b"SELECT count(*) AS rows FROM pg_temp.found") == [{"rows": 1}]


def test_a_role_without_privileges_of_its_own_may_use_one(direct_settings: Settings, standby: Standby) -> None:
    with role(direct_settings) as plain, connect(standby.beside(plain)) as session:
        (found,) = session.read(b"SELECT current_user::text AS name, pg_is_in_recovery() AS standby")
        assert found["standby"]
        assert found["name"].startswith("role_of_")


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("{primary}", "it is no standby"),
        ("{replica}/postgres", "it has another database"),
    ],
)
def test_what_is_no_replica_of_the_database_is_refused(
    direct_settings: Settings, standby: Standby, address: str, why: str
) -> None:
    assert direct_settings.database_url
    primary = direct_settings.database_url.get_secret_value()
    password = urlsplit(primary).password or "no password"
    read_url = address.format(primary=primary, replica=standby.address)
    settings = direct_settings.model_copy(update={"database_read_url": SecretStr(read_url)})
    with (
        connect(settings) as session,
        pytest.raises(ConfigurationError, match=f"is no read replica .*: {why}") as raised,
    ):
        session.read(b"SELECT 1 AS number")
    assert password not in str(raised.value)


def test_one_that_is_away_is_named_by_its_setting(direct_settings: Settings) -> None:
    away = direct_settings.model_copy(update={"database_read_url": SecretStr("postgresql://a:b@127.0.0.1:1/c")})
    with connect(away) as session:
        with pytest.raises(UnavailableError, match="DATABASE_READ_URL is right"):
            session.read(b"SELECT 1 AS number")
        # What needs no replica goes on.
        assert session.row(b"SELECT 1 AS number") == {"number": 1}


def test_one_that_was_promoted_is_refused(servers: Servers, direct_settings: Settings) -> None:
    with ExitStack() as stack:
        standby = stack.enter_context(running_standby(servers))
        session = stack.enter_context(connect(standby.beside(direct_settings)))
        assert _reads(session)
        standby.promote()
        with pytest.raises(ConfigurationError, match="it is no standby"):
            session.read(b"SELECT 1 AS number")
