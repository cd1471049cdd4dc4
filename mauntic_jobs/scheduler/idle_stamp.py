"""Stamp of `schedule run --quiet`: until when nothing falls due, in a file that is read before the program is imported.

A call that finds it valid ends as the call that wrote it did: in silence, with exit code 0, and without a question to
Postgres or Redis. It is valid for the same program with the same settings, until the clock is set or the host restarts.
"""

import json
import os
import stat
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from mauntic_jobs import __version__
from mauntic_jobs.settings.config_files import CONFIG_FILES
from mauntic_jobs.timekeeping import clock

# Other options may want an answer that differs. A person who calls it without them gets a look in any case.
_COMMAND_LINES = (["schedule", "run", "--quiet"], ["schedule", "run", "-q"])
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# systemd gives these another value with each start. Nothing reads them.
_OF_ONE_START = (b"INVOCATION_ID", b"JOURNAL_STREAM", b"SYSTEMD_EXEC_PID")
# A time server slews a clock, which changes no difference of two clocks; a step of less moves no slot that matters.
_MAX_STEP_SECONDS = 1.0
# cron calls once a minute: a stamp that ends earlier answers no call.
_MIN_SECONDS = 60
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Times(NamedTuple):
    """A reading of a host's clocks: the time since 1970, how much that is more than the uptime, and the boot's id."""

    now: float
    offset: float
    boot: str


def is_current(kept: Mapping[str, Any], times: Times) -> bool:
    """Return whether a stamp's time is not over, by a clock that was not set since."""
    then = Times(*kept["times"])
    is_set = then.boot != times.boot or abs(then.offset - times.offset) > _MAX_STEP_SECONDS
    return not is_set and then.now <= times.now < kept["until"]


class IdleStamp:
    """The stamp of this process: what it depends on is read as the process begins."""

    def __init__(self) -> None:
        environment = sorted(each for each in os.environb.items() if each[0] not in _OF_ONE_START)
        named = os.environ.get("MAUNTIC_CONFIG")
        files = [*([Path(named)] if named else []), *CONFIG_FILES]
        place = (os.getcwd(), named, os.environ.get("DATABASE_URL"))  # noqa: PTH109 - as text
        program = (__version__, sys.executable, sys.version, [_identity(each) for each in sys.path])
        self._key = _digest(environment, place, program, [(_identity(str(each)), _content(each)) for each in files])
        now = clock.now().timestamp()
        self._times = Times(now, now - time.clock_gettime(time.CLOCK_BOOTTIME), _BOOT_ID.read_text("ascii"))
        directory = Path(os.environ.get("TMPDIR") or "/tmp") / f"mauntic-jobs-{os.geteuid()}"  # noqa: S108 - `_is_own`
        # Several installations of one user have a stamp each.
        self._path = directory / f"schedule-run-{_digest(place)[:16]}"

    def holds(self) -> bool:
        """Return whether nothing is due; otherwise remove the stamp, whose answer is out of date."""
        try:
            kept = json.loads(_read(self._path))
            holds = (
                kept["key"] == self._key
                and is_current(kept, self._times)
                and kept["program"] == _digest([_identity(each) for each in kept["files"]])
            )
        except (OSError, ValueError, KeyError, TypeError):
            holds = False
        if not holds:
            self._discard()
        return holds

    def _discard(self) -> None:
        with suppress(OSError):
            if _is_own(self._path.parent):
                self._path.unlink()

    def write(self, until: datetime) -> None:
        """Let calls before `until`, by the host's clock, find nothing due. Where it cannot be written, they look."""
        if until.timestamp() - clock.now().timestamp() < _MIN_SECONDS:
            return
        files = sorted({file for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))})
        # It is unknown whether this process has read a file before or after a change that fell into its time.
        if any(_changed_at(each) >= self._times.now - _MAX_STEP_SECONDS for each in files):
            return
        kept = {
            "key": self._key,
            "times": self._times,
            "until": until.timestamp(),
            "files": files,
            "program": _digest([_identity(each) for each in files]),
        }
        with suppress(OSError):
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            if _is_own(self._path.parent):
                partial = self._path.with_name(f"{self._path.name}.{os.getpid()}")
                partial.write_text(json.dumps(kept), "utf-8")
                partial.replace(self._path)


class _Process:
    stamp: IdleStamp | None = None


def nothing_is_due(words: Sequence[str]) -> bool:
    """Return whether a stamp answers a command line; one that it may answer later can be stamped from here on."""
    _Process.stamp = None
    if list(words) in _COMMAND_LINES:
        # Without such clocks, as on macOS, each call looks.
        with suppress(OSError, AttributeError):
            _Process.stamp = IdleStamp()
    return _Process.stamp is not None and _Process.stamp.holds()


def write_stamp(until: datetime) -> None:
    """Write the stamp of this process, if its command line may have one."""
    if _Process.stamp is not None:
        _Process.stamp.write(until)


def _digest(*parts: object) -> str:
    return blake2b(repr(parts).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _identity(path: str) -> tuple[object, ...]:
    """Return what differs once a file or a directory was changed or replaced."""
    try:
        found = os.stat(path)  # noqa: PTH116 - hundreds of them
    except OSError:
        return (path,)
    return path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _changed_at(path: str) -> float:
    try:
        return os.stat(path).st_ctime  # noqa: PTH116
    except OSError:
        return 0.0


def _content(file: Path) -> bytes | None:
    try:
        # The program refuses a pipe, which would be waited for here.
        return file.read_bytes() if file.is_file() else None
    except OSError:
        return None


def _is_own(directory: Path) -> bool:
    """Return whether this user alone can write in a directory: others can know its name, and make it first."""
    found = directory.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & _OTHERS


def _read(file: Path) -> str:
    """Return the text of a file of our own; raises OSError for any other."""
    if not _is_own(file.parent):
        raise PermissionError
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, encoding="utf-8") as opened:  # noqa: PTH123 - a descriptor
        return opened.read()
