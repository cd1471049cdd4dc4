import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.errors import ConfigurationError, ExitCode, JobFailedError, MaunticJobsError, UnavailableError
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.redis.async_link import RedisLink
from mauntic_jobs.stores.redis.client import RedisScripts, open_redis
from tests.support import run_on_loop, wait_until
from tests.valkey import valkey

PASSWORD = "hunter2"  # noqa: S105 - of nobody
ECHO = b"return {ARGV[1], KEYS[1]}"
INCREMENT = b"return redis.call('INCR', KEYS[1])"


@pytest.fixture
def settings(servers: Servers) -> Settings:
    return _settings(f"{servers.redis_url}/7")


@pytest.fixture
def client(settings: Settings) -> Iterator[Any]:
    assert settings.redis_url
    with Redis.from_url(settings.redis_url.get_secret_value()) as client:
        client.flushdb()
        yield client


@pytest.fixture
def scripts(settings: Settings) -> Iterator[RedisScripts]:
    with closing(open_redis(settings)) as scripts:
        yield scripts


@pytest.fixture(scope="module")
def other(servers: Servers) -> Iterator[str]:
    """Yield the address of a Valkey that may be spoiled for a while."""
    with valkey(servers, "other") as url:
        yield url


def _settings(url: str | None) -> Settings:
    return Settings(redis_url=url, connect_timeout=timedelta(seconds=2))


def _refusal(url: str | None) -> MaunticJobsError:
    with pytest.raises(MaunticJobsError) as raised:
        open_redis(_settings(url))
    return raised.value


def test_results_come_in_the_order_of_the_calls_over_several_batches(
    scripts: RedisScripts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mauntic_jobs.stores.redis.client._BATCH_VALUES", 20)
    results = scripts.run(ECHO, (([f"key{number}"], [number]) for number in range(35)))
    assert results == [[b"%d" % number, b"key%d" % number] for number in range(35)]


def test_no_calls_have_no_results(scripts: RedisScripts) -> None:
    assert scripts.run(ECHO, []) == []


def test_a_script_that_the_server_forgot_is_loaded_again(scripts: RedisScripts, client: Any) -> None:
    scripts.run(INCREMENT, [(["n"], [])])
    client.script_flush()
    assert scripts.run(INCREMENT, [(["n"], [])]) == [2]


def _lose_answers(listener: socket.socket, server: tuple[str, int]) -> None:
    """Pass on what each client and the server say, up to the answer to the first script."""
    with suppress(OSError):  # of the listener, once it is shut down
        while True:
            connection, _ = listener.accept()
            with connection, socket.create_connection(server) as upstream:
                while (asked := connection.recv(65536)) and b"EVALSHA" not in asked:
                    upstream.sendall(asked)
                    connection.sendall(upstream.recv(65536))
                upstream.sendall(asked)
                upstream.recv(65536)


def test_a_call_whose_answer_was_lost_is_not_made_again(settings: Settings, client: Any) -> None:
    assert settings.redis_url
    url = urlsplit(settings.redis_url.get_secret_value())
    assert url.hostname
    assert url.port
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        passed = pool.submit(_lose_answers, listener, (url.hostname, url.port))
        address = url._replace(netloc=f":{url.password}@127.0.0.1:{listener.getsockname()[1]}").geturl()
        with closing(open_redis(_settings(address))) as scripts, pytest.raises(UnavailableError):
            scripts.run(INCREMENT, [(["n"], [])])
        listener.shutdown(socket.SHUT_RDWR)
        passed.result(10)
    assert client.get("n") == b"1"


def test_an_error_of_a_script_names_the_key_but_not_the_arguments(scripts: RedisScripts, client: Any) -> None:
    client.set("good", 1)
    client.set("bad", "text")
    with pytest.raises(JobFailedError, match=r"refused a command on bad: .*not an integer") as raised:
        scripts.run(INCREMENT, [(["good"], ["ann@example.com"]), (["bad"], ["ann@example.com"])])
    assert "ann@example.com" not in str(raised.value)
    assert client.get("good") == b"2"


def test_an_error_in_the_making_of_the_calls_stays_what_it_is(scripts: RedisScripts) -> None:
    def calls() -> Iterator[tuple[list[str], list[str]]]:
        yield ["n"], []
        raise LookupError

    with pytest.raises(LookupError):
        scripts.run(INCREMENT, calls())


@pytest.mark.parametrize("url", [None, ""])
def test_no_address_says_both_ways_out(url: str | None) -> None:
    error = _refusal(url)
    assert (type(error), error.exit_code) == (ConfigurationError, ExitCode.CONFIGURATION)
    assert "Set REDIS_URL" in str(error)
    assert "--embedded" in str(error)


def test_a_closed_port_is_unavailable() -> None:
    error = _refusal(f"redis://app:{PASSWORD}@127.0.0.1:1/0")
    assert (type(error), error.exit_code, error.transient) == (UnavailableError, ExitCode.UNAVAILABLE, True)
    assert "redis://app:***@127.0.0.1:1/0" in str(error)
    assert PASSWORD not in str(error)


@pytest.mark.parametrize("login", [f":{PASSWORD}@", f"app:{PASSWORD}@", ""])
def test_a_refused_login_is_a_matter_of_configuration(servers: Servers, login: str) -> None:
    url = urlsplit(servers.redis_url)
    error = _refusal(url._replace(netloc=f"{login}{url.hostname}:{url.port}").geturl())
    assert (type(error), error.exit_code, error.transient) == (ConfigurationError, ExitCode.CONFIGURATION, False)
    assert "Check REDIS_URL" in str(error)
    assert PASSWORD not in str(error)


def test_a_password_where_none_is_wanted_is_a_matter_of_configuration(other: str) -> None:
    error = _refusal(other.replace("://", f"://app:{PASSWORD}@"))
    assert isinstance(error, ConfigurationError)
    assert PASSWORD not in str(error)


def test_a_missing_permission_is_a_matter_of_configuration(client: Any, servers: Servers) -> None:
    url = urlsplit(servers.redis_url)
    client.acl_setuser("reader", enabled=True, passwords=[f"+{PASSWORD}"], categories=["+@read"])
    try:
        error = _refusal(url._replace(netloc=f"reader:{PASSWORD}@{url.hostname}:{url.port}").geturl())
    finally:
        client.acl_deluser("reader")
    assert isinstance(error, ConfigurationError)
    assert "info" in str(error)


def test_a_user_that_may_not_name_its_connection_works_without_a_name(client: Any, servers: Servers) -> None:
    url = urlsplit(servers.redis_url)
    client.acl_setuser("silent", enabled=True, passwords=[f"+{PASSWORD}"], keys=["*"], commands=["+@all", "-client"])
    settings = _settings(url._replace(netloc=f"silent:{PASSWORD}@{url.hostname}:{url.port}").geturl())

    async def by_link() -> Any:
        link = RedisLink(settings, "worker")
        try:
            return await link.command("PING")
        finally:
            await link.close()

    try:
        with closing(open_redis(settings, "worker")) as scripts:
            assert scripts.command("PING")
        assert run_on_loop(by_link()) == b"PONG"
    finally:
        client.acl_deluser("silent")


def test_a_database_that_does_not_exist_is_a_matter_of_configuration(servers: Servers) -> None:
    error = _refusal(f"{servers.redis_url}/999")
    assert isinstance(error, ConfigurationError)
    assert "DB index is out of range" in str(error)
    assert "Check REDIS_URL" in str(error)


@pytest.mark.parametrize(
    "url",
    [
        "hunter2",
        "postgresql://app:hunter2@127.0.0.1:1/0",
        "redis://app:hunter2",
        "redis://app:pass#hunter2@127.0.0.1:1/0",
        "redis://app:pass/hunter2@127.0.0.1:1/0",
        "redis://app:hunter2@[::1/0",
        "redis://127.0.0.1:hunter2/0",
        "redis://127.0.0.1:1/0?db=hunter2",
    ],
)
def test_an_address_that_cannot_be_read_is_a_matter_of_configuration_and_not_repeated(url: str) -> None:
    error = _refusal(url)
    assert PASSWORD not in str(error)
    assert isinstance(error, ConfigurationError)
    assert "redis://user:password@host:6379/0" in str(error)


def _talk_http(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_a_server_that_is_no_redis_is_a_matter_of_configuration() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        pool.submit(_talk_http, listener)
        error = _refusal(f"redis://127.0.0.1:{listener.getsockname()[1]}")
    assert isinstance(error, ConfigurationError)
    assert "Check REDIS_URL" in str(error)


def test_a_full_memory_is_unavailable_and_says_so(other: str) -> None:
    with Redis.from_url(other) as admin, closing(open_redis(_settings(other))) as scripts:
        admin.config_set("maxmemory", 1)
        try:
            with pytest.raises(UnavailableError, match=r"out of memory.* raise its maxmemory"):
                scripts.run(INCREMENT, [(["n"], [])])
        finally:
            admin.config_set("maxmemory", 0)
        assert scripts.run(INCREMENT, [(["n"], [])]) == [1]


def test_a_replica_is_unavailable_and_says_so(other: str) -> None:
    with Redis.from_url(other) as admin, closing(open_redis(_settings(other))) as scripts:
        admin.replicaof("127.0.0.1", 1)
        try:
            with pytest.raises(UnavailableError, match=r"is a replica: .* name the primary"):
                scripts.run(INCREMENT, [(["n"], [])])
        finally:
            admin.replicaof("NO", "ONE")


def test_a_server_that_is_busy_with_a_script_is_unavailable(other: str) -> None:
    with Redis.from_url(other) as admin, Redis.from_url(other) as busy, ThreadPoolExecutor(1) as pool:
        admin.config_set("busy-reply-threshold", 1)
        stuck = pool.submit(busy.eval, "while true do end", 0)
        wait_until(lambda: _is_busy(admin), "the endless script")
        error = _refusal(other)
        admin.script_kill()
        assert isinstance(stuck.exception(10), ResponseError)
    assert (type(error), error.transient) == (UnavailableError, True)
    assert "cannot do its work now: BUSY" in str(error)


def _is_busy(client: Any) -> bool:
    try:
        client.ping()
    except ResponseError as error:
        return str(error).startswith("BUSY")
    return False
