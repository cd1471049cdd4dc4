"""Turns of organizations and classes, in virtual time on the real scripts."""

from collections import Counter
from random import Random
from uuid import UUID, uuid4

import pytest

from tests.delivery.admission.virtual_admission import VirtualAdmission
from tests.delivery.admission.virtual_processes import Processes


def owners(queue: VirtualAdmission, jobs: dict[str, UUID], count: int) -> list[UUID]:
    """Take so many jobs, and return whose they are."""
    found = []
    for _ in range(count):
        taken, _ = queue.take()
        assert taken is not None
        found.append(jobs[taken.id])
    return found


def test_a_small_organization_is_served_beside_a_large_one(queue: VirtualAdmission) -> None:
    large, small = uuid4(), uuid4()
    jobs = {queue.add(large): large for _ in range(3000)}
    jobs |= {queue.add(small): small for _ in range(20)}
    # Every second turn is the small one's, though its messages stand behind all others.
    assert Counter(owners(queue, jobs, 41))[small] == 20


def test_messages_of_an_organization_keep_their_order(queue: VirtualAdmission) -> None:
    organization = uuid4()
    jobs = [queue.add(organization, age=100 - n) for n in range(50)]
    assert [taken.id for _ in jobs if (taken := queue.take()[0])] == jobs


def test_transactional_messages_come_first_and_bulk_is_not_starved(queue: VirtualAdmission) -> None:
    bulk, urgent = uuid4(), uuid4()
    jobs = {queue.add(bulk): bulk for _ in range(100)}
    jobs |= {queue.add(urgent, transactional=True): urgent for _ in range(100)}
    first = owners(queue, jobs, 50)
    assert Counter(first) == {urgent: 40, bulk: 10}


def test_an_organization_saves_up_no_turns(queue: VirtualAdmission) -> None:
    early, late = uuid4(), uuid4()
    jobs = {queue.add(early): early for _ in range(200)}
    owners(queue, jobs, 100)
    jobs |= {queue.add(late): late for _ in range(200)}
    assert Counter(owners(queue, jobs, 40)) == {early: 20, late: 20}


def test_one_message_at_a_time_takes_no_more_than_its_turn(queue: VirtualAdmission) -> None:
    many, one = uuid4(), uuid4()
    jobs = {queue.add(many): many for _ in range(200)}
    taken = []
    for _ in range(40):
        # As soon as its message is taken, the next one is there.
        if not any(jobs[job] == one for job in queue.parked()):
            jobs[queue.add(one)] = one
        taken += owners(queue, jobs, 1)
    assert Counter(taken) == {many: 20, one: 20}


def test_an_organization_that_only_the_pipeline_knows_has_its_lane_by_a_field(queue: VirtualAdmission) -> None:
    forged, real = uuid4(), uuid4()
    job = queue.add(forged)
    taken, _ = queue.take()
    assert taken is not None
    assert taken.turn is not None
    assert taken.turn.lane == f"1 {forged}"
    queue.move(job, f"1 {real}")
    queue.give_back(job)
    taken, _ = queue.take()
    assert taken is not None
    assert taken.turn is not None
    assert taken.turn.lane == f"1 {real}"


@pytest.mark.parametrize("lost", [("names",), ("lanes",), ("ready1",), ("where",), ("wake",), ("v", "meta"), ("*",)])
def test_lost_keys_of_admission_lose_no_job(queue: VirtualAdmission, lost: tuple[str, ...]) -> None:
    organizations = [uuid4() for _ in range(4)]
    queue.configure(organizations[0], "p@1000000:0")
    jobs = {queue.add(organization) for organization in organizations for _ in range(10)}
    for _ in range(10):
        taken, _ = queue.take()
        assert taken is not None
        jobs.discard(taken.id)
    queue.lose(*lost)
    queue.audit()
    for second in range(1, 30):
        queue.set_time(second)
        while (taken := queue.take()[0]) is not None:
            jobs.discard(taken.id)
    assert jobs == set()


def test_shares_are_equal_whatever_stands_on_the_queue(queue: VirtualAdmission) -> None:
    random, organizations = Random(1), [uuid4() for _ in range(20)]
    for number, organization in enumerate(organizations):
        for _ in range(60 * (number + 1)):
            queue.add(organization)
    processes = Processes(queue, 10, lambda *_: True, random=random)
    processes.run(3)
    # All are known after a while: a call looks at some 200 messages, from both ends.
    counts = [sum(at > 1 for at in processes.started[organization]) for organization in organizations]
    assert max(counts) - min(counts) <= 2, counts
