"""What processes cost in CPU, as Linux counts it."""

import os
from pathlib import Path

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
# In /proc/PID/stat after the name: the parent; and its own time in user and kernel mode, then that of ended children.
_PARENT, _TIMES = 1, slice(11, 15)


def cpu_seconds(root: int, name: str) -> float:
    """Return the CPU seconds so far of the processes called `name` that `root` has started, and of their children."""
    processes = {int(path.name): _stat(path) for path in _PROC.glob("[0-9]*")}
    total = 0.0
    for pid, stat in processes.items():
        if stat is not None and stat[0].startswith(name) and root in _ancestors(pid, processes):
            total += sum(int(ticks) for ticks in stat[1][_TIMES])
    return total / _TICKS


def parent_of(pid: int) -> int:
    """Return the process that has started this one. Raises LookupError if it has ended."""
    stat = _stat(_PROC / str(pid))
    if stat is None:
        raise LookupError(f"the process {pid} has ended")
    return int(stat[1][_PARENT])


def tree_cpu_seconds(root: int) -> float:
    """Return the CPU seconds so far of a process and of all that it has started, ended ones included."""
    processes = {int(path.name): _stat(path) for path in _PROC.glob("[0-9]*")}
    own = [stat for pid, stat in processes.items() if stat is not None and root in _ancestors(pid, processes)]
    return sum(int(ticks) for stat in own for ticks in stat[1][_TIMES]) / _TICKS


def _stat(path: Path) -> tuple[str, list[str]] | None:
    """Return the name and the numbers of a process, None if it has ended."""
    try:
        name, _, rest = (path / "stat").read_text().partition("(")[2].rpartition(")")
    except OSError:
        return None
    return name, rest.split()


def _ancestors(pid: int, processes: dict[int, tuple[str, list[str]] | None]) -> set[int]:
    found = {pid}
    while (stat := processes.get(pid)) is not None:
        pid = int(stat[1][_PARENT])
        found.add(pid)
    return found
