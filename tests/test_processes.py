"""A forked process is what a started one is."""

import json
import os
import pty
import signal
import subprocess
import sys
from typing import Any

import pytest

from mauntic_jobs.processes import new_process
from tests import process_probe
from tests.processes import Popen, Process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers")
_PROBE = process_probe.__file__
_WAYS: list[type[subprocess.Popen[Any]]] = [Process, Popen]


def _both(*words: str, **options: Any) -> list[tuple[int, str, str]]:
    """Run the probe forked and started; return how each ended, and what it printed."""
    # Readline, which pytest imports, sets two variables that os.environ does not hold.
    options = {"env": dict(os.environ), **options}
    ended = []
    for way in _WAYS:
        with way([sys.executable, _PROBE, *words], stdout=-1, stderr=-1, text=True, **options) as process:
            output, errors = process.communicate(timeout=60)
        ended.append((process.returncode, output, errors))
    return ended


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"cwd": "/"},
        {"stdin": subprocess.DEVNULL},
        {"start_new_session": True},
        {"env": {**os.environ, "DATABASE_URL": "postgresql://db.example.com", "MAUNTIC_HOSTS": "2", "TERM": "xterm"}},
        {"env": {**os.environ, "PYTHONPATH": "/nowhere:/else"}},
        {"env": {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}},
    ],
)
def test_it_sees_what_a_started_one_sees(options: dict[str, Any]) -> None:
    forked, started = (json.loads(output) for _, output, _ in _both("self", **options))
    assert forked == started
    assert forked["parent"] == os.getpid()


def test_so_it_does_on_a_terminal() -> None:
    ours, theirs = pty.openpty()
    forked, started = (json.loads(output) for _, output, _ in _both("self", stdin=theirs))
    os.close(ours)
    os.close(theirs)
    assert forked == started


@pytest.mark.parametrize(
    "words",
    [
        *[("exit", "0"), ("exit", "75"), ("exit", "300"), ("exit", "a reason"), ("unflushed",), ("atexit",)],
        *[("thread",), ("garbage",), ("closed",)],
    ],
)
def test_it_ends_as_a_started_one_ends(words: tuple[str, ...]) -> None:
    forked, started = _both(*words)
    assert forked == started


def test_one_that_it_starts_is_its_child() -> None:
    # Its word is that of a command that starts others.
    forked, started = _both("work")
    assert forked == started
    assert forked[1].startswith("True b'mauntic-jobs ")


def test_an_error_nobody_handles_is_printed() -> None:
    forked, started = _both("raise")
    assert (forked[:2], forked[2].splitlines()[-1]) == (started[:2], started[2].splitlines()[-1])
    assert forked[2].startswith("Traceback")


def test_output_that_cannot_be_written_is_an_error() -> None:
    forked, started = _both("full")
    assert (forked[:2], forked[2].splitlines()[-1]) == (started[:2], started[2].splitlines()[-1])
    assert forked[0] == 120


def test_it_reads_its_input() -> None:
    for way in _WAYS:
        with way([sys.executable, _PROBE, "input"], stdin=-1, stdout=-1, text=True) as process:
            assert process.communicate("abc")[0] == "ABC"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_ends_it(number: signal.Signals) -> None:
    for way in _WAYS:
        with way([sys.executable, _PROBE, "wait"], stdout=-1, stderr=-1, text=True) as process:
            assert process.stdout
            assert process.stdout.readline() == "waiting\n"
            assert process.poll() is None
            process.send_signal(number)
            assert process.wait(60) == -number


def test_it_can_be_stopped_and_goes_on() -> None:
    with Process([sys.executable, _PROBE, "wait"], stdout=-1, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        process.send_signal(signal.SIGCONT)
        process.terminate()
        assert process.wait(60) == -signal.SIGTERM


def test_no_two_draw_the_same_numbers() -> None:
    assert len({output for _ in range(3) for _, output, _ in _both("chance")}) == 6


def test_a_program_whose_environment_python_reads_itself_is_started() -> None:
    variables = {**os.environ, "PYTHONUNBUFFERED": "1"}
    forked, started = (json.loads(output) for _, output, _ in _both("self", env=variables))
    assert forked["streams"] == started["streams"]
    assert forked["streams"][1][3]


@pytest.mark.parametrize("_again", [False, True])
def test_a_test_finds_nothing_of_the_environment_of_another(_again: bool) -> None:
    assert "PYTHONSAFEPATH" not in os.environ
    new_process(print, (), fork=False)
    assert "PYTHONSAFEPATH" in os.environ
