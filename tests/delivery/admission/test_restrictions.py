"""Pauses and rates that operators set, in virtual time on the real scripts."""

import math
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID, uuid4

import pytest

from mauntic_jobs.delivery.admission.restrictions import Restriction, values_of
from tests.delivery.admission.virtual_admission import VirtualAdmission
from tests.delivery.admission.virtual_processes import Processes

NOW = datetime(2026, 10, 1, 12, tzinfo=UTC)
MICROSECONDS = int(NOW.timestamp()) * 1_000_000
# A call that has judged many lanes is to be made again at once.
SOON = 0.001
FOREVER = 1_000_000.0


def taken(queue: VirtualAdmission) -> list[str]:
    """Take all that may be taken now; return the ids."""
    found = []
    while True:
        job, wait = queue.take()
        if job is not None:
            found.append(job.id)
        elif wait > SOON:
            return found


def test_a_paused_organization_waits_and_the_others_do_not(queue: VirtualAdmission) -> None:
    paused, other = uuid4(), uuid4()
    held = [queue.add(paused) for _ in range(50)]
    sent = [queue.add(other) for _ in range(50)]
    queue.restrict({str(paused): (60.0, 0)})
    assert taken(queue) == sent
    assert queue.take() == (None, 60.0 - 0.25)
    # What comes meanwhile waits too, and so do both classes.
    held += [queue.add(paused, transactional=True), queue.add(paused)]
    assert taken(queue) == []
    queue.set_time(80)
    assert set(taken(queue)) == set(held)


def test_everything_can_be_paused(queue: VirtualAdmission) -> None:
    jobs = {queue.add(uuid4(), transactional=n % 2 == 0) for n in range(100)}
    queue.restrict({"*": (60.0, 0)})
    assert taken(queue) == []
    queue.restrict({})
    assert set(taken(queue)) == jobs


def test_after_a_pause_messages_go_out_slowly_at_first(queue: VirtualAdmission) -> None:
    organization = uuid4()
    for _ in range(1300):
        queue.add(organization)
    queue.restrict({str(organization): (10.0, 0)})
    processes = Processes(queue, 100, lambda *_: True, random=Random(1))
    processes.run(16)
    started = processes.started[organization]
    assert min(started) >= 10.0
    seconds = [sum(10 + n <= at < 11 + n for at in started) for n in range(6)]
    assert seconds == pytest.approx([20, 40, 80, 160, 320, 640], rel=0.1)


def test_a_pause_that_is_ended_early_ends_at_once(queue: VirtualAdmission) -> None:
    organization = uuid4()
    queue.add(organization)
    queue.restrict({str(organization): (FOREVER, 0)})
    assert taken(queue) == []
    queue.set_time(5)
    queue.restrict({str(organization): (5.0, 0)})
    assert len(taken(queue)) == 1


def test_a_pause_without_an_end_is_asked_for_again(queue: VirtualAdmission) -> None:
    organization = uuid4()
    queue.add(organization)
    queue.restrict({str(organization): (FOREVER, 0)})
    assert queue.take()[0] is None
    assert queue.take()[1] < math.inf


def test_the_messages_of_a_paused_campaign_wait_in_a_lane_of_their_own(queue: VirtualAdmission) -> None:
    organization = uuid4()
    held, sent = queue.add(organization), queue.add(organization)
    queue.restrict({f"{organization} spring sale": (60.0, 0)})
    job = queue.take()[0]
    assert job is not None
    assert job.id == held
    # As the pipeline does when it has read which campaign the message is of.
    queue.move(held, f"1 {organization} spring sale")
    queue.give_back(held)
    assert taken(queue) == [sent]
    queue.audit()
    assert taken(queue) == []
    queue.set_time(61)
    job = queue.take()[0]
    assert job is not None
    assert job.turn is not None
    assert (job.id, job.turn.lane) == (held, f"1 {organization} spring sale")


def test_a_paused_provider_leaves_its_messages_to_the_next(queue: VirtualAdmission) -> None:
    organization = uuid4()
    queue.configure(organization, "p q")
    queue.restrict({"p": (60.0, 0)})
    queue.add(organization)
    job = queue.take()[0]
    assert job is not None
    assert job.turn is not None
    assert job.turn.provider == "q"
    queue.restrict({"p": (60.0, 0), "q": (30.0, 0)})
    queue.add(organization)
    assert queue.take() == (None, 30.0 - 0.25)
    queue.restrict({"p": (0.0, 0), "q": (30.0, 0)})
    assert len(taken(queue)) == 1


@pytest.mark.parametrize("name", ["*", "organization", "p"])
def test_a_rate_holds_for_both_classes_and_all_processes(queue: VirtualAdmission, name: str) -> None:
    organization = uuid4()
    queue.configure(organization, "p")
    queue.restrict({str(organization) if name == "organization" else name: (FOREVER, 0.1)})
    for n in range(400):
        queue.add(organization, transactional=n % 2 == 0)
    processes = Processes(queue, 100, lambda *_: True, {organization: "p"})
    processes.run(20)
    started = processes.started[organization]
    assert 195 <= len(started) <= 203
    assert all(len([each for each in started if at <= each < at + 1]) <= 11 for at in started)
    queue.restrict({})
    processes.run(21)
    assert len(processes.started[organization]) == 400


def test_of_several_limits_the_lowest_holds(queue: VirtualAdmission) -> None:
    organization = uuid4()
    queue.configure(organization, "p@50000:0")
    queue.restrict({"*": (FOREVER, 0.1), str(organization): (FOREVER, 0.2), "p": (FOREVER, 0.02)})
    for _ in range(200):
        queue.add(organization)
    processes = Processes(queue, 100, lambda *_: True, {organization: "p@50000:0"})
    processes.run(20)
    assert len(processes.started[organization]) == pytest.approx(100, abs=3)


def test_lost_keys_of_a_pause_are_told_again(queue: VirtualAdmission) -> None:
    organization = uuid4()
    job = queue.add(organization)
    queue.restrict({str(organization): (60.0, 0)})
    assert taken(queue) == []
    queue.lose("*")
    queue.restrict({str(organization): (60.0, 0)})
    queue.audit()
    assert taken(queue) == []
    queue.set_time(61)
    assert taken(queue) == [job]


ORGANIZATION = UUID(int=1)


def restriction(rate: float, ends: float | None, *, campaign: str | None = None, number: int = 1) -> Restriction:
    end = None if ends is None else NOW + timedelta(seconds=ends)
    return Restriction(number, ORGANIZATION, None, None, campaign, rate, "why", "ops", NOW, end)


@pytest.mark.parametrize(
    ("restrictions", "value"),
    [
        ([restriction(0, 60)], f"{MICROSECONDS + 60_000_000} 0"),
        ([restriction(0, 60), restriction(0, 90)], f"{MICROSECONDS + 90_000_000} 0"),
        ([restriction(0, None), restriction(0, 90)], f"{2**53} 0"),
        ([restriction(5, 60), restriction(0, 30)], f"{MICROSECONDS + 30_000_000} 0"),
        ([restriction(5, 60), restriction(10, 90)], f"{MICROSECONDS + 60_000_000} 200000"),
        ([restriction(5, None), restriction(0, -1)], f"{2**53} 200000"),
        ([restriction(0, -1), restriction(0, -5)], f"{MICROSECONDS - 1_000_000} 0"),
        ([restriction(5, -1)], None),
    ],
)
def test_of_several_about_the_same_the_strictest_is_told(restrictions: list[Restriction], value: str | None) -> None:
    assert values_of(restrictions, NOW).get(str(ORGANIZATION)) == value


def test_a_campaign_is_told_with_its_organization() -> None:
    assert set(values_of([restriction(0, 60, campaign="spring sale")], NOW)) == {f"{ORGANIZATION} spring sale"}
