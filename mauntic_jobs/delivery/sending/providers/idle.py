"""Idle SMTP connections of all providers of a process: how many are kept, and for how long."""

import asyncio
import resource
from collections import OrderedDict
from collections.abc import Hashable

from mauntic_jobs.delivery.sending.smtp.connection import SmtpConnection

# Networks forget connections that are idle, and tell neither side: an old one is not used again.
IDLE_SECONDS = 30
_SWEEP_SECONDS = 5.0
# The share of the process's descriptors that idle connections may take.
_DESCRIPTORS_EACH = 4
_MIN_IDLE, _MAX_IDLE = 8, 1_000


class IdleConnections:
    """Keeps idle connections by their owners, of all at most `most`; beyond that the one idle for longest is closed."""

    def __init__(self, most: int | None = None) -> None:
        self._most = _default_most() if most is None else most
        # The one that was idle first stands in front.
        self._all: OrderedDict[SmtpConnection, Hashable] = OrderedDict()
        self._by_owner: dict[Hashable, list[SmtpConnection]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._all)

    def take(self, owner: Hashable) -> SmtpConnection | None:
        """Return the connection that the owner used last, unless it is too old, or None."""
        own = self._by_owner.get(owner)
        if not own or self._is_stale(own[-1]):
            return None
        connection = own[-1]
        self._forget(connection)
        return connection

    def put(self, owner: Hashable, connection: SmtpConnection) -> None:
        """Keep a connection that has just been used."""
        self._all[connection] = owner
        self._by_owner.setdefault(owner, []).append(connection)
        while len(self._all) > self._most:
            self._close(next(iter(self._all)))

    def count(self, owner: Hashable) -> int:
        """Return how many an owner has that are open."""
        return sum(each.is_open for each in self._by_owner.get(owner, ()))

    def trim(self, owner: Hashable, most: int) -> None:
        """Close all connections of an owner but those used last, so many at most."""
        own = self._by_owner.get(owner, [])
        for connection in own[: max(len(own) - most, 0)]:
            self._close(connection)

    async def close(self, owner: Hashable) -> None:
        """Close all connections of an owner."""
        for connection in list(self._by_owner.get(owner, ())):
            self._close(connection)
        await asyncio.gather(*self._closing)

    async def sweep(self) -> None:
        """Close what has been idle for too long, every few seconds, until cancelled."""
        while True:
            self.close_stale()
            await asyncio.sleep(_SWEEP_SECONDS)

    def close_stale(self) -> None:
        """Close what has been idle for too long."""
        while self._all and self._is_stale(oldest := next(iter(self._all))):
            self._close(oldest)

    def _close(self, connection: SmtpConnection) -> None:
        self._forget(connection)
        task = asyncio.ensure_future(connection.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _forget(self, connection: SmtpConnection) -> None:
        owner = self._all.pop(connection)
        own = self._by_owner[owner]
        own.remove(connection)
        if not own:
            del self._by_owner[owner]

    def _is_stale(self, connection: SmtpConnection) -> bool:
        return connection.idle_since + IDLE_SECONDS < asyncio.get_running_loop().time()


def _default_most() -> int:
    """Return how many idle connections the process's limit of descriptors leaves room for."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(max(soft // _DESCRIPTORS_EACH, _MIN_IDLE), _MAX_IDLE) if soft > 0 else _MAX_IDLE
