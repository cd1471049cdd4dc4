"""Accounts at SES: their rate and their quota of a day are asked for, and hold for all processes."""

import json
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mauntic_jobs.ops.providers.limits import ProviderLimit, read_limits
from mauntic_jobs.stores.redis.client import open_redis
from mauntic_jobs.timekeeping import clock
from tests.delivery.adapters import POSTMARK, SES, add
from tests.delivery.admission.token_bucket import TokenBucket
from tests.delivery.crash import ended, start
from tests.delivery.fake_api import FakeApi, Fault, Reply, Taken, running_api
from tests.delivery.ledger.test_operator_commands import program
from tests.delivery.sink import Sink
from tests.delivery.world import World
from tests.support import wait_until

DENIED = Reply(403, {"message": "no"}, {"x-amzn-errortype": "AccessDeniedException"})
QUOTA_USED_UP = Reply(
    429, {"message": "Daily message quota exceeded."}, {"x-amzn-errortype": "TooManyRequestsException"}
)
SOON = timedelta(seconds=1)


@dataclass
class Account:
    """SES with an account. `account` is its answer about that where it is not `rate`, `daily` and what was sent."""

    rate: float = 100.0
    daily: float = 50_000.0
    sent: int = 0
    account: Reply | Fault | None = None
    refuse: Reply | None = None
    asked: int = 0
    is_open: bool = True
    turned_away: int = 0
    bucket: TokenBucket = field(default_factory=lambda: TokenBucket(1000, 1000))

    def answer(self, taken: Taken) -> Reply | Fault:
        if taken.method == "GET":
            self.asked += 1
            quota = {"Max24HourSend": self.daily, "MaxSendRate": self.rate, "SentLast24Hours": float(self.sent)}
            return self.account or Reply(body={"SendQuota": quota, "EnforcementStatus": "HEALTHY"})
        if self.refuse is not None:
            return self.refuse
        self.turned_away += not self.is_open
        if not self.is_open or not self.bucket.take():
            return Reply(429, {"message": "Maximum sending rate exceeded."})
        self.sent += 1
        return SES.accepted(f"m{self.sent}")


@pytest.fixture
def account() -> Account:
    return Account()


@pytest.fixture
def api(account: Account) -> Iterator[FakeApi]:
    with running_api(account.answer) as running:
        yield running


def limit_of(world: World, provider: UUID) -> ProviderLimit | None:
    with closing(open_redis(world.settings)) as redis:
        found = read_limits(redis, world.settings, clock.now())
        return next((each for each in found if each.provider == provider), None)


@contextmanager
def delivering(world: World) -> Iterator[None]:
    process = start(world)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        assert ended(process)[0] == 0


def get_known(world: World, account: Account, provider: UUID) -> None:
    """Wait until what the account may send is known, and send a message."""
    account.is_open = False
    world.add(world.message("first"))
    with delivering(world):
        wait_until(lambda: (limit := limit_of(world, provider)) is not None and limit.account, "the account")
        # The turn that it had before that is not counted.
        before = account.turned_away
        wait_until(lambda: account.turned_away > before, "the next turn")
        account.is_open = True
        wait_until(lambda: account.sent == 1, "the message")
    # What was refused meanwhile has taught a rate.
    world.ask("HDEL", f"{world.base}:adm:limit:{provider}", "i", "phase")


def add_messages(world: World, count: int) -> None:
    world.add(*(world.message(f"d{n}") for n in range(count)), ids=[f"j{n}" for n in range(count)])


def attempts(world: World) -> set[str]:
    return {world.job(name)["atm"] for name in world.jobs_in("completed")}


def test_the_rate_of_the_account_is_used_and_asked_for_once(world: World, account: Account, api: FakeApi) -> None:
    provider = add(world, SES, api.url)
    account.rate, account.bucket = 20, TokenBucket(20, 20)
    get_known(world, account, provider)
    add_messages(world, 100)
    with delivering(world), delivering(world):
        wait_until(lambda: account.sent == 101, "the messages", 60)
    assert account.bucket.refused == []
    assert account.asked == 1
    assert attempts(world) == {"1"}
    limit = limit_of(world, provider)
    assert limit is not None
    assert limit.rate == limit.account == pytest.approx(20 / 1.01, rel=0.01)
    assert (limit.daily, limit.used, limit.full_until) == (50_000, 101, None)
    assert "19.8/s, of the account; 101 of 50,000 in 24 h" in program(world, "providers", "limits").stdout.replace(
        "\n", " "
    )


def test_messages_wait_for_the_quota_of_the_account(world: World, account: Account, api: FakeApi, sink: Sink) -> None:
    provider = add(world, SES, api.url)
    account.daily = 11
    get_known(world, account, provider)
    add_messages(world, 30)
    assert world.deliver(drain_timeout=SOON).left
    assert account.sent == 11
    assert Counter(world.states().values()) == {"sent": 11}
    limit = limit_of(world, provider)
    assert limit is not None
    assert (limit.daily, limit.used, limit.waiting) == (11, 11, 20)
    assert limit.full_until is not None
    assert timedelta(hours=23) < limit.full_until - clock.now() < timedelta(hours=24, minutes=11)
    shown(world, provider, limit)
    # Others are untouched.
    world.organization = world.contact()
    world.provider(sink.host, sink.port)
    world.add(world.message("o1"))
    assert world.deliver(drain_timeout=SOON).left
    assert len(sink.messages()) == 1


def shown(world: World, provider: UUID, limit: ProviderLimit) -> None:
    """Every place where an operator looks says so, with the time."""
    explained = json.loads(program(world, "deliveries", "explain", "j29", "--json").stdout)
    assert explained["state"] == "held"
    assert f"provider {provider} has used up its day of 11 messages" in explained["because"]
    assert limit.full_until is not None
    until = limit.full_until.isoformat()
    assert explained["until"] == until
    (listed,) = json.loads(program(world, "providers", "limits", "--json").stdout)
    assert (listed["daily"], listed["used"], listed["full_until"]) == (11, 11, until)
    status = json.loads(program(world, "status", "--json").stdout)
    (finding,) = (each for each in status["findings"] if str(provider) in each["text"])
    assert "has used up its day of 11 messages, 20 waiting: room, or asked again, at " in finding["text"]
    families = text_string_to_metric_families(program(world, "metrics").stdout)
    (sample,) = (
        each
        for family in families
        for each in family.samples
        if each.name == "mauntic_provider_full_until_timestamp_seconds"
    )
    assert (sample.labels["provider"], sample.value) == (str(provider), limit.full_until.timestamp())


def test_the_next_provider_takes_what_the_quota_leaves(world: World, account: Account, api: FakeApi) -> None:
    provider = add(world, SES, api.url, priority=5)
    account.daily = 6
    with running_api(lambda _: POSTMARK.accepted("p")) as other:
        add(world, POSTMARK, other.url)
        get_known(world, account, provider)
        add_messages(world, 20)
        world.deliver()
        assert (account.sent, len(other.taken)) == (6, 15)
    assert set(world.states().values()) == {"sent"}
    assert attempts(world) == {"1"}


def test_an_account_that_is_not_in_order_is_named_once(world: World, account: Account, api: FakeApi) -> None:
    add(world, SES, api.url)
    quota = {"Max24HourSend": -1.0, "MaxSendRate": 50.0, "SentLast24Hours": 1.0}
    account.account = Reply(body={"SendQuota": quota, "EnforcementStatus": "PROBATION"})
    add_messages(world, 60)
    world.deliver()
    assert account.sent == 60
    assert sum("its account is PROBATION" in each for each in world.said) == 1


def test_a_key_that_may_not_see_the_account_is_said_once(world: World, account: Account, api: FakeApi) -> None:
    add(world, SES, api.url)
    account.account = DENIED
    account.bucket = TokenBucket(50, 50)
    add_messages(world, 120)
    world.deliver()
    assert account.sent == 120
    assert account.asked == 1
    assert sum("ses:GetAccount" in each for each in world.said) == 1


@pytest.mark.parametrize(
    "answer", [Reply(500), Reply(200, b"[]"), Reply(200, b"{"), Fault.RESET_AFTER_BODY, Fault.FREEZE]
)
def test_an_account_that_cannot_be_seen_costs_no_message_anything(
    world: World, account: Account, api: FakeApi, answer: Reply | Fault
) -> None:
    add(world, SES, api.url)
    account.account = answer
    add_messages(world, 50)
    world.deliver()
    assert account.sent == 50
    assert set(world.states().values()) == {"sent"}
    assert account.asked <= 1
    assert world.session.rows(b"SELECT * FROM mauntic_jobs.provider_pauses") == []


@pytest.mark.parametrize("over", ["api", "smtp"])
def test_a_refusal_for_the_quota_means_hours_and_teaches_no_rate(
    world: World, account: Account, api: FakeApi, sink: Sink, over: str
) -> None:
    account.account, account.refuse = DENIED, QUOTA_USED_UP
    sink.behaviour.at_content = lambda _: "454 Throttling failure: Daily message quota exceeded."
    provider = add(world, SES, api.url) if over == "api" else world.provider(sink.host, sink.port)
    add_messages(world, 20)
    assert world.deliver(drain_timeout=SOON).left
    limit = limit_of(world, provider)
    assert limit is not None
    assert (limit.rate, limit.daily, limit.paused_until) == (None, None, None)
    assert limit.full_until is not None
    assert timedelta(minutes=59) < limit.full_until - clock.now() <= timedelta(hours=1)
    # Those that were in hand, and no others.
    assert len([each for each in api.taken if each.method == "POST"]) <= 10
    waiting = world.jobs_in("wait")
    assert len(waiting) == 20
    assert {world.job(name).get("atm", "0") for name in waiting} == {"0"}
    explained = json.loads(program(world, "deliveries", "explain", "j19", "--json").stdout)
    assert f"provider {provider} has used up its day" in explained["because"]
