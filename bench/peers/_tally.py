"""Tallies of the jobs that processes have done, in files that the benchmark reads."""

import mmap
import os
import struct
import threading
import time
from pathlib import Path

PLACE = struct.Struct("ddq")  # the first start, the last end, and the number of jobs that are done


class Tally:
    """The number of jobs that this process has done, in a file of its own."""

    def __init__(self, folder: Path, *, names: bool) -> None:
        """With `names`, the numbers of the jobs are kept as well."""
        self._folder, self._names = folder, names
        self._lock, self._pid, self._done = threading.Lock(), 0, 0
        self._first = 0.0
        self._memory: mmap.mmap

    def begin(self, number: int) -> None:
        """Note the start of a job; a process that was forked begins a file of its own."""
        with self._lock:
            if self._pid != os.getpid():
                self._pid, self._done, self._first = os.getpid(), 0, time.monotonic()
                path = self._folder / f"{self._pid}.tally"
                path.write_bytes(bytes(PLACE.size))
                with path.open("r+b") as file:
                    self._memory = mmap.mmap(file.fileno(), PLACE.size)
            if self._names:
                self._name("begun", number)

    def end(self, number: int) -> None:
        """Note that a job is done."""
        with self._lock:
            self._done += 1
            PLACE.pack_into(self._memory, 0, self._first, time.monotonic(), self._done)
            if self._names:
                self._name("done", number)

    def _name(self, act: str, number: int) -> None:
        with (self._folder / f"{act}.txt").open("a") as file:
            file.write(f"{number}\n")
