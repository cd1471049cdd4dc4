"""Plans of domains that are being warmed up: what waits goes out day by day, as far as each day's limit goes."""

import json
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest

from mauntic_jobs.errors import ExitCode
from mauntic_jobs.ops.warmup import WarmingDomain, plan_of, warmup_plans
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.window import naive
from mauntic_jobs.warmup.quota import daily_limit
from tests.support import organization, run_program, utc

NOW = utc("2026-10-02T12:00")
CREATED = utc("2026-10-01T09:00")


def domain(created: datetime = CREATED, sent: int = 100) -> WarmingDomain:
    limit = daily_limit(created, NOW)
    assert limit is not None
    return WarmingDomain(UUID(int=1), "acme.test", created, sent, limit)


def test_what_waits_goes_out_as_far_as_each_days_limit_goes() -> None:
    plan = plan_of(domain(), 1200, NOW)
    first = [(each.day, each.number, each.limit, each.goes_out) for each in plan.days[:6]]
    # At midnight the domain's day of the day before still lasts, until nine.
    assert first == [
        (date(2026, 10, 2), 2, 100, 0),
        (date(2026, 10, 3), 2, 100, 100),
        (date(2026, 10, 4), 3, 250, 250),
        (date(2026, 10, 5), 4, 500, 500),
        (date(2026, 10, 6), 5, 1000, 350),
        (date(2026, 10, 7), 6, 1750, 0),
    ]
    assert plan.ends == date(2026, 10, 6)
    # The last day with a limit is the 30th, and begins on the 31st of October at midnight.
    assert (plan.days[-1].day, plan.days[-1].number, plan.days[-1].limit) == (date(2026, 10, 31), 30, 50_000)


@pytest.mark.parametrize("waiting", [0, 1, 100, 101, 10**9])
def test_all_that_waits_goes_out_and_no_more(waiting: int) -> None:
    plan = plan_of(domain(), waiting, NOW)
    sent = sum(each.goes_out for each in plan.days)
    assert all(each.goes_out <= each.limit for each in plan.days)
    assert sent == waiting or (sent < waiting and plan.ends == plan.days[-1].day + timedelta(days=1))
    assert (plan.ends is None) == (waiting == 0)


def add(session: Session, owner: UUID, name: str, created: datetime, waiting: int = 0) -> None:
    session.execute(
        b"INSERT INTO delivery.sending_domains (organization_id, domain, created_at)"
        b" VALUES (%(owner)s, %(name)s, %(at)s)",
        {"owner": owner, "name": name, "at": naive(created)},
    )
    session.execute(
        b"INSERT INTO mauntic_jobs.deliveries (organization_id, delivery_id, channel, state, reason, until, queue_job,"
        b" owner) SELECT %(owner)s, gen_random_uuid()::text, 'email', 'deferred',"
        b" 'warm-up: ' || lower(%(name)s) || ' has sent its 50 messages of the day', now(), 'j', gen_random_uuid()"
        b" FROM generate_series(1, %(waiting)s)",
        {"owner": owner, "name": name, "waiting": waiting},
    )


def test_each_domain_has_its_own_plan(session: Session) -> None:
    add(session, organization(1), "Acme.test", CREATED, waiting=7)
    add(session, organization(2), "acme.test", CREATED, waiting=3)
    add(session, organization(1), "news.acme.test", CREATED - timedelta(days=3))
    add(session, organization(1), "old.test", CREATED - timedelta(days=40))
    plans = {(each.domain.organization, each.domain.name): each.waiting for each in warmup_plans(session, NOW)}
    assert plans == {
        (organization(1), "acme.test"): 7,
        (organization(2), "acme.test"): 3,
        (organization(1), "news.acme.test"): 0,
    }
    assert len(warmup_plans(session, NOW, organization(1))) == 2
    (plan,) = warmup_plans(session, NOW, organization(1), "ACME.TEST")
    assert plan.waiting == 7


def test_the_command_shows_all_or_the_days_of_one(direct_settings: Settings, session: Session) -> None:
    add(session, organization(1), "acme.test", datetime.now(UTC) - timedelta(days=3), waiting=7)
    listed = run_program("deliveries", "warm-up", settings=direct_settings)
    assert (listed.returncode, "acme.test" in listed.stdout) == (ExitCode.DONE, True), listed.stderr
    shown = run_program("deliveries", "warm-up", "--domain", "acme.test", settings=direct_settings).stdout
    assert "; the last of 7 messages that wait goes out on " in shown
    assert len(shown.splitlines()) == 2 + 28
    found = json.loads(run_program("deliveries", "warm-up", "--json", settings=direct_settings).stdout)
    assert [(each["domain"], each["waiting"], len(each["days"])) for each in found] == [("acme.test", 7, 28)]


def test_a_domain_that_is_not_being_warmed_up_is_named(direct_settings: Settings) -> None:
    done = run_program("deliveries", "warm-up", "--domain", "x.test", settings=direct_settings)
    assert (done.returncode, "No domain x.test is being warmed up" in done.stderr) == (ExitCode.USAGE, True)
    assert "no domain is being warmed up" in run_program("deliveries", "warm-up", settings=direct_settings).stderr
