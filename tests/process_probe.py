"""A program that prints everything it can tell of its own process."""

import json
import os
import random
import signal
import sys
import threading
import uuid
from pathlib import Path
from typing import Any


def _stream(stream: Any) -> list[Any]:
    names = ("encoding", "errors", "line_buffering", "write_through", "newlines", "closed")
    return [*(getattr(stream, name) for name in names), stream.fileno(), stream.isatty()]


def _self() -> dict[str, Any]:
    return {
        "arguments": sys.argv,
        "path": sys.path,
        "name": __name__,
        "file": __file__,
        "main": sys.modules["__main__"].__dict__ is globals(),
        "directory": str(Path.cwd()),
        "environment": dict(os.environ),
        "parent": os.getppid(),
        "has_own_session": os.getsid(0) == os.getpid(),
        "has_own_group": os.getpgid(0) == os.getpid(),
        "account": [os.getuid(), os.geteuid(), os.getgid(), os.getegid()],
        "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1],  # noqa: PTH208 - it opens one
        "streams": [_stream(stream) for stream in (sys.stdin, sys.stdout, sys.stderr)],
        "same_streams": [sys.stdin is sys.__stdin__, sys.stdout is sys.__stdout__, sys.stderr is sys.__stderr__],
        "signals": {number.name: str(signal.getsignal(number)) for number in sorted(signal.valid_signals())[:31]},
        "masked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "threads": [thread.name for thread in threading.enumerate()],
        "trace": [sys.gettrace(), sys.getprofile()],
        "recursion": sys.getrecursionlimit(),
    }


if __name__ == "__main__":
    what = sys.argv[1]
    if what == "self":
        sys.stdout.write(json.dumps(_self()))
    elif what == "chance":
        sys.stdout.write(f"{random.random()} {uuid.uuid4()}")
    elif what == "input":
        sys.stdout.write(sys.stdin.read().upper())
    elif what == "wait":
        sys.stdout.write("waiting\n")
        sys.stdout.flush()
        signal.pause()
    elif what == "raise":
        raise ValueError(what)
    elif what == "exit":
        sys.exit(int(sys.argv[2]))
    elif what == "unflushed":
        sys.stdout.write("the end")
