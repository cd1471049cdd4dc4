"""Limits of a day, configured or of an account, in virtual time on the real scripts."""

import itertools
from random import Random
from uuid import UUID, uuid4

import pytest

from mauntic_jobs.delivery.admission.admission import AccountState
from mauntic_jobs.delivery.sending.providers.rate_limit import limits_entry
from tests.delivery.admission.token_bucket import TokenBucket
from tests.delivery.admission.virtual_admission import VirtualAdmission
from tests.delivery.admission.virtual_processes import Processes

DAY, PART = 86_400, 600


def take_all(queue: VirtualAdmission) -> tuple[list[str], float]:
    """Take what may go now, without giving it a place; return the providers, and the seconds until there is more."""
    providers: list[str] = []
    while True:
        taken, wait = queue.take()
        if taken is None:
            return providers, wait
        assert taken.turn is not None
        providers.append(taken.turn.provider)
        queue.finish(taken.id)


def add(queue: VirtualAdmission, organization: UUID, count: int) -> None:
    for _ in range(count):
        queue.add(organization)


@pytest.mark.parametrize("seed", range(5))
def test_no_day_has_more_than_the_limit_and_none_is_wasted(queue: VirtualAdmission, seed: int) -> None:
    random, organization, daily = Random(seed), uuid4(), 20
    queue.configure(organization, f"p@::{daily}")
    times: list[float] = []
    while queue.now < 4 * DAY:
        if random.random() < 0.5:
            add(queue, organization, random.randint(1, 15))
        found, wait = take_all(queue)
        assert set(found) <= {"p"}
        times += [queue.now] * len(found)
        assert all(sum(at - DAY < each <= at for each in times) <= daily for at in set(times))
        if queue.waiting(organization):
            # What waits goes as soon as there is room: a turn counts for ten minutes longer than a day at most.
            assert sum(each > queue.now - DAY - PART for each in times) >= daily
            room = times[-daily] + DAY
            assert room - 1 <= queue.now + wait <= room + PART
        queue.set_time(queue.now + min(wait, random.choice([1, 900, 20_000])))
    assert len(times) > 3 * daily


def test_a_limit_of_a_day_holds_beside_a_rate(queue: VirtualAdmission) -> None:
    organization = uuid4()
    limits = {organization: "p@101000:0:30"}
    queue.configure(organization, limits[organization])
    add(queue, organization, 100)
    processes = Processes(queue, 50, lambda *_: True, limits)
    processes.run(2)
    assert 18 <= len(processes.started[organization]) <= 21
    processes.run(1000)
    assert len(processes.started[organization]) == 30


@pytest.mark.parametrize(("burst", "most"), [(1, 24), (10, 33)])
def test_a_rate_over_a_day_is_spread_evenly_and_its_burst_comes_on_top(
    queue: VirtualAdmission, burst: int, most: int
) -> None:
    organization, times = uuid4(), []
    queue.configure(organization, limits_entry("p", {"rateLimit": 24, "rateDelta": DAY * 1000, "rateBurst": burst}))
    add(queue, organization, 100)
    while queue.now < 2 * DAY:
        found, wait = take_all(queue)
        times += [queue.now] * len(found)
        queue.set_time(queue.now + wait)
    assert times[:burst] == [0.0] * burst
    assert max(sum(at - DAY < each <= at for each in times) for at in times) == most
    gaps = [later - earlier for earlier, later in itertools.pairwise(times[burst:])]
    assert all(3635 < gap < 3637 for gap in gaps)


def test_the_next_provider_is_used_while_the_first_has_no_room(queue: VirtualAdmission) -> None:
    organization, other = uuid4(), uuid4()
    queue.configure(organization, "p@::3 q")
    add(queue, organization, 5)
    add(queue, other, 2)
    assert sorted(take_all(queue)[0]) == ["", "", "p", "p", "p", "q", "q"]
    queue.set_time(DAY + PART)
    add(queue, organization, 1)
    assert take_all(queue)[0] == ["p"]


def test_turns_that_were_not_used_do_not_count(queue: VirtualAdmission) -> None:
    organization, limits = uuid4(), "p@::2"
    queue.configure(organization, limits)
    add(queue, organization, 5)
    assert take_all(queue)[0] == ["p", "p"]
    # Half a minute later a new part of the day has begun, it may be.
    queue.set_time(PART - 1)
    queue.report("p", "unsent", organization, limits)
    queue.report("p", "elsewhere", organization, limits)
    queue.configure(organization, limits)
    assert take_all(queue)[0] == ["p", "p"]
    queue.report("p", "counted", organization, "p@::3")
    queue.configure(organization, "p@::3")
    assert take_all(queue)[0] == []


def test_a_limit_that_is_raised_holds_at_once(queue: VirtualAdmission) -> None:
    organization = uuid4()
    queue.configure(organization, "p@::2")
    add(queue, organization, 10)
    assert len(take_all(queue)[0]) == 2
    queue.configure(organization, "p@::5")
    assert len(take_all(queue)[0]) == 3


def test_a_used_up_quota_is_left_alone_for_as_long_as_is_said_and_teaches_no_rate(queue: VirtualAdmission) -> None:
    organization = uuid4()
    add(queue, organization, 5)
    queue.report("p", "full", organization, "p", 3600)
    providers, wait = take_all(queue)
    assert (providers, 3590 < wait <= 3600) == ([], True)
    assert {"i", "phase", "r", "p"} & set(queue.hash("limit:p")) == set()
    queue.set_time(3600)
    # Nothing limits it any more.
    assert take_all(queue)[0] == [""] * 5


@pytest.mark.parametrize(("rate", "burst", "processes"), [(14, 14, 1), (14, 2, 4)])
def test_the_rate_of_the_account_is_used_from_the_beginning(
    queue: VirtualAdmission, rate: int, burst: int, processes: int
) -> None:
    organization, bucket = uuid4(), TokenBucket(rate, burst, clock=lambda: queue.now)
    limits = {organization: "p"}
    add(queue, organization, rate * 70)
    queue.note_account("p", rate, -1, 0, organization, "p")
    running = Processes(queue, 15 * processes, lambda *_: bucket.take(), limits)
    running.run(60)
    assert len(bucket.taken) >= 0.97 * rate * 60
    assert len(bucket.refused) <= 0.02 * len(bucket.taken)


def test_what_the_provider_refuses_corrects_the_rate_of_the_account(queue: VirtualAdmission) -> None:
    organization, bucket = uuid4(), TokenBucket(5, 5, clock=lambda: queue.now)
    limits = {organization: "p"}
    add(queue, organization, 1000)
    queue.note_account("p", 14, -1, 0, organization, "p")
    running = Processes(queue, 30, lambda *_: bucket.take(), limits)
    running.run(30)
    learned = float(queue.hash("limit:p")["i"])
    assert 170_000 < learned < 240_000
    # Asked again it says the same: what was learned stays.
    queue.note_account("p", 14, -1, 100, organization, "p")
    assert float(queue.hash("limit:p")["i"]) == learned
    # A rate that was raised is used at once.
    bucket.rate = bucket.burst = 50
    queue.note_account("p", 50, -1, 100, organization, "p")
    before = len(bucket.taken)
    running.run(35)
    assert len(bucket.taken) - before >= 0.9 * 5 * 50


def test_a_rate_that_was_being_learned_from_nothing_gives_way_to_the_account(queue: VirtualAdmission) -> None:
    organization = uuid4()
    add(queue, organization, 500)
    queue.report("p", "refused", organization, "p")
    assert queue.hash("limit:p")["phase"] == "start"
    queue.note_account("p", 14, -1, 0, organization, "p")
    assert {"i", "phase"} & set(queue.hash("limit:p")) == set()
    running = Processes(queue, 30, lambda *_: True, {organization: "p"})
    running.run(10)
    assert len(running.started[organization]) >= 0.97 * 140


def test_a_configured_rate_comes_before_that_of_the_account(queue: VirtualAdmission) -> None:
    organization = uuid4()
    queue.configure(organization, "p@1010000:0")
    add(queue, organization, 100)
    queue.note_account("p", 14, -1, 0, organization, "p@1010000:0")
    running = Processes(queue, 30, lambda *_: True, {organization: "p@1010000:0"})
    running.run(10)
    assert 9 <= len(running.started[organization]) <= 11


def test_what_others_sent_counts_towards_the_quota_of_the_account(queue: VirtualAdmission) -> None:
    organization = uuid4()
    add(queue, organization, 100)
    assert queue.note_account("p", 0, 50, 30, organization, "p") == AccountState.NEW
    assert len(take_all(queue)[0]) == 20
    # Ours are sent, and others have sent no more.
    assert queue.note_account("p", 0, 50, 50, organization, "p") == AccountState.FULL
    assert take_all(queue)[0] == []
    # Five of the others' have left the window.
    queue.set_time(3600)
    assert queue.note_account("p", 0, 50, 45, organization, "p") == AccountState.OPEN
    assert len(take_all(queue)[0]) == 5
    # The quota was raised.
    queue.note_account("p", 0, 60, 50, organization, "p")
    assert len(take_all(queue)[0]) == 10


def test_turns_in_hand_count_though_the_provider_does_not_know_them_yet(queue: VirtualAdmission) -> None:
    organization = uuid4()
    add(queue, organization, 20)
    queue.note_account("p", 0, 5, 0, organization, "p")
    assert len(take_all(queue)[0]) == 5
    queue.note_account("p", 0, 5, 2, organization, "p")
    assert take_all(queue)[0] == []
    # Nothing is in hand after so long: three turns were lost with a process that died.
    queue.set_time(3 * PART)
    queue.note_account("p", 0, 5, 2, organization, "p")
    assert len(take_all(queue)[0]) == 3


def test_a_quota_that_others_use_up_is_left_alone_until_the_account_says_otherwise(queue: VirtualAdmission) -> None:
    organization = uuid4()
    add(queue, organization, 20)
    queue.note_account("p", 0, 1000, 0, organization, "p")
    for _ in range(3):
        assert queue.take()[0] is not None
    queue.report("p", "full", organization, "p", 3600)
    queue.report("p", "elsewhere", organization, "p")
    # The refused one was not sent, which leaves the room of one.
    assert len(take_all(queue)[0]) == 1
    queue.report("p", "full", organization, "p", 3600)
    assert take_all(queue)[0] == []
    queue.set_time(PART)
    queue.note_account("p", 0, 1000, 990, organization, "p")
    assert len(take_all(queue)[0]) == 10


def test_an_account_without_a_quota_any_more_limits_nothing(queue: VirtualAdmission) -> None:
    organization = uuid4()
    add(queue, organization, 20)
    queue.note_account("p", 1, 5, 5, organization, "p")
    assert take_all(queue)[0] == []
    queue.note_account("p", 0, -1, 5, organization, "p")
    assert len(take_all(queue)[0]) == 20
