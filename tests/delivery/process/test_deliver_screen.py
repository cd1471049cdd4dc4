"""The live screen, on a terminal that takes nothing."""

import os
import pty
import signal

from tests.delivery.crash import start
from tests.delivery.sink import Sink
from tests.delivery.world import World
from tests.support import wait_until


def test_a_terminal_that_was_stopped_stops_no_delivery(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    ours, theirs = pty.openpty()
    os.set_blocking(theirs, False)
    try:
        while True:  # as full as Ctrl-S lets it become
            os.write(theirs, b"x" * 1024)
    except BlockingIOError:
        os.set_blocking(theirs, True)
    process = start(world, output=theirs, TERM="xterm")
    try:
        world.add(world.message("d1"))
        wait_until(sink.messages, "the first message")
        world.add(world.message("d2"))
        wait_until(lambda: len(sink.messages()) > 1, "a message while the terminal takes nothing")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)
