"""Providers that fail, and organizations without a free place: their lanes wait, in virtual time."""

from random import Random
from uuid import uuid4

import pytest

from tests.delivery.admission.virtual_admission import LOOKAHEAD, VirtualAdmission
from tests.delivery.admission.virtual_processes import Processes


def providers_of(queue: VirtualAdmission, count: int) -> list[str]:
    """Take so many jobs; return the providers of their turns."""
    turns = [taken.turn for taken, _ in (queue.take() for _ in range(count)) if taken is not None]
    assert len(turns) == count
    return [turn.provider for turn in turns if turn is not None]


def test_messages_wait_for_a_provider_that_fails_and_those_of_others_do_not(queue: VirtualAdmission) -> None:
    failing, other = uuid4(), uuid4()
    for _ in range(3):
        queue.add(failing)
    sent = queue.add(other)
    queue.leave_alone("p", 60, failing, "p")
    taken, _ = queue.take()
    assert taken is not None
    assert taken.id == sent
    assert queue.take() == (None, 60 - LOOKAHEAD)
    queue.set_time(60)
    assert queue.take()[0] is not None


def test_it_is_left_alone_for_the_longer_of_two_times(queue: VirtualAdmission) -> None:
    organization = uuid4()
    queue.add(organization)
    for seconds in (60, 30):
        queue.leave_alone("p", seconds, organization, "p")
    assert queue.take() == (None, 60 - LOOKAHEAD)


def test_the_next_provider_is_not_kept_waiting_for_one_that_fails(queue: VirtualAdmission) -> None:
    """Unlike for one that asks for a short wait: nothing says that it works then."""
    organization = uuid4()
    for _ in range(3):
        queue.add(organization)
    queue.leave_alone("p", 5, organization, "p q")
    assert providers_of(queue, 3) == ["q"] * 3


def test_the_first_provider_is_used_again_once_it_may_be_tried(queue: VirtualAdmission) -> None:
    organization = uuid4()
    for _ in range(2):
        queue.add(organization)
    queue.leave_alone("p", 5, organization, "p q")
    queue.set_time(5)
    assert providers_of(queue, 1) == ["p"]
    queue.set_time(13)
    # Nothing limits it any more: whatever it answers need not be reported.
    assert providers_of(queue, 1) == [""]


@pytest.mark.parametrize("ends", ["by its time", "by a success"])
def test_what_waited_goes_out_slowly_at_first_and_soon_at_full_rate(queue: VirtualAdmission, ends: str) -> None:
    organization = uuid4()
    for _ in range(700):
        queue.add(organization)
    queue.leave_alone("p", 10 if ends == "by its time" else 300, organization, "p")
    processes = Processes(queue, 100, lambda *_: True, {organization: "p"}, random=Random(1))
    processes.at(10, lambda: queue.use_again("p"))
    processes.at(10.001, processes.fill)
    processes.run(15)
    started = processes.started[organization]
    assert min(started) >= 10.0
    seconds = [sum(10 + n <= at < 11 + n for at in started) for n in range(5)]
    assert seconds == pytest.approx([20, 40, 80, 160, 320], rel=0.1)


def test_a_success_is_no_news_of_a_provider_that_is_in_use(queue: VirtualAdmission) -> None:
    organization = uuid4()
    queue.add(organization)
    queue.use_again("p")
    assert "b" not in queue.hash("limit:p")
    assert providers_of(queue, 1) == [""]


def test_a_lane_waits_for_a_place_and_no_other_does(queue: VirtualAdmission) -> None:
    slow, other = uuid4(), uuid4()
    jobs = [queue.add(slow) for _ in range(3)]
    assert providers_of(queue, 1) == [""]
    queue.hold(f"1 {slow}", 4)
    queue.add(other)
    assert providers_of(queue, 1) == [""]
    assert queue.take() == (None, 4)
    # New messages wait behind the others.
    queue.add(slow)
    assert queue.take()[0] is None
    queue.free(slow)
    taken, _ = queue.take()
    assert taken is not None
    assert taken.id == jobs[1]
    queue.hold(f"1 {slow}", 4)
    queue.set_time(4)
    assert queue.take()[0] is not None


def test_a_place_that_nothing_waits_for_and_a_lane_that_is_not_known_are_no_matter(queue: VirtualAdmission) -> None:
    organization = uuid4()
    queue.free(organization)
    queue.hold(f"1 {organization}", 60)
    queue.add(organization)
    assert queue.take()[0] is not None


def test_a_lane_that_waits_for_its_provider_does_not_wait_for_a_place_as_well(queue: VirtualAdmission) -> None:
    organization = uuid4()
    queue.add(organization)
    queue.leave_alone("p", 5, organization, "p")
    assert queue.take()[0] is None
    queue.hold(f"1 {organization}", 60)
    queue.set_time(5)
    assert queue.take()[0] is not None


def test_a_provider_that_works_for_another_process_is_not_left_alone(queue: VirtualAdmission) -> None:
    organization = uuid4()
    queue.add(organization)
    queue.set_time(100)
    queue.use_again("p")
    queue.set_time(101)
    assert not queue.leave_alone("p", 60, organization, "p", ago=5)
    assert queue.take()[0] is not None
    # It has failed since, and worked for none.
    queue.add(organization)
    assert queue.leave_alone("p", 60, organization, "p", ago=0.5)
    assert queue.take() == (None, 60 - LOOKAHEAD)


def test_a_lane_whose_provider_works_does_not_sleep_on_though_redis_has_lost_it(queue: VirtualAdmission) -> None:
    organization = uuid4()
    queue.add(organization)
    queue.leave_alone("p", 300, organization, "p")
    assert queue.take()[0] is None
    queue.lose("limit:p")
    queue.use_again("p")
    assert queue.take()[0] is not None


@pytest.mark.parametrize("lost", ["asleep:*", "wake"])
def test_a_lane_goes_on_with_its_next_message_though_redis_has_lost_what_it_waits_for(
    queue: VirtualAdmission, lost: str
) -> None:
    organization = uuid4()
    queue.add(organization)
    assert queue.take()[0] is not None
    queue.hold(f"1 {organization}", 3600)
    queue.lose(lost)
    queue.add(organization)
    assert queue.take()[0] is not None
