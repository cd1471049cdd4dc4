"""The whole way over the email providers' APIs: what each outcome makes of the message and of the next provider."""

from collections.abc import Iterator

import pytest

from tests.delivery.adapters import KINDS, POSTMARK, Kind, add
from tests.delivery.fake_api import FakeApi, Fault, Reply, running_api
from tests.delivery.world import World

PAIRS = list(zip(KINDS, [*KINDS[1:], KINDS[0]], strict=True))


@pytest.fixture(params=PAIRS, ids=lambda pair: f"{pair[0].name}-{pair[1].name}")
def pair(request: pytest.FixtureRequest) -> tuple[Kind, Kind]:
    found: tuple[Kind, Kind] = request.param
    return found


@pytest.fixture
def first(world: World, pair: tuple[Kind, Kind]) -> Iterator[FakeApi]:
    with running_api(lambda _: pair[0].accepted("first-1")) as running:
        running.account = Reply(404)
        add(world, pair[0], running.url, priority=2)
        yield running


@pytest.fixture
def second(world: World, pair: tuple[Kind, Kind]) -> Iterator[FakeApi]:
    with running_api(lambda _: pair[1].accepted("second-1")) as running:
        running.account = Reply(404)
        add(world, pair[1], running.url, priority=1)
        yield running


def outcomes(world: World) -> list[list[tuple[str, str]]]:
    """Return for each delivery the providers that were tried, and what came of it."""
    return [[(each["provider"].split()[0], each["outcome"]) for each in row["attempts"]] for row in world.ledger()]


def test_an_email_is_sent_over_an_api_and_recorded(
    world: World, pair: tuple[Kind, Kind], first: FakeApi, second: FakeApi
) -> None:
    world.add(world.message("d1", headers={"X-A": "1"}, unsubscribeUrl="https://acme.test/u"), ids=["j1"])
    world.deliver()
    (taken,) = first.taken
    (row,) = world.ledger()
    assert (row["state"], row["provider_message_id"]) == ("sent", "first-1")
    assert outcomes(world) == [[(pair[0].name, "accepted")]]
    assert pair[0].delivery(taken) == world.key("d1")
    assert pair[0].message_id(taken) == row["message_id"]
    assert world.jobs_in("completed") == ["j1"]
    assert second.taken == []


def test_a_refused_email_has_failed_and_no_other_provider_is_asked(
    world: World, pair: tuple[Kind, Kind], first: FakeApi, second: FakeApi
) -> None:
    first.answer = lambda _: pair[0].invalid
    world.add(world.message(), ids=["j1"])
    world.deliver()
    (row,) = world.ledger()
    assert row["state"] == "failed"
    assert world.jobs_in("failed") == ["j1"]
    assert world.session.rows(b"SELECT email FROM delivery.suppressions") == []
    assert (len(first.taken), second.taken) == (1, [])


def test_a_bounced_recipient_is_suppressed(world: World) -> None:
    with running_api(lambda _: Reply(422, {"ErrorCode": 406, "Message": "inactive: ann@example.com"})) as api:
        add(world, POSTMARK, api.url)
        world.add(world.message())
        world.deliver()
    (row,) = world.ledger()
    assert (row["state"], row["reason"]) == ("failed", "422 ErrorCode 406: inactive: <address>")
    rows = world.session.rows(b"SELECT email, reason FROM delivery.suppressions")
    assert rows == [{"email": "ann@example.com", "reason": "bounce"}]


def test_a_short_limit_is_waited_for_and_a_long_one_is_not(
    world: World, pair: tuple[Kind, Kind], first: FakeApi, second: FakeApi
) -> None:
    kind, other = pair
    replies = [
        Reply(429, headers={"Retry-After": "0"}),
        kind.accepted("first-2"),
        Reply(429, headers={"Retry-After": "90"}),
    ]
    first.answer = lambda _: replies.pop(0)
    world.add(world.message("d1"), ids=["j1"])
    world.deliver()
    assert second.taken == []
    world.add(world.message("d2"), ids=["j2"])
    world.deliver()
    assert world.states() == {"d1": "sent", "d2": "sent"}
    assert outcomes(world) == [
        [(kind.name, "rate-limited"), (kind.name, "accepted")],
        [(kind.name, "rate-limited"), (other.name, "accepted")],
    ]
    # No attempt was spent on the limit.
    assert [world.job(name)["atm"] for name in ("j1", "j2")] == ["1", "1"]


def test_a_provider_that_is_of_no_use_is_passed_over(
    world: World, pair: tuple[Kind, Kind], first: FakeApi, second: FakeApi
) -> None:
    first.answer = lambda _: Reply(401, pair[0].said("no such key"))
    world.add(world.message())
    world.deliver()
    assert world.states() == {"d1": "sent"}
    assert outcomes(world) == [[(pair[0].name, "provider"), (pair[1].name, "accepted")]]
    assert pair[1].delivery(second.taken[0]) == world.key("d1")


def test_an_unknown_outcome_is_never_passed_on_and_sent_again_once(
    world: World, pair: tuple[Kind, Kind], first: FakeApi, second: FakeApi
) -> None:
    answers: list[Reply | Fault] = [Fault.RESET_AFTER_BODY, pair[0].accepted("first-2")]
    first.answer = lambda _: answers.pop(0)
    world.add(world.message(), ids=["j1"])
    world.deliver()
    assert world.states() == {"d1": "ambiguous"}
    assert world.jobs_in("delayed") == ["j1"]
    world.hurry()
    world.deliver()
    (row,) = world.ledger()
    assert (row["state"], row["possible_duplicate"], row["resends"]) == ("sent", True, 1)
    assert row["provider_message_id"] == "first-2"
    assert len({pair[0].message_id(taken) for taken in first.taken}) == 1
    assert (len(first.taken), second.taken) == (2, [])
