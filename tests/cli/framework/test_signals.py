"""Signals that arrive at any moment: of a wait, of a destructor, of an import."""

import os
import signal
import sys
import time
from threading import Thread

import pytest
from typer.testing import CliRunner

from mauntic_jobs.cli.framework.command import command, new_app
from mauntic_jobs.cli.framework.signals import Signals, stop_on_signals
from mauntic_jobs.errors import Interrupted


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


class _SignalledAtItsEnd:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


def _end_one_and_wait() -> None:
    _SignalledAtItsEnd()
    for _ in range(10_000):
        time.sleep(0.001)


class _SignalledInItsClass:
    def __set_name__(self, _owner: type, _name: str) -> None:
        signal.raise_signal(signal.SIGINT)


def test_a_signal_that_a_destructor_drops_stops_the_body_all_the_same() -> None:
    hook = sys.unraisablehook
    with pytest.raises(Interrupted) as stopped, stop_on_signals():
        _end_one_and_wait()
    assert stopped.value.exit_code == 143
    assert sys.unraisablehook is hook


def test_a_signal_in_a_class_that_is_being_made_is_no_fault_of_the_class() -> None:
    with pytest.raises(Interrupted) as stopped, stop_on_signals():
        type("Made", (), {"field": _SignalledInItsClass()})
    assert stopped.value.exit_code == 130


@pytest.mark.parametrize(("line", "is_left"), [("work", True), ("alerts list", False)])
def test_a_command_that_stays_keeps_the_handler_of_its_start(
    monkeypatch: pytest.MonkeyPatch, line: str, is_left: bool
) -> None:
    monkeypatch.setattr(sys, "argv", ["mauntic-jobs", *line.split()])
    app, found = new_app("Commands."), []

    @command(app, "look", example="mauntic-jobs look")
    def look() -> None:
        found.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    assert CliRunner().invoke(app, []).exit_code == 0
    assert (found == [before]) == is_left
