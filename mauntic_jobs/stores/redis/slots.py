"""Hash slots of a Redis Cluster: which node owns which, and the key that decides where a command goes."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from mauntic_jobs.settings.settings import Settings

SLOTS = 16_384
# A slot that moves sends a command on once or twice; more often than this, two nodes disagree about it.
MAX_REDIRECTIONS = 16
_KEYLESS = {"CLIENT", "CLUSTER", "CONFIG", "INFO", "PING", "SCRIPT", "TIME"}
_SCRIPTS = {"EVAL", "EVALSHA"}
# The first brace of a key opens its tag, the first one after it closes it, and an empty tag does not count.
_TAG = re.compile(r"[^{]*\{[^}]+\}")


class NodeAddress(NamedTuple):
    """A node, as the cluster announces it."""

    host: str
    port: int


class SlotMap:
    """The owners of all slots. `home` is a key; its owner answers the commands that have none."""

    def __init__(self, home: str) -> None:
        self._home = slot_of(home)
        self._owners: list[NodeAddress | None] = [None] * SLOTS

    def owner_of(self, key: str | bytes | None) -> NodeAddress | None:
        """Return the owner of a key, None for a slot that no node has. Without a key it is the owner of `home`."""
        return self._owners[self._home if key is None else slot_of(key)]

    def nodes(self) -> list[NodeAddress]:
        """Return the nodes that own slots."""
        return list(dict.fromkeys(each for each in self._owners if each is not None))

    def move(self, slot: int, owner: NodeAddress) -> None:
        """Note the owner that a node has named."""
        self._owners[slot] = owner

    def read(self, answer: Sequence[Any], asked: NodeAddress) -> None:
        """Take over the answer to CLUSTER SLOTS of the node that was asked."""
        owners: list[NodeAddress | None] = [None] * SLOTS
        for first, last, (host, port, *_), *_ in answer:
            owner = resolved(host.decode() if host else "", int(port), asked)
            owners[first : last + 1] = [owner] * (last + 1 - first)
        self._owners = owners


def resolved(host: str, port: int, asked: NodeAddress) -> NodeAddress:
    """Return an address that a node has named. One that does not know its own host leaves it out."""
    return NodeAddress(host if host not in ("", "?") else asked.host, port)


def slot_of(key: str | bytes) -> int:
    """Return the slot of a key."""
    from redis.crc import key_slot

    return key_slot(key.encode(errors="surrogateescape") if isinstance(key, str) else key)


def key_of(words: Sequence[Any]) -> Any:
    """Return the key that decides where a command goes, None for one without keys. A script has one at least."""
    first = words[0].decode() if isinstance(words[0], bytes) else str(words[0])
    name = first.partition(" ")[0].upper()
    if name in _KEYLESS:
        return None
    return words[3] if name in _SCRIPTS else words[1]


def has_tag(name: str) -> bool:
    """Return whether all keys that begin with a name are in one slot, by a hash tag in it."""
    return _TAG.match(name) is not None


def without_tag(settings: Settings) -> Iterator[str]:
    """Yield the names of the settings that leave a queue's keys without a hash tag."""
    if not has_tag(settings.queue_prefix):
        yield "queue_prefix"
    for channel, own in settings.channels.items():
        if own.prefix is not None and not has_tag(f"{own.prefix}:{own.queue or ''}"):
            yield f"channels.{channel}.prefix"
