"""Deadline for a check."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

_T = TypeVar("_T")


def within(seconds: float, function: Callable[[], _T]) -> _T:
    """Return what `function` returns or raise what it raises; raise TimeoutError if it takes longer than `seconds`.

    It is then left to itself, in a thread that ends with the process.
    """
    answer: Future[_T] = Future()

    def work() -> None:
        try:
            answer.set_result(function())
        except BaseException as error:  # noqa: BLE001 - it is raised where the answer is waited for
            answer.set_exception(error)

    Thread(target=work, name="doctor", daemon=True).start()
    return answer.result(seconds)
