"""Redis or Valkey for an event loop: commands of many tasks share one connection, in a cluster one to each node.

Nothing is sent twice: after an error the caller knows what to repeat.
"""

import asyncio
from collections.abc import Sequence
from hashlib import sha1
from typing import Any

from hiredis import pack_command

from mauntic_jobs.errors import MaunticJobsError
from mauntic_jobs.redaction.urls import mask_url
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.redis.client import check_tags, checked_url, connection_options, encoded, translated
from mauntic_jobs.stores.redis.node_link import NodeLink, RedisRequest
from mauntic_jobs.stores.redis.slots import MAX_REDIRECTIONS, NodeAddress, SlotMap, key_of, resolved

Word = str | bytes | int | float

_ASKING = b"*1\r\n$6\r\nASKING\r\n"
_SLOTS = b"*2\r\n$7\r\nCLUSTER\r\n$5\r\nSLOTS\r\n"


class RedisLink:
    """The connections to Redis, opened when they are needed, and again when they are lost.

    Its methods raise MaunticJobsError; UnavailableError may mean that the command was carried out all the same.
    """

    def __init__(self, settings: Settings, name: str | None = None) -> None:
        """Take the settings; `name` is what CLIENT LIST shows, where the server allows it."""
        self._settings = settings
        self._name = name
        self._url = checked_url(settings)
        self._shown_url = mask_url(self._url)
        self._options = connection_options(settings)
        self._scripts: dict[bytes, tuple[bytes, bytes]] = {}
        self._seed = NodeLink(self._url, self._options, name, self)
        self._is_known = False
        # The rest is of a cluster.
        self._slots: SlotMap | None = None
        self._nodes: dict[NodeAddress, NodeLink] = {}
        self._refreshing: asyncio.Task[None] | None = None
        self._is_closed = False

    @property
    def in_cluster(self) -> bool:
        """Whether keys of different slots are on different nodes, as soon as anything was answered."""
        return self._slots is not None

    async def command(self, *words: Word, patience: float = 0.0) -> Any:
        """Send one command and return its answer. One that waits says for how many seconds, in `patience`."""
        return await self._ask(_pack(words), words, patience)

    def begin(self, *words: Word) -> asyncio.Future[Any]:
        """Send one command; its answer may be awaited later, or never."""
        return self._ask(_pack(words), words)

    async def script(self, script: bytes, keys: Sequence[str], arguments: Sequence[Word]) -> object:
        """Run a Lua script."""
        from redis.exceptions import NoScriptError

        digest, load = self._known(script)
        words = (b"EVALSHA", digest, len(keys), *keys, *arguments)
        packed = _pack(words)
        try:
            return await self._ask(packed, words)
        except MaunticJobsError as error:
            if not isinstance(error.__cause__, NoScriptError):
                raise
        # It has not run, so this is no repetition.
        await self._ask(load, words)
        return await self._ask(packed, words)

    async def close(self) -> None:
        """Close the connections; whatever is still asked of them fails."""
        self._is_closed = True
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait([self._refreshing])
        for link in (self._seed, *self._nodes.values()):
            await link.close()

    def _known(self, script: bytes) -> tuple[bytes, bytes]:
        known = self._scripts.get(script)
        if known is None:
            digest = sha1(script, usedforsecurity=False).hexdigest().encode()
            known = self._scripts[script] = (digest, _pack((b"SCRIPT", b"LOAD", script)))
        return known

    def _ask(self, packed: bytes, words: Sequence[Word], patience: float = 0.0) -> asyncio.Future[object]:
        request = RedisRequest(packed, patience)
        # Before the first answer it is not known whether this is a cluster: its nodes send the command on.
        link = self._seed if self._slots is None else self._at(self._slots.owner_of(key_of(words)))
        link.ask(request)
        return request.future

    def _at(self, node: NodeAddress | None) -> NodeLink:
        if node is None:  # any node can say that the slot has no owner
            return self._seed
        if node not in self._nodes:
            self._nodes[node] = NodeLink(self._url, self._options, self._name, self, node)
        return self._nodes[node]

    async def greet(self, connection: Any, server: NodeLink) -> None:
        """Find out at the first connection whether this is a cluster, and which node has which slot."""
        if self._is_known:
            return
        await connection.send_command("INFO", "cluster")
        if b"cluster_enabled:1" in await _answer(connection):
            check_tags(self._settings)
            await connection.send_command("CLUSTER", "SLOTS")
            slots = SlotMap(f"{self._settings.queue_prefix}:")
            slots.read(await _answer(connection), server.address)
            self._slots = slots
        self._is_known = True

    def refuse(self, request: RedisRequest, error: Exception, server: NodeLink) -> None:
        """Send a request on to the node that its error names, or fail it."""
        from redis.exceptions import AskError, ResponseError

        if self._slots is not None:
            if isinstance(error, AskError) and request.redirections < MAX_REDIRECTIONS:
                request.redirections += 1
                self._redirect(request, error, server, self._slots)
                return
            if not isinstance(error, ResponseError):
                # A replica may have taken its place.
                self._refresh(self._slots)
        request.future.set_exception(self._caused(error))
        # The caller need not wait for it: without a look asyncio would log an error that no code has missed.
        request.future.exception()

    def _redirect(self, request: RedisRequest, error: Any, server: NodeLink, slots: SlotMap) -> None:
        from redis.exceptions import MovedError

        owner = resolved(error.host, error.port, server.address)
        if isinstance(error, MovedError):
            slots.move(error.slot_id, owner)
            self._refresh(slots)
        else:
            self._at(owner).ask(RedisRequest(_ASKING))
        self._at(owner).ask(request)

    def _refresh(self, slots: SlotMap) -> None:
        if self._refreshing is None and not self._is_closed:
            self._refreshing = asyncio.create_task(self._read_slots(slots))

    async def _read_slots(self, slots: SlotMap) -> None:
        """Ask the nodes for the owners of the slots, until one answers; if none does, what is known stays."""
        links = [*(self._at(node) for node in slots.nodes()), self._seed]
        try:
            for link in sorted(links, key=lambda link: not link.is_open):
                request = RedisRequest(_SLOTS)
                link.ask(request)
                try:
                    answer: Any = await request.future
                except MaunticJobsError:
                    continue
                slots.read(answer, link.address)
                return
        finally:
            self._refreshing = None

    def _caused(self, error: Exception) -> MaunticJobsError:
        if isinstance(error, MaunticJobsError):
            return error
        ours = translated(error, self._shown_url)
        ours.__cause__ = error
        return ours


async def _answer(connection: Any) -> Any:
    """Return what the server says; nothing where it refuses to."""
    from redis.exceptions import ResponseError

    try:
        return await connection.read_response()
    except ResponseError:
        return b""


def _pack(words: tuple[Word, ...]) -> bytes:
    """Return a command as Redis reads it."""
    try:
        packed: bytes = pack_command(words)  # type: ignore[arg-type]  # its stub means a tuple of one
    except UnicodeEncodeError:
        packed = pack_command(tuple(encoded(words)))
    return packed
