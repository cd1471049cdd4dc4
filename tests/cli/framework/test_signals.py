"""Signals that arrive at any moment of a wait."""

import os
import signal
import time
from threading import Thread

import pytest

from mauntic_jobs.cli.framework.signals import Signals


def _send_soon(number: signal.Signals, seconds: float) -> Thread:
    def send() -> None:
        time.sleep(seconds)
        os.kill(os.getpid(), number)

    thread = Thread(target=send)
    thread.start()
    return thread


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_wait_whenever_it_arrives(number: signal.Signals) -> None:
    for turn in range(200):  # with a lock in the way one in fourteen never came back
        with Signals() as signals:
            thread = _send_soon(number, turn % 10 / 10_000)
            while not signals.first.wait(0.000_01):
                pass
            assert not signals.second.is_set()
            os.kill(os.getpid(), number)
            assert signals.second.wait(10)
            thread.join()
        assert signals.first.is_set()


def test_a_wait_is_as_long_as_asked_and_ends_with_the_signal() -> None:
    with Signals() as signals:
        began = time.monotonic()
        assert not signals.first.wait(0.05)
        assert time.monotonic() - began >= 0.05
        thread = _send_soon(signal.SIGTERM, 0.05)
        assert signals.first.wait(60)
        assert signals.first.wait(60), "it stays set"
        thread.join()


def test_it_leaves_no_descriptor_and_the_handlers_of_before() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are counted
    with Signals():
        pass
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert len(os.listdir("/proc/self/fd")) == descriptors  # noqa: PTH208 - names are counted
