"""Pipe for the reports of a child process, on which neither end waits for the other."""

import os
import pickle
import struct
from typing import Any

_HEADER = struct.Struct("!I")
_READ_BYTES = 65_536


class ReportSender:
    """Sends objects to the receiver of a pipe, and drops those that find no room."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._rest = b""

    def offer(self, report: object) -> bool:
        """Send an object; return False if it was dropped. Raises OSError if the receiver is gone."""
        if not self._flush():
            return False
        data = pickle.dumps(report)
        self._rest = _HEADER.pack(len(data)) + data
        self._flush()
        return True

    def _flush(self) -> bool:
        """Write what is left of the last object; return whether all of it is written."""
        while self._rest:
            try:
                self._rest = self._rest[os.write(self._descriptor, self._rest) :]
            except BlockingIOError:
                return False
        return True


class ReportReceiver:
    """Receives the objects of a child of this process, each when all of it has arrived."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._data = bytearray()

    def receive(self) -> list[Any]:
        """Return the objects that have arrived. Raises EOFError if the sender is gone, and OSError."""
        try:
            part = os.read(self._descriptor, _READ_BYTES)
        except BlockingIOError:
            return []
        if not part:
            raise EOFError
        self._data += part
        reports = []
        while len(self._data) >= _HEADER.size:
            end = _HEADER.size + _HEADER.unpack_from(self._data)[0]
            if len(self._data) < end:
                break
            reports.append(pickle.loads(self._data[_HEADER.size : end]))  # noqa: S301 - this process's own child wrote it
            del self._data[:end]
        return reports
