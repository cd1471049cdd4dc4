"""Rate limits, configured and learned, in virtual time on the real scripts."""

import math
from random import Random
from uuid import UUID, uuid4

import pytest

from tests.delivery.admission.token_bucket import TokenBucket
from tests.delivery.admission.virtual_admission import VirtualAdmission
from tests.delivery.admission.virtual_processes import Processes


@pytest.mark.parametrize(("rate", "seconds"), [(1, 40), (14, 20), (200, 5)])
def test_a_configured_rate_is_used_and_never_exceeded(queue: VirtualAdmission, rate: int, seconds: int) -> None:
    organization = uuid4()
    interval = 1.01 / rate
    limits = {organization: f"p@{round(interval * 1_000_000)}:0"}
    queue.configure(organization, limits[organization])
    for _ in range(rate * seconds + 100):
        queue.add(organization)
    processes = Processes(queue, 200, lambda *_: True, limits)
    processes.run(seconds)
    started = processes.started[organization]
    assert len(started) >= 0.97 * rate * seconds - 1
    assert all(len([each for each in started if at <= each < at + 1]) <= rate + 1 for at in started)


def test_a_limited_organization_leaves_its_places_to_the_others(queue: VirtualAdmission) -> None:
    slow, fast = uuid4(), uuid4()
    limits = {slow: "p@1000000:0"}
    queue.configure(slow, limits[slow])
    for _ in range(100):
        queue.add(slow)
    for _ in range(100):
        queue.add(fast)
    processes = Processes(queue, 5, lambda *_: True, limits)
    processes.run(3)
    assert len(processes.started[fast]) == 100
    assert len(processes.started[slow]) == 3


def test_a_burst_goes_out_at_once(queue: VirtualAdmission) -> None:
    organization = uuid4()
    limits = {organization: "p@1000000:4000000"}
    queue.configure(organization, limits[organization])
    for _ in range(20):
        queue.add(organization)
    processes = Processes(queue, 50, lambda *_: True, limits)
    processes.run(0.1)
    assert len(processes.started[organization]) == 5


def test_a_second_provider_is_used_where_the_first_asks_to_wait_for_long(queue: VirtualAdmission) -> None:
    organization, used = uuid4(), []

    def judge(_organization: UUID, provider: str, _at: float) -> bool:
        used.append(provider)
        return True

    limits = {organization: "p q"}
    for _ in range(4):
        queue.add(organization)
    queue.report("p", "refused", organization, limits[organization], 600)
    processes = Processes(queue, 1, judge, limits)
    processes.run(1)
    assert used == ["q"] * 4
    queue.set_time(601)
    queue.add(organization)
    processes.run(602)
    assert used[-1] == "p"


def test_a_turn_that_was_not_used_is_given_back(queue: VirtualAdmission) -> None:
    organization, limits = uuid4(), "p@1000000:0"
    queue.configure(organization, limits)
    queue.add(organization)
    queue.add(organization)
    assert queue.take()[0] is not None
    assert queue.take() == (None, 0.75)
    queue.report("p", "unsent", organization, limits)
    queue.configure(organization, limits)
    assert queue.take()[0] is not None


def test_a_limit_that_is_raised_or_taken_away_holds_at_once(queue: VirtualAdmission) -> None:
    organization = uuid4()
    queue.configure(organization, "p@60000000:0")
    queue.add(organization)
    queue.add(organization)
    assert queue.take()[0] is not None
    assert queue.take()[0] is None
    queue.configure(organization, "p")
    assert queue.take()[0] is not None


# The rate and burst of the provider, and until when it is watched, in seconds.
@pytest.mark.parametrize(
    ("rate", "burst", "end"), [(1, 1, 130), (1, 5, 130), (5, 1, 90), (14, 14, 90), (14, 2, 90), (100, 100, 40)]
)
def test_a_rate_is_learned_from_refusals(queue: VirtualAdmission, rate: int, burst: int, end: int) -> None:
    organization, bucket = uuid4(), TokenBucket(rate, burst, clock=lambda: queue.now)
    limits = {organization: "p"}
    for _ in range(rate * end + 100):
        queue.add(organization)
    processes = Processes(queue, 60, lambda *_: bucket.take(), limits, random=Random(2))
    processes.run(end)
    check(bucket, 30 if end > 60 else 15, end, rate)


# The rate and burst of the provider, by how much messages miss their turns, and the share of the rate that is to be
# sent from 30 seconds on. Without a burst, two messages that come closer to each other by the jitter are one too many.
@pytest.mark.parametrize(
    ("rate", "burst", "jitter", "share"),
    [(1, 1, 0, 0.97), (1, 1, 0.02, 0.95), (5, 1, 0, 0.97), (14, 1, 0, 0.97), (5, 5, 0.02, 0.97), (14, 14, 0.02, 0.97)],
)
def test_hardly_a_message_is_refused_once_a_rate_is_learned(
    queue: VirtualAdmission, rate: int, burst: int, jitter: float, share: float
) -> None:
    organization, bucket = uuid4(), TokenBucket(rate, burst, clock=lambda: queue.now)
    # 200 messages at least: of fewer, two refusals may be more than 2 %.
    end = 30 + max(100, 200 // rate)
    for _ in range(rate * end + 100):
        queue.add(organization)
    limits = {organization: "p"}
    processes = Processes(queue, 20, lambda *_: bucket.take(), limits, jitter=jitter, random=Random(2))
    processes.run(end)
    taken = sum(30 <= at < end for at in bucket.taken)
    refused = sum(30 <= at < end for at in bucket.refused)
    assert taken >= share * rate * (end - 30), (taken, refused)
    assert refused <= 0.02 * (taken + refused), (taken, refused)


@pytest.mark.parametrize("seed", range(6))
def test_a_rate_is_learned_where_a_refusal_names_the_next_whole_second(queue: VirtualAdmission, seed: int) -> None:
    """As SendGrid's X-RateLimit-Reset does: messages are held until then, so that some turns are not tried."""
    organization, random = uuid4(), Random(seed)
    queue.set_time(random.random())
    bucket = TokenBucket(1, 1, clock=lambda: queue.now)
    for _ in range(230):
        queue.add(organization)
    processes = Processes(queue, 20, lambda *_: bucket.take(), {organization: "p"}, random=random)
    processes.asked = lambda at: math.ceil(at) - at
    processes.run(130)
    taken, refused = (sum(at >= 30 for at in times) for times in (bucket.taken, bucket.refused))
    assert taken >= 0.96 * 100
    assert refused <= 0.02 * (taken + refused)


@pytest.mark.parametrize("rate", [1, 14])
def test_a_configured_rate_that_new_processes_miss_is_used_again(queue: VirtualAdmission, rate: int) -> None:
    organization, bucket = uuid4(), TokenBucket(rate, 1, clock=lambda: queue.now)
    limits = {organization: f"p@{round(1_010_000 / rate)}:0"}
    queue.configure(organization, limits[organization])
    for _ in range(rate * 130 + 100):
        queue.add(organization)
    # The first messages of four processes are late, and the ones that follow too close to them.
    late = [0.3 / rate, 0, 0, 0.2 / rate, 0, 0.3 / rate, 0, 0, 0.2 / rate]
    processes = Processes(queue, 20, lambda *_: bucket.take(), limits, jitter=0.005 / rate, late=late, random=Random(2))
    processes.run(130)
    assert 3 <= sum(at < 20 for at in bucket.refused) <= 8
    assert [at for at in bucket.refused if at >= 30] == []
    assert sum(at >= 30 for at in bucket.taken) >= 0.97 * rate * 100


def test_a_configured_rate_that_is_refused_is_tried_again_ever_more_rarely(queue: VirtualAdmission) -> None:
    organization, bucket = uuid4(), TokenBucket(11, 11, clock=lambda: queue.now)
    limits = {organization: f"p@{round(1_010_000 / 14)}:0"}
    queue.configure(organization, limits[organization])
    for _ in range(14 * 330 + 100):
        queue.add(organization)
    Processes(queue, 20, lambda *_: bucket.take(), limits, random=Random(2)).run(330)
    assert sum(at >= 30 for at in bucket.taken) >= 0.97 * 11 * 300
    assert sum(30 <= at < 90 for at in bucket.refused) > 5
    assert sum(at >= 210 for at in bucket.refused) <= 5


def test_answers_that_come_late_are_not_taken_for_those_to_a_low_rate(queue: VirtualAdmission) -> None:
    """What was sent before the limit was known is refused two seconds later or more, when two a second are sent."""
    organization, bucket = uuid4(), TokenBucket(14, 14, clock=lambda: queue.now)
    for _ in range(14 * 50):
        queue.add(organization)
    processes = Processes(queue, 200, lambda *_: bucket.take(), {organization: "p"}, seconds=2.0, random=Random(2))
    processes.run(40)
    assert sum(at >= 20 for at in bucket.taken) > 0.6 * 14 * 20


# The rates before and after, and for how many seconds after the change it is unlearned.
@pytest.mark.parametrize(("rate", "changed", "seconds"), [(14, 5, 15), (5, 20, 120)])
def test_a_rate_that_changes_is_learned_again(queue: VirtualAdmission, rate: int, changed: int, seconds: int) -> None:
    organization, bucket = uuid4(), TokenBucket(rate, rate, clock=lambda: queue.now)
    limits = {organization: "p"}
    end = 60 + seconds + 30
    for _ in range(max(rate, changed) * end):
        queue.add(organization)
    processes = Processes(queue, 60, lambda *_: bucket.take(), limits, random=Random(2))
    processes.run(60)
    bucket.rate, bucket.burst = changed, changed
    processes.run(end)
    check(bucket, 60 + seconds, end, changed)


def check(bucket: TokenBucket, start: float, end: float, rate: float) -> None:
    taken = sum(start <= at < end for at in bucket.taken)
    refused = sum(start <= at < end for at in bucket.refused)
    assert taken >= 0.95 * rate * (end - start), (taken, refused)
    assert refused <= 0.03 * taken, (taken, refused)


def test_a_provider_without_traffic_keeps_what_was_learned_of_it(queue: VirtualAdmission) -> None:
    organization, bucket = uuid4(), TokenBucket(14, 14, clock=lambda: queue.now)
    limits = {organization: "p"}
    processes = Processes(queue, 60, lambda *_: bucket.take(), limits)
    for _ in range(600):
        queue.add(organization)
    processes.run(60)
    learned = float(queue.hash("limit:p")["good"])
    for second in range(60, 600, 10):
        queue.set_time(second)
        queue.add(organization)
        processes.run(second + 9)
    assert float(queue.hash("limit:p")["r"]) == pytest.approx(learned, rel=0.1)


def test_a_provider_that_takes_nothing_is_left_alone_for_longer_and_longer(queue: VirtualAdmission) -> None:
    organization, bucket = uuid4(), TokenBucket(50, 50, clock=lambda: queue.now)
    limits, is_closed = {organization: "p"}, True
    for _ in range(500):
        queue.add(organization)

    def judge(_organization: UUID, _provider: str, at: float) -> bool:
        if is_closed:
            bucket.refused.append(at)
        return not is_closed and bucket.take()

    processes = Processes(queue, 10, judge, limits)
    processes.run(600)
    assert len(bucket.refused) < 200
    is_closed = False
    processes.run(1260)
    assert len(bucket.taken) == 500
