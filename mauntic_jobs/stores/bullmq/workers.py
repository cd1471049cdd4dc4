"""Names of BullMQ workers' connections, by which `getWorkers` of Node finds them, and ours among them."""

from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Iterable, Mapping

_SUFFIX = ":w:"
_OURS = "mauntic-jobs"


def worker_name(base: str) -> str:
    """Return the name for the connection of a worker on the queue with this prefix and name.

    Node splits them at the last colon, because it accepts none in a queue's name.
    """
    prefix, _, queue = base.rpartition(":")
    return f"{prefix}:{b64encode(queue.encode()).decode()}{_SUFFIX}{_OURS}"


def foreign_workers(clients: Iterable[Mapping[str, object]]) -> Counter[str]:
    """Return how many connections workers of other programs have on each queue, by its prefix and name.

    `clients` are those of CLIENT LIST.
    """
    names = (str(client.get("name", "")).partition(_SUFFIX) for client in clients)
    bases = (_base_of(queue) for queue, _, worker in names if worker != _OURS)
    return Counter(base for base in bases if base)


def _base_of(name: str) -> str | None:
    """Return the prefix and name of the queue that a worker's name begins with, or None."""
    prefix, _, encoded = name.rpartition(":")
    try:
        return f"{prefix}:{b64decode(encoded, validate=True).decode()}" if prefix and encoded else None
    except ValueError:
        return None
