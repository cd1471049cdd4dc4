"""Redis and Postgres for an event loop."""

import asyncio
import gc
import os
import signal
import time
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest

from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.errors import ConfigurationError, JobFailedError, UnavailableError
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres import async_link as postgres_link
from mauntic_jobs.stores.postgres.async_link import PostgresLink
from mauntic_jobs.stores.redis import node_link as redis_link
from mauntic_jobs.stores.redis.async_link import RedisLink
from tests.delivery.own_stores import own_postgres
from tests.delivery.proxy import running_proxy
from tests.support import run_on_loop

# How often Postgres is stopped at once: `scripts/chaos` says a larger number.
_STOPS = int(os.environ.get("CHAOS", "5"))


@pytest.fixture
def redis(servers: Servers) -> Settings:
    return Settings(redis_url=servers.redis_url)


def test_many_commands_at_once_get_their_own_answers(redis: Settings) -> None:
    async def run() -> list[Any]:
        link = RedisLink(redis)
        answers = await asyncio.gather(*(link.command("ECHO", n) for n in range(500)))
        await link.close()
        return answers

    assert run_on_loop(run()) == [str(n).encode() for n in range(500)]


def test_a_refused_command_fails_alone(redis: Settings) -> None:
    async def run() -> list[Any]:
        link = RedisLink(redis)
        words = [("ECHO", "a"), ("NOSUCH",), ("ECHO", "b")]
        answers = await asyncio.gather(*(link.command(*each) for each in words), return_exceptions=True)
        await link.close()
        return answers

    first, refused, last = run_on_loop(run())
    assert (first, last) == (b"a", b"b")
    assert isinstance(refused, JobFailedError)


def test_a_refusal_that_nobody_waits_for_is_not_logged(redis: Settings) -> None:
    async def run() -> list[dict[str, Any]]:
        logged: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
        link = RedisLink(redis)
        link.begin("NOSUCH")
        await link.command("PING")
        await link.close()
        # What was refused is forgotten here, which is when asyncio speaks.
        gc.collect()
        return logged

    assert run_on_loop(run()) == []


def test_a_script_is_loaded_where_it_is_not_known(redis: Settings) -> None:
    async def run() -> list[Any]:
        link = RedisLink(redis)
        script = b"return ARGV[1] .. KEYS[1]"
        await link.command("SCRIPT", "FLUSH")
        answers = await asyncio.gather(*(link.script(script, ["k"], [n]) for n in range(3)))
        await link.close()
        return answers

    assert run_on_loop(run()) == [b"0k", b"1k", b"2k"]


def test_a_connection_that_is_lost_fails_what_was_asked_and_is_opened_again(servers: Servers) -> None:
    place = urlsplit(servers.redis_url)
    assert place.hostname
    assert place.port
    with running_proxy(place.hostname, place.port) as proxy:
        through = servers.redis_url.replace(f"{place.hostname}:{place.port}", f"127.0.0.1:{proxy.port}")

        async def run() -> bytes:
            link = RedisLink(Settings(redis_url=through))
            await link.command("PING")
            waiting = asyncio.ensure_future(link.command("BZPOPMIN", "nothing-is-here", 5, patience=5))
            await asyncio.sleep(0.1)
            await asyncio.to_thread(proxy.reset_all)
            with pytest.raises(UnavailableError):
                await waiting
            await asyncio.to_thread(proxy.refuse)
            with pytest.raises(UnavailableError):
                await link.command("PING")
            await asyncio.to_thread(proxy.accept)
            answer: bytes = await link.command("PING")
            await link.close()
            return answer

        assert run_on_loop(run()) == b"PONG"


def test_a_frozen_connection_is_given_up(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_link, "ANSWER_SECONDS", 0.5)
    place = urlsplit(servers.redis_url)
    assert place.hostname
    assert place.port
    with running_proxy(place.hostname, place.port) as proxy:
        through = servers.redis_url.replace(f"{place.hostname}:{place.port}", f"127.0.0.1:{proxy.port}")

        async def run() -> None:
            link = RedisLink(Settings(redis_url=through))
            await link.command("PING")
            await asyncio.to_thread(proxy.freeze)
            with pytest.raises(UnavailableError):
                await link.command("PING")
            await asyncio.to_thread(proxy.thaw)
            assert await link.command("PING") == b"PONG"
            await link.close()

        run_on_loop(run())


def test_a_wrong_password_is_a_configuration_error(servers: Servers) -> None:
    place = urlsplit(servers.redis_url)

    async def run() -> None:
        link = RedisLink(Settings(redis_url=f"redis://:wrong@{place.hostname}:{place.port}/0"))
        with pytest.raises(ConfigurationError):
            await link.command("PING")
        await link.close()

    run_on_loop(run())


def test_postgres_answers_rows_and_json(settings: Settings) -> None:
    async def run() -> tuple[Any, Any, Any]:
        link = PostgresLink(settings)
        rows = await link.rows(b"SELECT %(a)s::int AS a", {"a": 1})
        value = await link.json(
            b"SELECT json_build_array(%(b)s::text, %(a)s::int, %(b)s::text)", {"a": b"1", "b": b"x"}
        )
        large = await link.json(b"SELECT to_json(%(b)s::text)", {"b": b"y" * 3_000_000})
        await link.close()
        return rows, value, large

    rows, value, large = run_on_loop(run())
    assert (rows, value) == ([{"a": 1}], ["x", 1, "x"])
    assert len(large) == 3_000_000


def test_a_statement_that_is_refused_leaves_the_connection_usable(settings: Settings) -> None:
    async def run() -> None:
        link = PostgresLink(settings)
        with pytest.raises(JobFailedError):
            await link.json(b"SELECT to_json(1 / %(a)s::int)", {"a": b"0"})
        with pytest.raises(JobFailedError):
            await link.rows(b"SELECT 1 / 0", {})
        assert await link.json(b"SELECT to_json(%(a)s::int)", {"a": b"7"}) == 7
        await link.close()

    run_on_loop(run())


def test_a_connection_to_postgres_that_is_ended_is_opened_again(direct_settings: Settings) -> None:
    async def run() -> None:
        link, other = PostgresLink(direct_settings), PostgresLink(direct_settings)
        pid = await link.json(b"SELECT to_json(pg_backend_pid())", {})
        waiting = asyncio.ensure_future(link.json(b"SELECT to_json(pg_sleep(10)::text)", {}))
        await asyncio.sleep(0.2)
        await other.rows(b"SELECT pg_terminate_backend(%(pid)s)", {"pid": pid})
        with pytest.raises(UnavailableError):
            await waiting
        assert await link.json(b"SELECT to_json(1)", {}) == 1
        await link.close()
        await other.close()

    run_on_loop(run())


def test_a_connection_that_ended_while_idle_spends_no_statement(direct_settings: Settings) -> None:
    async def run() -> list[Any]:
        link, other = PostgresLink(direct_settings), PostgresLink(direct_settings)
        answers = []
        for ask in (
            lambda: link.json(b"SELECT to_json(1)", {}),
            lambda: link.rows(b"SELECT 1 AS a", {}),
        ):
            pid = await link.json(b"SELECT to_json(pg_backend_pid())", {})
            await other.rows(b"SELECT pg_terminate_backend(%(pid)s, 5000)", {"pid": pid})
            answers.append(await ask())
        await link.close()
        await other.close()
        return answers

    assert run_on_loop(run()) == [1, [{"a": 1}]]


@pytest.mark.parametrize("way", ["reset_all", "forget_all"])
def test_a_connection_that_the_network_ended_while_idle_spends_no_statement(
    direct_settings: Settings, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_link, "_IDLE_SECONDS", 0.0)
    assert direct_settings.database_url
    place = urlsplit(direct_settings.database_url.get_secret_value())
    assert place.hostname
    assert place.port
    with running_proxy(place.hostname, place.port) as proxy:
        netloc = f"{place.username}:{place.password}@127.0.0.1:{proxy.port}"
        settings = Settings(database_url=place._replace(netloc=netloc).geturl())

        async def run() -> tuple[Any, float]:
            link = PostgresLink(settings)
            await link.json(b"SELECT to_json(1)", {})
            await asyncio.to_thread(getattr(proxy, way))
            began = time.monotonic()
            answer = await link.json(b"SELECT to_json(2)", {})
            seconds = time.monotonic() - began
            await link.close()
            return answer, seconds

        answer, seconds = run_on_loop(run())
    assert answer == 2
    assert seconds < 2


def test_a_server_that_is_stopped_at_once_under_load_is_asked_again_when_it_is_back() -> None:
    with own_postgres() as postgres:
        settings = Settings(database_url=postgres.url)

        async def ask(link: PostgresLink, answered: list[float]) -> None:
            while True:
                with suppress(UnavailableError):
                    await link.json(b"SELECT to_json(%(a)s::text)", {"a": b"x" * 20_000})
                    answered.append(time.monotonic())
                await asyncio.sleep(0)

        async def run() -> list[float]:
            links, answers = [PostgresLink(settings) for _ in range(3)], [[0.0] for _ in range(3)]
            tasks = [asyncio.create_task(ask(*each)) for each in zip(links, answers, strict=True)]
            silences = []
            for _ in range(_STOPS):
                await asyncio.sleep(0.3)
                await asyncio.to_thread(postgres.end, signal.SIGQUIT)
                await asyncio.to_thread(postgres.start)
                back = time.monotonic()
                while any(each[-1] < back for each in answers):  # noqa: ASYNC110 - as a user sees it
                    await asyncio.sleep(0.01)
                silences.append(time.monotonic() - back)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(*(link.close() for link in links))
            return silences

        assert max(run_on_loop(run())) < 3


def test_a_redis_connection_that_ended_while_idle_spends_no_command(servers: Servers) -> None:
    place = urlsplit(servers.redis_url)
    assert place.hostname
    assert place.port
    with running_proxy(place.hostname, place.port) as proxy:
        through = servers.redis_url.replace(f"{place.hostname}:{place.port}", f"127.0.0.1:{proxy.port}")

        async def run() -> Any:
            link = RedisLink(Settings(redis_url=through))
            await link.command("PING")
            await asyncio.to_thread(proxy.reset_all)
            # The loop hears of it before the next command is asked for, as it would of one that comes later.
            await asyncio.sleep(0.05)
            answer = await link.command("PING")
            await link.close()
            return answer

        assert run_on_loop(run()) == b"PONG"


def test_texts_are_utf_8_whatever_encoding_the_environment_asks_for(
    direct_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")

    async def run() -> Any:
        link = PostgresLink(direct_settings)
        # The link sends bytes as they are: the server must take them for UTF-8.
        query = b"SELECT json_build_array(%(text)s::text, octet_length(%(text)s::text))"
        answer = await link.json(query, {"text": "jörg".encode()})
        await link.close()
        return answer

    assert run_on_loop(run()) == ["jörg", 5]
