"""A check that what goes to Redis as one command would go to one node of a cluster."""

from collections.abc import Sequence
from typing import Any

import pytest
from redis.crc import key_slot

from mauntic_jobs.stores.redis.async_link import RedisLink
from mauntic_jobs.stores.redis.client import RedisScripts

_SEVERAL = {b"DEL", b"EXISTS", b"MGET", b"UNLINK"}
# What the platform's names without a hash tag begin with.
_ALONE = (b"delivery:idem:", b"warmup:")


def check(words: Sequence[Any]) -> None:
    """Hold the keys of one command.

    Keys of queues are held where their prefix has a hash tag, as that of most tests. The scripts of warm-up have keys
    of other names in a cluster.
    """
    first = _bytes(words[0])
    keys = [_bytes(key) for key in _keys(first, words)]
    is_alone = first in _SEVERAL and any(key.startswith(_ALONE) for key in keys)
    if len(keys) > 1 and (is_alone or any(b"{" in key for key in keys)):
        slots = {key_slot(key) for key in keys}
        assert len(slots) == 1, f"a cluster refuses one command with keys of several slots: {keys}"


def hold(patch: pytest.MonkeyPatch) -> None:
    """Check all commands and scripts of this process."""
    send, ask = RedisScripts._send, RedisLink._ask

    def checked_send(self: RedisScripts, calls: Sequence[Sequence[Any]], *more: Any) -> list[Any]:
        for words in calls:
            check(words)
        return send(self, calls, *more)

    def checked_ask(self: RedisLink, packed: bytes, words: Sequence[Any], *more: Any) -> Any:
        check(words)
        return ask(self, packed, words, *more)

    patch.setattr(RedisScripts, "_send", checked_send)
    patch.setattr(RedisLink, "_ask", checked_ask)


def _keys(first: bytes, words: Sequence[Any]) -> Sequence[Any]:
    if first == b"EVALSHA":
        return words[3 : 3 + int(words[2])]
    return words[1:] if first in _SEVERAL else ()


def _bytes(word: Any) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode(errors="surrogateescape")
