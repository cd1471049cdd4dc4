"""What the benchmark of rates counts: the peak of a second, and when a rate is known."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from bench._slots import Slots
from bench.governed import case_of, learned, peak


@pytest.mark.parametrize(
    ("times", "most"),
    [([], 0), ([1.0], 1), ([0.0, 0.9, 1.0, 1.1], 3), ([0.5, 0.9, 1.1, 1.4, 2.6], 4), ([0.0, 1.0, 2.0], 1)],
)
def test_a_second_begins_anywhere(times: list[float], most: int) -> None:
    assert peak(times) == most


def test_a_rate_is_known_once_nearly_all_of_it_is_sent_and_nearly_none_refused() -> None:
    steady = [20 + n / 10 for n in range(300)]
    assert learned(steady, [], 10) == 0
    assert learned([], [], 10) is None
    # Half of it for five seconds: the ten seconds from the fifth on are the first to have nine tenths.
    slow = [n / 5 for n in range(25)] + [5 + n / 10 for n in range(300)]
    assert learned(slow, [], 10) == 3
    # Too many refusals, up to the twelfth second.
    assert learned(steady, [20 + n / 5 for n in range(60)], 10) == 11
    assert learned([n / 5 for n in range(300)], [], 10) is None


def test_measurements_beside_each_other_have_no_more_processes_than_allowed() -> None:
    slots, running, most = Slots(20), 0, []
    lock = threading.Lock()

    def measure(processes: int) -> None:
        nonlocal running
        with slots.taken(processes):
            with lock:
                running += processes
                most.append(running)
            with lock:
                running -= processes

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(measure, [16, 4, 1, 30, 16, 4, 4, 1] * 5))
    assert max(each for each in most if each != 30) <= 20
    assert len(most) == 40


@pytest.mark.parametrize(("text", "case"), [("ses:1:16", ("ses", 1, 16)), ("454:200:4", ("454", 200, 4))])
def test_a_case_names_an_answer_a_rate_and_processes(text: str, case: tuple[str, int, int]) -> None:
    assert case_of(text) == case
