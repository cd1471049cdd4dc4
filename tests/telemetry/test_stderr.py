"""Stderr whose reader has stopped or is gone: lines are dropped, and the process goes on."""

import os
from collections.abc import Iterator

import pytest

from mauntic_jobs.telemetry import stderr
from mauntic_jobs.telemetry.stderr import LineWriter

LINE = "x" * 1000
# More than a pipe and the writer's own place hold together.
MANY = 500


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for end in (reader, writer):
        try:
            os.close(end)
        except OSError:
            continue


def _drained(reader: int) -> bytes:
    """Return what a pipe holds, and close its end."""
    os.set_blocking(reader, False)
    read = b""
    while True:
        try:
            part = os.read(reader, 65_536)
        except BlockingIOError:
            break
        if not part:
            break
        read += part
    return read


def test_lines_are_written_in_order(pipe: tuple[int, int]) -> None:
    lines = LineWriter(pipe[1])
    for number in range(50):
        lines.write(f"line {number} \udcff")
    lines.close()
    assert _drained(pipe[0]) == b"".join(rb"line %d \udcff" % n + b"\n" for n in range(50))
    assert lines.take_dropped() == 0


def test_a_reader_that_has_stopped_holds_nothing_up_and_what_was_dropped_is_counted(pipe: tuple[int, int]) -> None:
    lines = LineWriter(pipe[1], most=10)
    for _ in range(MANY):
        lines.write(LINE)
    assert lines.take_dropped() == 0, "a line that names the number would be dropped as well"
    lines.close(0.0)
    read = b""
    while lines._thread.is_alive():
        read += _drained(pipe[0])
        lines.close(0.1)
    read += _drained(pipe[0])
    written = read.count(b"\n")
    assert 10 <= written < MANY
    assert lines.take_dropped() == MANY - written
    assert lines.take_dropped() == 0


def test_a_pipe_that_does_not_block_is_waited_for(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)
    lines = LineWriter(pipe[1])
    for _ in range(MANY):
        lines.write(LINE)
    read = b""
    lines.close(0.0)
    while lines._thread.is_alive():
        read += _drained(pipe[0])
        lines.close(0.05)
    assert (read + _drained(pipe[0])).count(b"\n") == MANY


def test_a_reader_that_is_gone_is_no_error(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    lines = LineWriter(pipe[1])
    lines.write(LINE)
    lines.write(LINE)
    lines.close()
    assert not lines._thread.is_alive()


@pytest.mark.parametrize("kind", ["closed", "none"])
def test_a_stderr_that_cannot_be_written_raises_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "none":
        monkeypatch.setattr("sys.stderr", None)
        stderr.write_line("heard by no one")
        with stderr.in_background():
            stderr.write_line("heard by no one")
        return
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", errors="backslashreplace") as gone:
        monkeypatch.setattr("sys.stderr", gone)
        stderr.write_line("heard by no one")
        with stderr.in_background():
            stderr.write_line("heard by no one")
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)
