"""What goes wrong with Redis, the ledger or the process, and that the next attempt or run makes it good."""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis import Redis

from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.lua import script
from mauntic_jobs.runner.history import list_runs
from mauntic_jobs.runner.request import Status
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, connect
from mauntic_jobs.stores.redis.client import open_redis
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.window import naive
from mauntic_jobs.warmup.keys import dates, keys
from tests.jobs.warmup import ACCOUNT, ACME, COUNTER, MAIL, TODAY, add_domains, changed, count, outcomes, run_job
from tests.support import start_program, wait_until


@pytest.fixture
def redis_url(servers: Servers) -> str:
    """Return the address of an empty database of Redis."""
    url = f"{servers.redis_url}/5"
    with Redis.from_url(url) as client:
        client.flushdb()
    return url


@pytest.fixture
def settings(settings: Settings, redis_url: str) -> Settings:
    return changed(settings, redis_url=redis_url)


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def test_no_redis_is_a_matter_of_configuration(settings: Settings) -> None:
    report = run_job(changed(settings, redis_url=None))
    assert (report.exit_code, report.attempt) == (ExitCode.CONFIGURATION, 1)
    assert "Set REDIS_URL" in str(report.error)
    assert "--embedded" in str(report.error)
    assert run_job(changed(settings, redis_url=None), dry_run=True).exit_code == ExitCode.CONFIGURATION


def test_a_redis_that_stays_unreachable_is_tried_four_times(settings: Settings) -> None:
    report = run_job(changed(settings, redis_url="redis://127.0.0.1:1"))
    assert (report.exit_code, report.attempt, report.status) == (ExitCode.UNAVAILABLE, 4, Status.FAILED)


def test_an_account_that_is_no_hash_is_named(settings: Settings, session: Session, client: Any) -> None:
    add_domains(session, MAIL)
    client.set(ACCOUNT, 1)
    report = run_job(settings)
    assert report.exit_code == ExitCode.FAILED
    assert f"{ACCOUNT} is not a hash: delete it" in str(report.error)


@contextmanager
def _cut_off_once(url: str, after_bytes: int) -> Iterator[str]:
    """Yield the address of a way to Redis that breaks once its first connection has carried so many bytes there."""
    target = urlsplit(url)
    assert target.hostname
    assert target.port

    def pass_on(source: socket.socket, sink: socket.socket, most: float) -> None:
        with suppress(OSError):
            while most > 0 and (chunk := source.recv(4096)):
                sink.sendall(chunk)
                most -= len(chunk)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve(listener: socket.socket) -> None:
        for most in (after_bytes, float("inf")):
            connection, _ = listener.accept()
            with connection, socket.create_connection((target.hostname, target.port)) as server:
                back = Thread(target=pass_on, args=(server, connection, float("inf")))
                back.start()
                pass_on(connection, server, most)
                back.join()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=serve, args=(listener,))
        thread.start()
        yield target._replace(netloc=f":{target.password}@127.0.0.1:{listener.getsockname()[1]}").geturl()
        thread.join(10)
        assert not thread.is_alive()


def test_a_connection_lost_halfway_is_tried_again_and_nothing_is_reset_twice(
    settings: Settings, session: Session, client: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mauntic_jobs.stores.redis.client._BATCH_VALUES", 300)
    domains = [f"mail{number:03}.acme.com" for number in range(400)]
    add_domains(session, *domains)
    counters = [keys(ACME, domain)[0] for domain in domains]
    client.mset(dict.fromkeys(counters, 250))
    for domain in domains[::100]:
        count(client, TODAY, 3, domain)

    def log(_message: str) -> None:
        pipeline = client.pipeline()
        for domain in domains:
            if client.hget(keys(ACME, domain)[1], "reset"):
                pipeline.incr(keys(ACME, domain)[0])
                expected[domain] += 1
        pipeline.execute()

    expected = {domain: 3 if domain in domains[::100] else 0 for domain in domains}
    with _cut_off_once(redis_url, 40_000) as url:
        report = run_job(changed(settings, redis_url=url), log=log)
    assert report.attempt == 2
    assert 0 < report.counters["already"] < 400
    assert sum(outcomes(report).values()) == 400
    assert {domain: int(value or 0) for domain, value in zip(domains, client.mget(counters), strict=True)} == expected


def test_a_ledger_that_fails_after_the_reset_is_made_good_by_the_next_run(
    settings: Settings, session: Session, client: Any
) -> None:
    add_domains(session, MAIL)
    client.set(COUNTER, 250)
    session.execute(
        b"CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;"
        b"CREATE TRIGGER fail BEFORE UPDATE ON mauntic_jobs.runs FOR EACH ROW"
        b" WHEN (NEW.status = 'succeeded') EXECUTE FUNCTION fail()"
    )
    assert run_job(settings).status == Status.FAILED
    session.execute(b"DROP TRIGGER fail ON mauntic_jobs.runs")
    client.incrby(COUNTER, 7)
    assert outcomes(run_job(settings)) == {"already": 1}
    assert client.get(COUNTER) == "7"


@pytest.mark.usefixtures("same_day")
def test_a_kill_between_redis_and_the_ledger_is_made_good_by_the_next_run(
    direct_settings: Settings, redis_url: str, client: Any
) -> None:
    settings, created = changed(direct_settings, redis_url=redis_url), clock.now() - timedelta(days=5)
    environment = {"REDIS_URL": redis_url, "MAUNTIC_TAKEOVER_AFTER": "0.5s"}
    with connect(settings) as keeper:
        add_domains(keeper, MAIL, created=naive(created).isoformat())
        client.set(COUNTER, 250)
        keeper.execute(
            b"CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS"
            b" $$ BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN NEW; END $$;"
            b"CREATE TRIGGER gate BEFORE UPDATE ON mauntic_jobs.runs FOR EACH ROW"
            b" WHEN (NEW.status = 'succeeded') EXECUTE FUNCTION gate()"
        )
        keeper.rows(b"SELECT pg_advisory_lock(42)")
        process = start_program("warmup-daily-reset", settings=settings, **environment)
        waiting = b"SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 42 AND NOT granted"
        wait_until(lambda: process.poll() is not None or keeper.rows(waiting), "a process at the gate")
        process.kill()
        process.communicate()
        assert client.get(COUNTER) is None
        client.incrby(COUNTER, 7)
        keeper.rows(b"SELECT pg_advisory_unlock(42)")
        again = start_program("warmup-daily-reset", "--json", "--overlap=wait", settings=settings, **environment)
        output, errors = again.communicate()
        assert again.returncode == ExitCode.DONE, errors
        assert json.loads(output)["runs"][0]["counters"]["already"] == 1
        assert [row["status"] for row in list_runs(keeper)] == ["succeeded", "lost"]
    assert client.get(COUNTER) == "7"


def test_the_documented_permissions_of_redis_are_enough(
    direct_settings: Settings, servers: Servers, client: Any
) -> None:
    page = (Path(__file__).parents[2] / "docs/jobs/warmup-daily-reset.md").read_text()
    (rules,) = re.findall(r"```\n(~warmup.+?)\n```", page)
    url = urlsplit(servers.redis_url)
    own = url._replace(netloc=f"jobs:its-password@{url.hostname}:{url.port}", path="/5").geturl()
    client.execute_command("ACL", "SETUSER", "jobs", "on", ">its-password", *rules.split(), "+select")
    try:
        with connect(direct_settings) as session:
            add_domains(session, MAIL)
        with closing(open_redis(changed(direct_settings, redis_url=own))) as scripts:
            for number in range(6):
                day = TODAY + timedelta(days=number)
                assert scripts.run(script("warmup_count"), [((COUNTER, ACCOUNT), (*dates(day), 1))]) == [number + 1]
        assert outcomes(run_job(changed(direct_settings, redis_url=own))) == {"kept": 1}
    finally:
        client.acl_deluser("jobs")
