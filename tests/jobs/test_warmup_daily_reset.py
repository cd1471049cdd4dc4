from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from datetime import date
from threading import Event
from typing import Any

import pytest
from redis import Redis

from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.errors import UsageError
from mauntic_jobs.runner.history import list_runs
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.window import Window
from mauntic_jobs.warmup.keys import keys
from tests.jobs.warmup import (
    ACCOUNT,
    ACME,
    COUNTER,
    MAIL,
    TODAY,
    YESTERDAY,
    add_domains,
    changed,
    count,
    outcomes,
    reset,
    run_job,
)
from tests.support import day, organization, utc

GLOBEX = organization(2)


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


def test_a_counter_of_yesterday_is_cleared(settings: Settings, session: Session, client: Any) -> None:
    add_domains(session, MAIL)
    client.set(COUNTER, 250)
    report = run_job(settings)
    assert report.counters == {"domains": 1, "cleared": 1, "kept": 0, "already": 0, "absent": 0}
    assert client.get(COUNTER) is None


@pytest.mark.parametrize(
    ("created", "outcome"),
    [
        ("2026-09-04T23:59:59.999999", {}),
        ("2026-09-05T00:00", {"cleared": 1}),
        ("2026-10-04T23:59:59.999999", {"cleared": 1}),
        ("2026-10-05T00:00", {}),
    ],
)
@pytest.mark.parametrize("now", ["2026-10-05T00:00", "2026-10-05T14:30"])
def test_the_thirty_days_before_today_count_not_those_before_the_run(
    settings: Settings, session: Session, client: Any, created: str, outcome: dict[str, int], now: str
) -> None:
    add_domains(session, MAIL, created=created)
    client.set(COUNTER, 40)
    assert outcomes(run_job(settings, now)) == outcome
    assert client.get(COUNTER) == (None if outcome else "40")


def test_domains_are_reset_whatever_their_status(settings: Settings, session: Session) -> None:
    add_domains(session, "a.com", "b.com", "c.com")
    session.execute(b"UPDATE delivery.sending_domains SET status = 'failed' WHERE domain = 'a.com'")
    session.execute(b"UPDATE delivery.sending_domains SET status = 'verified' WHERE domain = 'b.com'")
    assert outcomes(run_job(settings)) == {"absent": 3}


def test_rows_that_differ_in_case_are_one_domain_whose_key_is_in_lower_case(
    settings: Settings, session: Session, client: Any
) -> None:
    add_domains(session, "Mail.ACME.com", MAIL, MAIL)
    client.mset({COUNTER: 40, f"warmup:daily:{ACME}:Mail.ACME.com": 7})
    assert run_job(settings).counters["domains"] == 1
    assert client.get(COUNTER) is None
    assert client.get(f"warmup:daily:{ACME}:Mail.ACME.com") == "7"
    assert keys(ACME, "Mail.ACME.com") == (COUNTER, ACCOUNT)


def test_more_domains_than_are_asked_about_at_once_are_each_reset_once(
    settings: Settings, session: Session, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mauntic_jobs.jobs.warmup_daily_reset._DOMAINS_AT_ONCE", 2)
    for owner, domains in ((ACME, ("a.com", "b.com", "c.com")), (GLOBEX, ("a.com", "d.com"))):
        add_domains(session, *domains, owner=owner)
        client.mset({keys(owner, domain)[0]: 40 for domain in domains})
    assert run_job(settings).counters == {"domains": 5, "cleared": 5, "kept": 0, "already": 0, "absent": 0}
    assert client.keys("warmup:daily:*") == []


def test_an_organization_limits_what_is_reset(settings: Settings, session: Session, client: Any) -> None:
    add_domains(session, MAIL)
    add_domains(session, MAIL, owner=GLOBEX)
    client.mset({COUNTER: 40, keys(GLOBEX, MAIL)[0]: 50})
    assert outcomes(run_job(settings, options={"org": [str(GLOBEX)]})) == {"cleared": 1}
    assert client.mget(COUNTER, keys(GLOBEX, MAIL)[0]) == ["40", None]


def test_an_organization_without_domains_is_an_error_of_usage(settings: Settings, session: Session) -> None:
    add_domains(session, MAIL, created="2020-01-01")
    assert run_job(settings, options={"org": [str(ACME)]}).counters["domains"] == 0
    report = run_job(settings, options={"org": [str(GLOBEX)]})
    assert isinstance(report.error, UsageError)
    assert str(GLOBEX) in str(report.error)


@pytest.mark.parametrize("now", ["2026-10-05T00:20", "2026-10-05T03:00", "2026-10-05T23:59:59.999999"])
def test_a_late_run_keeps_what_was_sent_today(settings: Settings, session: Session, client: Any, now: str) -> None:
    add_domains(session, MAIL)
    count(client, YESTERDAY, 200)
    assert count(client, TODAY, 30) == 230
    assert outcomes(run_job(settings, now)) == {"kept": 1}
    assert client.get(COUNTER) == "30"
    assert count(client, TODAY, 3) == 33


def test_ten_runs_on_one_day_keep_what_was_counted_in_between_by_anyone(
    settings: Settings, session: Session, client: Any
) -> None:
    add_domains(session, MAIL)
    client.set(COUNTER, 250)
    seen = []
    for hour in range(10):
        seen.append(outcomes(run_job(settings, f"2026-10-05T0{hour}:00")))
        client.incr(COUNTER)
        count(client, TODAY)
    assert seen == [{"cleared": 1}, *[{"already": 1}] * 9]
    assert client.get(COUNTER) == "20"
    assert outcomes(run_job(settings, "2026-10-06T00:00")) == {"cleared": 1}


def test_a_counter_that_was_absent_at_the_reset_is_not_cleared_by_the_next(
    settings: Settings, session: Session, client: Any
) -> None:
    add_domains(session, MAIL)
    assert outcomes(run_job(settings)) == {"absent": 1}
    client.incr(COUNTER)
    assert outcomes(run_job(settings)) == {"already": 1}
    assert client.get(COUNTER) == "1"


def test_increments_during_resets_are_all_kept(settings: Settings, session: Session, redis_url: str) -> None:
    add_domains(session, MAIL)
    started, done = Event(), Event()

    def send(day: date, messages: int) -> None:
        with Redis.from_url(redis_url) as own:
            for number in range(messages):
                count(own, day)
                if number == messages // 10:
                    started.set()

    def increment(messages: int) -> None:
        with Redis.from_url(redis_url) as own:
            for _ in range(messages):
                own.incr(COUNTER)

    def reset_again() -> None:
        with Redis.from_url(redis_url) as own:
            while not done.is_set():
                reset(own, TODAY)

    with ThreadPoolExecutor(8) as pool:
        senders: list[Future[None]] = [pool.submit(send, day, 300) for day in (TODAY, TODAY, YESTERDAY, YESTERDAY)]
        started.wait(10)
        reports = [run_job(settings)]
        senders += [pool.submit(increment, 300), pool.submit(increment, 300)]
        resetting = pool.submit(reset_again)
        reports += [run_job(settings) for _ in range(4)]
        for sender in as_completed(senders):
            sender.result()
        reports.append(run_job(settings))
        done.set()
        resetting.result()
    assert [outcomes(report) for report in reports] == [{"kept": 1}, *[{"already": 1}] * 5]
    with Redis.from_url(redis_url, decode_responses=True) as own:
        assert own.get(COUNTER) == "1200"
        assert own.hgetall(ACCOUNT) == {"2026-10-04": "600", "2026-10-05": "600", "reset": "2026-10-05"}


@pytest.mark.parametrize(
    "window",
    [
        day("2026-10-05"),
        Window(utc("2026-10-02T00:20"), utc("2026-10-05T00:00:00.000001")),
        Window(utc("2026-10-05T08:00"), utc("2026-10-05T09:00")),
    ],
)
def test_a_window_that_reaches_today_is_todays_run(
    settings: Settings, session: Session, client: Any, window: Window
) -> None:
    add_domains(session, MAIL)
    client.set(COUNTER, 40)
    assert outcomes(run_job(settings, "2026-10-05T09:20", window)) == {"cleared": 1}
    assert client.hget(ACCOUNT, "reset") == "2026-10-05"


@pytest.mark.parametrize(
    "window",
    [
        day("2026-10-03"),
        day("2026-10-04"),
        Window(utc("2026-10-04T08:00"), utc("2026-10-04T23:59:59.999999")),
        Window(utc("2026-10-02T00:20"), utc("2026-10-05T00:00")),
    ],
)
def test_a_window_of_another_day_is_refused_with_the_reason(
    settings: Settings, session: Session, client: Any, window: Window
) -> None:
    add_domains(session, MAIL)
    client.set(COUNTER, 40)
    report = run_job(settings, "2026-10-05T09:20", window)
    assert isinstance(report.error, UsageError)
    assert "the counters hold only what was sent today" in str(report.error)
    assert client.get(COUNTER) == "40"


def test_a_dry_run_writes_nothing_and_lists_what_would_change(
    settings: Settings, session: Session, client: Any
) -> None:
    add_domains(session, "absent.com", "cleared.com", "kept.com", "same.com", "text.com")
    names = {name: keys(ACME, f"{name}.com")[0] for name in ("cleared", "kept", "same", "text")}
    client.mset({names["cleared"]: 250, names["kept"]: 250, names["text"]: "many"})
    count(client, TODAY, 3, "kept.com")
    count(client, TODAY, 4, "same.com")
    before = _contents(client)
    rehearsal = run_job(settings, dry_run=True)
    assert _contents(client) == before
    assert [(row["organization_id"], row["domain"], row["before"], row["after"]) for row in rehearsal.changes] == [
        (str(ACME), "cleared.com", 250, 0),
        (str(ACME), "kept.com", 253, 3),
        (str(ACME), "text.com", "many", 0),
    ]
    assert outcomes(rehearsal) == {"absent": 1, "cleared": 2, "kept": 2}
    assert list_runs(session) == []
    report = run_job(settings)
    assert (report.counters, report.changes) == (rehearsal.counters, [])
    assert client.mget(list(names.values())) == [None, "3", "4", None]
    assert (run_job(settings, dry_run=True).changes, outcomes(run_job(settings, dry_run=True))) == ([], {"already": 5})


def _contents(client: Any) -> dict[str, Any]:
    read = {"string": client.get, "hash": client.hgetall}
    return {key: read[client.type(key)](key) for key in client.scan_iter()}
