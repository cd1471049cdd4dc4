"""Servers behind REDIS_URL for commands in batches: one, or the nodes of a cluster, each by the slots that it owns."""

from collections.abc import Mapping, Sequence
from typing import Any

from mauntic_jobs.stores.redis.slots import MAX_REDIRECTIONS, NodeAddress, SlotMap, key_of, resolved

# A script to be known before it is called, and where it is known already.
Script = tuple[bytes, set[object]]


class OneServer:
    """A server that has all keys. Its methods raise the driver's errors."""

    is_cluster = False

    def __init__(self, client: Any) -> None:
        self._client = client

    def send(self, calls: Sequence[Sequence[Any]], script: Script | None = None) -> list[Any]:
        """Send commands at once; return their answers in order, errors of the server among them."""
        return _send(self._client, [(False, words) for words in calls], script, None)

    def ask_each(self, words: Sequence[Any]) -> dict[str, Any]:
        """Return the answer to one command, under no name."""
        return {"": self._client.execute_command(*words)}

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


class ClusterServers:
    """The nodes of a cluster, each with a connection of its own. Its methods raise the driver's errors.

    Nothing is sent twice but what a node has refused because the slot is another's. `seed` is a client of any node.
    """

    is_cluster = True

    def __init__(self, seed: Any, home: str) -> None:
        self._seed = seed
        self._slots = SlotMap(home)
        self._clients: dict[NodeAddress, Any] = {}
        self._is_stale = False
        self._read_slots()

    def send(self, calls: Sequence[Sequence[Any]], script: Script | None = None) -> list[Any]:
        """Send each command to the owner of its key; return the answers in order, errors of servers among them."""
        from redis.exceptions import AskError

        self._refresh()
        answers: list[Any] = [None] * len(calls)
        left = {place: (self._slots.owner_of(key_of(words)), False) for place, words in enumerate(calls)}
        for _ in range(MAX_REDIRECTIONS):
            following: dict[int, tuple[NodeAddress | None, bool]] = {}
            for node in dict.fromkeys(owner for owner, _ in left.values()):
                places = [place for place, (owner, _) in left.items() if owner == node]
                asked = [(left[place][1], calls[place]) for place in places]
                for place, answer in zip(places, self._ask(node, asked, script), strict=True):
                    answers[place] = answer
                    if isinstance(answer, AskError):
                        following[place] = self._redirection(answer, node)
            left = following
            if not left:
                break
        return answers

    def ask_each(self, words: Sequence[Any]) -> dict[str, Any]:
        """Return the answer of each node that owns slots to one command without keys."""
        self._refresh()
        answers = {f"{node.host}:{node.port}": self._ask(node, [(False, words)])[0] for node in self._slots.nodes()}
        for answer in answers.values():
            if isinstance(answer, Exception):
                raise answer
        return answers

    def close(self) -> None:
        """Close all connections."""
        for client in (self._seed, *self._clients.values()):
            client.close()

    def _redirection(self, answer: Any, node: NodeAddress | None) -> tuple[NodeAddress, bool]:
        """Return where to send a command instead, and whether only this once."""
        from redis.exceptions import MovedError

        owner = resolved(answer.host, answer.port, node or _address(self._seed))
        if not isinstance(answer, MovedError):
            return owner, True
        self._slots.move(answer.slot_id, owner)
        self._is_stale = True
        return owner, False

    def _ask(
        self, node: NodeAddress | None, calls: Sequence[tuple[bool, Any]], script: Script | None = None
    ) -> list[Any]:
        from redis.exceptions import RedisError

        try:
            return _send(self._client_of(node), calls, script, node)
        except (RedisError, OSError):
            # A replica may have taken its place.
            self._is_stale = True
            raise

    def _client_of(self, node: NodeAddress | None) -> Any:
        if node is None:  # any node can say that the slot has no owner
            return self._seed
        if node not in self._clients:
            self._clients[node] = _at(self._seed, node)
        return self._clients[node]

    def _refresh(self) -> None:
        if self._is_stale:
            self._read_slots()

    def _read_slots(self) -> None:
        """Ask the nodes for the owners of the slots, until one answers; if none does, what is known stays."""
        from redis.exceptions import RedisError

        refused: Exception | None = None
        for client in (*(self._client_of(node) for node in self._slots.nodes()), self._seed):
            try:
                answer = client.execute_command("CLUSTER", "SLOTS")
            except (RedisError, OSError) as error:
                refused = error
            else:
                self._slots.read(answer, _address(client))
                self._is_stale = False
                return
        if refused is not None:
            raise refused


def _send(client: Any, calls: Sequence[tuple[bool, Any]], script: Script | None, node: object) -> list[Any]:
    if script is not None and node not in script[1]:
        client.script_load(script[0])
        script[1].add(node)
    pipeline = client.pipeline(transaction=False)
    for is_asking, words in calls:
        if is_asking:
            pipeline.execute_command("ASKING")
        pipeline.execute_command(*words)
    answers = iter(pipeline.execute(raise_on_error=False))
    return [next(answers) if not is_asking else (next(answers), next(answers))[1] for is_asking, _ in calls]


def _at(client: Any, node: NodeAddress) -> Any:
    """Return a client like another, of another node."""
    import redis

    options: Mapping[str, Any] = client.connection_pool.connection_kwargs
    kind = client.connection_pool.connection_class
    pool = redis.ConnectionPool(connection_class=kind, **{**options, "host": node.host, "port": node.port})
    return redis.Redis.from_pool(pool)


def _address(client: Any) -> NodeAddress:
    options = client.connection_pool.connection_kwargs
    return NodeAddress(str(options.get("host", "localhost")), int(options.get("port", 6379)))
