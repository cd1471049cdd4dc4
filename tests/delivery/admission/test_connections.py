"""Connections at once that a provider takes from each process, learned from its refusals, in virtual time."""

from uuid import uuid4

import pytest

from tests.delivery.admission.virtual_admission import VirtualAdmission

ORGANIZATION = uuid4()
UNKNOWN = -1


def crowd(queue: VirtualAdmission, opened: int, known: int) -> int:
    return queue.crowd("p", opened, known, ORGANIZATION, "p")


def accept(queue: VirtualAdmission, at: float) -> int:
    queue.set_time(at)
    return queue.report("p", "accepted", ORGANIZATION, "p")


def test_a_process_alone_keeps_what_it_has(queue: VirtualAdmission) -> None:
    assert crowd(queue, 3, UNKNOWN) == 3
    # Connections that were being opened as others were refused.
    queue.set_time(0.5)
    assert crowd(queue, 5, 3) == 5
    assert crowd(queue, 4, 3) == 5


def test_a_process_without_a_connection_gets_one_of_the_others(queue: VirtualAdmission) -> None:
    assert crowd(queue, 2, UNKNOWN) == 2
    assert crowd(queue, 0, UNKNOWN) == 2
    queue.set_time(2)
    assert crowd(queue, 0, 2) == 1
    assert accept(queue, 2.5) == 1


def test_a_process_that_does_not_know_the_limit_is_told_it_and_does_not_lower_it(queue: VirtualAdmission) -> None:
    assert crowd(queue, 2, UNKNOWN) == 2
    queue.set_time(60)
    assert crowd(queue, 2, UNKNOWN) == 2


def test_connections_end_with_their_message_where_there_is_not_one_for_each_process(queue: VirtualAdmission) -> None:
    assert crowd(queue, 0, UNKNOWN) == 1
    queue.set_time(2)
    assert crowd(queue, 0, 1) == 0
    queue.set_time(4)
    # Nothing is left but to send fewer messages.
    assert crowd(queue, 0, 0) == -1


def test_one_more_is_tried_while_messages_are_taken_and_less_often_each_time_it_is_refused(
    queue: VirtualAdmission,
) -> None:
    assert crowd(queue, 2, UNKNOWN) == 2
    assert accept(queue, 14) == 2
    assert accept(queue, 16) == 3
    queue.set_time(18)
    assert crowd(queue, 2, 3) == 2
    assert accept(queue, 47) == 2
    assert accept(queue, 49) == 3


def test_a_limit_of_more_than_a_process_needs_is_forgotten(queue: VirtualAdmission) -> None:
    assert crowd(queue, 100, UNKNOWN) == 100
    assert accept(queue, 16) == UNKNOWN
    assert "k" not in queue.hash("limit:p")


@pytest.mark.parametrize("is_limited", [True, False])
def test_answers_of_a_provider_are_reported_while_its_connections_are_limited(
    queue: VirtualAdmission, *, is_limited: bool
) -> None:
    queue.add(ORGANIZATION)
    if is_limited:
        crowd(queue, 2, UNKNOWN)
    taken, _ = queue.take()
    assert taken is not None
    assert taken.turn is not None
    assert taken.turn.provider == ("p" if is_limited else "")
    assert taken.turn.seconds == 0
