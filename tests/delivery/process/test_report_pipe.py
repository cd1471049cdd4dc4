"""Reports of children to a parent that has stopped reading, or reads again."""

import asyncio
import os
from collections import deque
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mauntic_jobs.delivery.process import supervisor as family
from mauntic_jobs.delivery.process.report_pipe import ReportReceiver, ReportSender
from mauntic_jobs.delivery.process.supervisor import ChildReport, tell_parent
from mauntic_jobs.delivery.process.worker_process import WorkerProcess
from mauntic_jobs.delivery.stats import ChannelStats


@pytest.fixture
def ends() -> Iterator[tuple[Connection, Connection]]:
    reader, writer = Pipe(duplex=False)
    yield reader, writer
    for end in (reader, writer):
        if not end.closed:
            end.close()


def _received(receiver: ReportReceiver) -> list[Any]:
    reports = []
    while part := receiver.receive():
        reports += part
    return reports


def test_what_finds_no_room_is_dropped_and_what_arrives_is_whole_and_in_order(
    ends: tuple[Connection, Connection],
) -> None:
    sender, receiver = ReportSender(ends[1].fileno()), ReportReceiver(ends[0].fileno())
    taken = [number for number in range(500) if sender.offer((number, "x" * 5_000))]
    assert 1 < len(taken) < 500
    received = _received(receiver)
    # The last one is on its way: its rest goes out before the next.
    assert sender.offer("again")
    received += _received(receiver)
    assert received[-1] == "again"
    assert [number for number, _ in received[:-1]] == taken
    assert {text for _, text in received[:-1]} == {"x" * 5_000}


def test_half_a_report_of_a_child_that_was_stopped_is_not_waited_for(ends: tuple[Connection, Connection]) -> None:
    receiver = ReportReceiver(ends[0].fileno())
    os.write(ends[1].fileno(), b"\0\0")
    assert receiver.receive() == []
    os.write(ends[1].fileno(), b"\0\xffhalf")
    assert receiver.receive() == []


def test_a_sender_that_is_gone_is_the_end(ends: tuple[Connection, Connection]) -> None:
    receiver = ReportReceiver(ends[0].fileno())
    ends[1].close()
    with pytest.raises(EOFError):
        receiver.receive()


class _Engine(SimpleNamespace):
    def stop(self) -> None:
        self.stopped = True


def _engine() -> _Engine:
    return _Engine(stats={"email": ChannelStats()}, ready=True, trouble=None, stopped=False)


def test_a_child_works_on_while_its_parent_does_not_read_and_its_last_lines_are_kept(
    ends: tuple[Connection, Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(family, "_REPORT_SECONDS", 0.0)
    receiver, said = ReportReceiver(ends[0].fileno()), deque[str](maxlen=8)

    async def run() -> None:
        reporting = asyncio.create_task(tell_parent(ends[1], cast("WorkerProcess", _engine()), said))
        for _ in range(5_000):
            await asyncio.sleep(0)
        said.append("the last line")
        for _ in range(100):
            await asyncio.sleep(0)
        assert list(said) == ["the last line"], "it found no room, and is kept for the next report"
        before = _received(receiver)
        while not (reports := _received(receiver)):  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert before
        assert isinstance(reports[-1], ChildReport)
        assert any("the last line" in report.said for report in reports)
        reporting.cancel()
        await asyncio.gather(reporting, return_exceptions=True)

    asyncio.run(asyncio.wait_for(run(), 30))


def test_a_child_whose_parent_is_gone_stops(ends: tuple[Connection, Connection]) -> None:
    engine = _engine()
    ends[0].close()
    asyncio.run(asyncio.wait_for(tell_parent(ends[1], cast("WorkerProcess", engine), deque()), 10))
    assert engine.stopped
