"""A program that prints everything it can tell of its own process."""

import atexit
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
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


class _Garbage:
    """Says when it is freed, which takes the garbage collector."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        sys.stderr.write("freed\n")


def _write_late() -> None:
    time.sleep(0.1)
    sys.stdout.write("late")


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
        sys.exit(int(sys.argv[2]) if sys.argv[2].isdecimal() else sys.argv[2])
    elif what == "work":
        words = [sys.executable, "-P", "-m", "mauntic_jobs", "--version"]
        process = subprocess.Popen(words, start_new_session=True, stdout=subprocess.PIPE)
        path = Path(f"/proc/{process.pid}/stat")
        sys.stdout.write(f"{os.getpid() == int(path.read_text().split()[3])} {process.communicate()[0]!r}")
    elif what == "atexit":
        atexit.register(sys.stdout.write, "at the end")
    elif what == "thread":
        threading.Thread(target=_write_late).start()
    elif what == "garbage":
        _Garbage()
    elif what == "closed":
        sys.stdout.close()
    elif what == "full":
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
        sys.stdout.write("nowhere to go")
    elif what == "unflushed":
        sys.stdout.write("the end")
