"""Weights of organizations in their turns, in virtual time on the real scripts."""

from collections import Counter
from random import Random
from uuid import UUID, uuid4

import pytest

from tests.delivery.admission.virtual_admission import VirtualAdmission
from tests.delivery.admission.virtual_processes import Processes


def fill(queue: VirtualAdmission, organization: UUID, count: int, jobs: dict[str, UUID], **fields: bool) -> None:
    jobs |= {queue.add(organization, **fields): organization for _ in range(count)}


def owners(queue: VirtualAdmission, jobs: dict[str, UUID], count: int) -> list[UUID]:
    """Take so many jobs, and return whose they are: never none while there are any."""
    found = []
    for _ in range(count):
        taken, _ = queue.take()
        assert taken is not None
        found.append(jobs[taken.id])
        queue.finish(taken.id)
    return found


def check_shares(counts: Counter[UUID], weights: dict[UUID, float]) -> None:
    """Hold the bound of fair queueing by start times: no two differ by more than a turn of each."""
    for one, weight in weights.items():
        for other, beside in weights.items():
            assert abs(counts[one] / weight - counts[other] / beside) <= 1 / weight + 1 / beside + 1e-9


def queue_head(queue: VirtualAdmission) -> str:
    taken, _ = queue.take()
    assert taken is not None
    return taken.id


def jain(shares: list[float]) -> float:
    """Return Jain's index of fairness, 1 for equal shares."""
    return sum(shares) ** 2 / (len(shares) * sum(each * each for each in shares))


def test_an_organization_of_weight_three_has_three_quarters_beside_one(queue: VirtualAdmission) -> None:
    large, small, jobs = uuid4(), uuid4(), dict[str, UUID]()
    fill(queue, large, 100, jobs)
    fill(queue, small, 100, jobs)
    queue.weigh({large: 3})
    found = owners(queue, jobs, 120)
    assert Counter(found) == {large: 90, small: 30}
    # In turn, and not one block after the other.
    assert all(Counter(found[start : start + 4])[small] == 1 for start in range(0, 120, 4))


@pytest.mark.parametrize("seed", range(12))
def test_shares_are_by_weight_and_nobody_starves(queue: VirtualAdmission, seed: int) -> None:
    random, jobs = Random(seed), dict[str, UUID]()
    weights = {uuid4(): random.choice([0.1, 0.5, 1.0, 1.0, 2.0, 3.0, 10.0]) for _ in range(random.randint(2, 10))}
    for organization in weights:
        fill(queue, organization, 180, jobs)
    queue.weigh({each: weight for each, weight in weights.items() if weight != 1})
    # All are known once all are sorted: a call sorts some 200.
    for _ in range(12):
        queue.give_back(queue_head(queue))
    total = sum(weights.values())
    rounds = min(150, int(160 * total / max(weights.values())))
    owners(queue, jobs, rounds // 4)
    counts = Counter(owners(queue, jobs, rounds // 2))
    check_shares(counts, weights)
    for organization, weight in weights.items():
        assert counts[organization] >= int(rounds // 2 * weight / total) - 1


@pytest.mark.parametrize("seed", range(6))
def test_weights_that_change_hold_from_the_next_turns_on(queue: VirtualAdmission, seed: int) -> None:
    random, jobs = Random(seed), dict[str, UUID]()
    organizations = [uuid4() for _ in range(4)]
    for organization in organizations:
        fill(queue, organization, 400, jobs)
    owners(queue, jobs, 20)
    for _ in range(4):
        weights = {each: random.choice([0.5, 1.0, 2.0, 4.0]) for each in organizations}
        queue.weigh(weights)
        # What a lane has before it from its turn by the former weight.
        owners(queue, jobs, 16)
        check_shares(Counter(owners(queue, jobs, 60)), weights)
    queue.weigh({})
    owners(queue, jobs, 16)
    assert max(counts := Counter(owners(queue, jobs, 40)).values()) - min(counts) <= 2


def test_what_a_weight_leaves_goes_to_the_others(queue: VirtualAdmission) -> None:
    heavy, light, limited, jobs = uuid4(), uuid4(), uuid4(), dict[str, UUID]()
    queue.configure(limited, "p@2000000:0")
    for organization in (heavy, light, limited):
        fill(queue, organization, 60, jobs)
    queue.weigh({heavy: 10, light: 0.1, limited: 10})
    # The limited one is skipped, and the light one has everything once the heavy one has nothing left.
    counts = Counter(owners(queue, jobs, 121))
    assert counts == {heavy: 60, light: 60, limited: 1}


def test_an_organization_of_little_weight_saves_up_no_debt(queue: VirtualAdmission) -> None:
    light, other, jobs = uuid4(), uuid4(), dict[str, UUID]()
    queue.weigh({light: 0.1})
    fill(queue, light, 50, jobs)
    owners(queue, jobs, 50)
    fill(queue, other, 100, jobs)
    fill(queue, light, 10, jobs)
    counts = Counter(owners(queue, jobs, 60))
    # After at most one turn of its own it has its share again: a tenth of the other's.
    assert 4 <= counts[light] <= 6


def test_weights_hold_within_transactional_messages_too(queue: VirtualAdmission) -> None:
    large, small, jobs = uuid4(), uuid4(), dict[str, UUID]()
    fill(queue, large, 40, jobs, transactional=True)
    fill(queue, small, 40, jobs, transactional=True)
    queue.weigh({large: 3})
    assert Counter(owners(queue, jobs, 40)) == {large: 30, small: 10}


def test_lost_weights_are_equal_until_they_are_told_again(queue: VirtualAdmission) -> None:
    large, small, jobs = uuid4(), uuid4(), dict[str, UUID]()
    fill(queue, large, 90, jobs)
    fill(queue, small, 90, jobs)
    queue.weigh({large: 3})
    queue.lose("weights")
    assert Counter(owners(queue, jobs, 40)) == {large: 20, small: 20}
    queue.weigh({large: 3})
    assert Counter(owners(queue, jobs, 40)) == {large: 30, small: 10}


def test_weighted_shares_of_capacity_are_fair(queue: VirtualAdmission) -> None:
    random = Random(1)
    weights = {uuid4(): random.choice([0.5, 1.0, 2.0, 5.0]) for _ in range(20)}
    for organization in weights:
        for _ in range(600):
            queue.add(organization)
    queue.weigh(weights)
    processes = Processes(queue, 10, lambda *_: True, random=random)
    processes.run(20)
    # All are known after a while: a call looks at some 200 messages, from both ends.
    shares = [sum(at > 10 for at in processes.started[each]) / weight for each, weight in weights.items()]
    assert jain(shares) >= 0.99
