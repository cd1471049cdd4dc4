"""Messages that an operator pauses or limits, from the command to the receiver."""

import asyncio
import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from mauntic_jobs.errors import ExitCode
from tests.delivery.ledger.test_operator_commands import program
from tests.delivery.sink import Sink
from tests.delivery.world import DAY, World
from tests.support import run_on_loop, wait_until

SOON = timedelta(seconds=1)
WHY = ("--why", "a bad list")


def hold(world: World, *arguments: object, command: str = "pause", why: tuple[str, str] = WHY) -> str:
    """Restrict something; return the id of the restriction."""
    done = program(world, "deliveries", command, *map(str, arguments), *why)
    assert done.returncode == ExitCode.DONE, done.stderr
    (number,) = re.findall(r"deliveries resume (\d+)", done.stdout)
    return str(number)


def resume(world: World, *arguments: str) -> None:
    done = program(world, "deliveries", "resume", *arguments)
    assert done.returncode == ExitCode.DONE, done.stderr


def recipients(sink: Sink) -> list[str]:
    return sorted(each.recipients[0] for each in sink.messages())


def another(world: World, sink: Sink) -> UUID:
    """Return another organization, with a provider of its own."""
    own, world.organization = world.organization, uuid4()
    world.provider(sink.host, sink.port)
    other, world.organization = world.organization, own
    return other


# What is paused, and whose messages wait for it.
SCOPES: dict[str, tuple[Callable[[World, dict[str, Any]], list[object]], set[str]]] = {
    "organization": (lambda world, _: ["--org", world.organization], {"own", "campaign", "send"}),
    "channel": (lambda *_: ["--channel", "email"], {"own", "campaign", "send", "other"}),
    "all": (lambda *_: ["--all"], {"own", "campaign", "send", "other"}),
    "other channel": (lambda *_: ["--channel", "sms"], set()),
    "campaign": (lambda world, _: ["--org", world.organization, "--campaign", "spring sale"], {"campaign"}),
    "send": (lambda world, ids: ["--org", world.organization, "--campaign", str(ids["send"]).upper()], {"send"}),
    "provider": (lambda _, ids: ["--provider", ids["provider"]], {"own", "campaign", "send"}),
}


@pytest.mark.parametrize("scope", SCOPES)
def test_what_is_paused_waits_and_nothing_else(world: World, sink: Sink, scope: str) -> None:
    ids = {"provider": world.provider(sink.host, sink.port), "send": world.campaign(1), "other": another(world, sink)}
    which, waiting = SCOPES[scope]
    number = hold(world, *which(world, ids), "--for", "2h")
    world.add(
        world.message("own", emailAddress="own@example.com"),
        world.message("campaign", emailAddress="campaign@example.com", campaignId="spring sale"),
        world.message("send", emailAddress="send@example.com", jobId=str(ids["send"])),
        world.message("other", emailAddress="other@example.com", organizationId=str(ids["other"])),
    )
    world.deliver(drain_timeout=SOON)
    everybody = {f"{name}@example.com" for name in ("own", "campaign", "send", "other")}
    held = {f"{name}@example.com" for name in waiting}
    assert set(recipients(sink)) == everybody - held
    assert len(world.jobs_in("wait")) == len(held)
    resume(world, number)
    world.deliver()
    assert recipients(sink) == sorted(everybody)
    # Held back is not tried: nothing was spent, and nothing deferred.
    assert {row["state"] for row in world.ledger()} == {"sent"}
    assert [row["fence"] for row in world.ledger()] == [1] * 4


def test_a_paused_provider_leaves_its_messages_to_the_next_one(world: World, sink: Sink) -> None:
    first = world.provider(sink.host, sink.port, priority=1)
    second = world.provider(sink.host, sink.port)
    hold(world, "--provider", first)
    world.add(*(world.message(f"d{n}") for n in range(5)))
    world.deliver()
    assert {row["provider_id"] for row in world.ledger()} == {second}


def test_a_pause_counts_while_processes_run_and_what_is_in_hand_is_sent(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    engine = world.engine(until_empty=False)

    async def run() -> None:
        running = asyncio.ensure_future(engine.run())
        world.add(world.message("before"))
        await until(lambda: len(sink.messages()) == 1)
        number = await asyncio.to_thread(hold, world, "--org", world.organization, "--for", "2h")
        await asyncio.sleep(2.5)
        world.add(world.message("held"))
        await asyncio.sleep(1)
        assert len(sink.messages()) == 1
        await asyncio.to_thread(resume, world, number)
        await until(lambda: len(sink.messages()) == 2)
        engine.stop()
        await running

    async def until(condition: Callable[[], bool]) -> None:
        await asyncio.to_thread(wait_until, condition, "a message")

    run_on_loop(asyncio.wait_for(run(), 120))


def test_a_rate_is_kept(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    hold(world, "--org", world.organization, "--rate", "5/s", command="limit")
    world.add(*(world.message(f"d{n}") for n in range(20)))
    world.deliver()
    times = sorted(each.at for each in sink.messages())
    assert len(times) == 20
    assert (times[-1] - times[0]).total_seconds() >= 19 / 5 - 0.3


def test_what_was_held_back_does_not_expire_by_it(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    world.add(world.message("held"), ids=["held"])
    world.add(world.message("late", organizationId=str(other := another(world, sink))), ids=["late"])
    for job in ("held", "late"):
        made = int(world.job(job)["timestamp"]) - 3 * DAY // timedelta(milliseconds=1)
        world.ask("HSET", f"{world.base}:{job}", "timestamp", made)
    world.write(
        "INSERT INTO mauntic_jobs.restrictions"
        " (organization_id, rate, why, set_by, since, until, ended_at, ended_by)"
        " VALUES (%(organization)s, 0, 'w', 'ops', now() - interval '3 days', now() + interval '1 day',"
        " now() - interval '1 day', 'ops'), (%(organization)s, 0, 'w', 'ops', now() - interval '60 hours',"
        " now() - interval '20 hours', NULL, NULL)"
    )
    world.deliver()
    assert {row["organization_id"]: row["state"] for row in world.ledger()} == {
        world.organization: "sent",
        other: "expired",
    }


def test_messages_of_another_channel_on_the_queue_are_held_back_too(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    hold(world, "--channel", "sms", "--for", "2h")
    step = {"channel": "sms", "phoneNumber": "+15005550006", "body": "Hello", "emailAddress": ...}
    world.add(world.message("step", **step), world.message("mail"))
    world.deliver(drain_timeout=SOON)
    assert world.states() == {"mail": "sent"}
    assert len(world.jobs_in("delayed")) == 1


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((), "Say whose messages"),
        (("--all", "--channel", "email"), "Say whose messages"),
        (("--campaign", "spring"), "A campaign is one organization's"),
        (("--provider", str(uuid4())), "There is no provider"),
        (("--channel", "fax"), "There is no channel fax"),
        (("--all", "--until", "2020-01-01"), "is past"),
        (("--all", "--until", "2099-01-01", "--for", "2h"), "either --until or --for"),
        (("--all", "--for", "9999999w"), "too long"),
        (("--all", "--why", " "), "--why is a sentence"),
    ],
)
def test_bad_input_says_what_to_do(world: World, arguments: tuple[str, ...], error: str) -> None:
    done = program(world, "deliveries", "pause", *WHY, *arguments)
    assert (done.returncode, error in done.stderr) == (ExitCode.USAGE, True), done.stderr
    assert world.session.rows(b"SELECT FROM mauntic_jobs.restrictions") == []


def test_what_does_not_hold_cannot_be_ended(world: World) -> None:
    number = hold(world, "--all")
    resume(world, "--all")
    for arguments in ((number,), ("4711",), (), (number, "--all")):
        assert program(world, "deliveries", "resume", *arguments).returncode == ExitCode.USAGE


def test_what_is_held_back_is_listed_with_who_and_why(world: World) -> None:
    first = hold(world, "--org", world.organization, "--for", "2h")
    hold(world, "--channel", "sms", "--rate", "600/m", command="limit")
    resume(world, first)
    shown = program(world, "deliveries", "restrictions").stdout
    assert "the sms messages: at most 10/s" in shown
    assert "a bad list" in shown
    assert str(world.organization) not in shown
    everything = program(world, "deliveries", "restrictions", "--ended", "--wide").stdout
    assert f"all messages of organization {world.organization}: paused" in everything


def test_status_shows_a_pause_in_red_with_its_end_and_how_to_end_it(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    number = hold(world, "--org", world.organization, "--until", "2099-01-01T09:30")
    hold(world, "--channel", "sms", "--rate", "600/m", command="limit")
    world.add(world.message())
    world.deliver(drain_timeout=SOON)
    shown = json.loads(program(world, "status", "--json").stdout)
    pause, rate = (each for each in shown["findings"] if each["subject"] == "deliver")
    assert pause["urgent"]
    assert pause["text"].startswith(
        f"all messages of organization {world.organization}: paused until 2099-01-01 09:30 UTC, by "
    )
    assert pause["text"].endswith(": a bad list")
    assert pause["command"] == f"mauntic-jobs deliveries resume {number}"
    assert (rate["urgent"], "at most 10/s until it is resumed" in rate["text"]) == (False, True)
    queue = next(each for each in shown["queues"] if each["queue"] == "delivery:send-email")
    assert (queue["is_limited"], queue["prioritized"]) == (True, 1)


def test_of_many_pauses_status_shows_the_latest(world: World) -> None:
    for _ in range(8):
        hold(world, "--org", uuid4())
    shown = json.loads(program(world, "status", "--json").stdout)
    texts = [each["text"] for each in shown["findings"] if each["subject"] == "deliver"]
    assert (len(texts), texts[-1]) == (6, "3 more pauses and rates")
