"""A Valkey cluster of a test's own: three nodes that own all slots, and more that follow them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

from redis import Redis
from redis.crc import key_slot

from mauntic_jobs.embedded import die_with_parent as children
from mauntic_jobs.embedded.servers import Servers
from tests.support import wait_until
from tests.valkey import valkey

_SLOTS = 16_384
_QUICK = ("cluster-node-timeout 2000", "cluster-require-full-coverage no", "cluster-allow-replica-migration no")


def owner_url(client: Redis, key: str) -> str:
    """Return the URL of the node that owns a key, as the node of a client knows it."""
    ask: Any = client.execute_command
    slot = key_slot(key.encode())
    for first, last, (host, port, *_), *_ in ask("CLUSTER", "SLOTS"):
        if first <= slot <= last:
            return f"redis://{host.decode()}:{port}"
    raise AssertionError(f"no node owns {key}")


class Node:
    """One node, with a client that talks to it alone."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client: Any = Redis.from_url(url, protocol=2)
        self.id = self.ask("CLUSTER", "MYID").decode()

    @property
    def port(self) -> int:
        port = urlsplit(self.url).port
        assert port
        return port

    def ask(self, *words: Any) -> Any:
        """Return what this node answers."""
        return self.client.execute_command(*words)


class Cluster:
    """The nodes; the first three own the slots at first."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes

    def owner(self, key: str) -> Node:
        """Return the node that owns a key, as the nodes know it."""
        slot = key_slot(key.encode())
        for first, last, (_, port, *_), *_ in self.nodes[0].ask("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == port)
        raise AssertionError(f"no node owns {key}")

    def other(self, key: str) -> Node:
        """Return a primary that does not own a key."""
        own = self.owner(key)
        return next(node for node in self.nodes[:3] if node is not own and node.ask("ROLE")[0] == b"master")

    @property
    def moves_slots(self) -> bool:
        """Whether the server moves a slot as a whole, as Valkey 9 does."""
        return any(b"MIGRATESLOTS" in line for line in self.nodes[0].ask("CLUSTER", "HELP"))

    def move(self, key: str, target: Node) -> None:
        """Move the slot of a key, as a whole if the server does that, and wait until it has moved."""
        if not self.moves_slots:
            self.begin_move_by_keys(key, target)
            while self.move_keys(key, target, 100):
                pass
            self.end_move(key, target)
            return
        slot = key_slot(key.encode())
        self.owner(key).ask("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", target.id)
        self.await_owner(key, target)

    def begin_move_by_keys(self, key: str, target: Node) -> None:
        """Let the slot of a key be one whose keys are moved one after the other."""
        slot, source = key_slot(key.encode()), self.owner(key)
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)

    def move_keys(self, key: str, target: Node, count: int) -> int:
        """Move up to so many keys of a slot that is being moved; return how many."""
        source = self.owner(key)
        keys = source.ask("CLUSTER", "GETKEYSINSLOT", key_slot(key.encode()), count)
        if keys:
            source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        return len(keys)

    def end_move(self, key: str, target: Node) -> None:
        """Give the slot of a key to the node that has all its keys now."""
        slot, source = key_slot(key.encode()), self.owner(key)
        for node in (target, source, *(each for each in self.nodes if each not in (target, source))):
            if node.ask("ROLE")[0] == b"master":
                node.ask("CLUSTER", "SETSLOT", slot, "NODE", target.id)
        self.await_owner(key, target)

    def await_owner(self, key: str, node: Node) -> None:
        """Wait until every node knows the owner of a key."""
        slot = key_slot(key.encode())

        def known_by(each: Node) -> bool:
            found = [row for row in each.ask("CLUSTER", "SLOTS") if row[0] <= slot <= row[1]]
            return bool(found) and found[0][2][1] == node.port

        wait_until(lambda: all(known_by(each) for each in self.nodes), f"{node.url} to own {key}")

    def replace(self, key: str) -> Node:
        """Let the replica of a key's owner take its place, without losing anything, and return it."""
        owner = self.owner(key)
        replica = next(node for node in self.nodes if self._follows(node, owner))
        replica.ask("CLUSTER", "FAILOVER")
        self.await_owner(key, replica)
        return replica

    def follow(self, key: str) -> None:
        """Let the last node follow the owner of a key, and wait until it has all that it has."""
        owner, replica = self.owner(key), self.nodes[-1]
        if not self._follows(replica, owner):
            replica.ask("CLUSTER", "REPLICATE", owner.id)
        wait_until(lambda: self._follows(replica, owner) and replica.ask("ROLE")[3] == b"connected", "the replica")

    def end(self, node: Node) -> None:
        """End a node at once, whatever its replica has not got yet."""
        self.nodes.remove(node)
        node.client.shutdown(nosave=True, now=True, force=True)

    def flush(self) -> None:
        """Remove all keys."""
        for node in self.nodes:
            if node.ask("ROLE")[0] == b"master":
                node.ask("FLUSHALL")

    @staticmethod
    def _follows(node: Node, owner: Node) -> bool:
        role = node.ask("ROLE")
        return bool(role[0] == b"slave" and role[2] == owner.port)


@contextmanager
def running_cluster(servers: Servers, name: str = "cluster", replicas: int = 0) -> Iterator[Cluster]:
    """Start three nodes and so many more, and yield them once all know all."""
    with ExitStack() as stack:
        nodes = []
        for number in range(3 + replicas):
            lines = ("cluster-enabled yes", f"cluster-port {children.free_port()}", *_QUICK)
            nodes.append(Node(stack.enter_context(valkey(servers, f"{name}-{number}", *lines))))
            stack.callback(nodes[-1].client.close)
        bounds = [number * _SLOTS // 3 for number in range(4)]
        for node, first, last in zip(nodes, bounds, bounds[1:], strict=False):
            node.ask("CLUSTER", "ADDSLOTSRANGE", first, last - 1)
        for number, node in enumerate(nodes):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in nodes[1:]:
            bus = int(node.client.config_get("cluster-port")["cluster-port"])
            nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        wait_until(lambda: all(_knows(node, len(nodes)) for node in nodes), "the nodes to know each other")
        yield Cluster(nodes)


def _knows(node: Node, count: int) -> bool:
    state = node.client.cluster("info")
    return bool(state["cluster_state"] == "ok" and int(state["cluster_known_nodes"]) == count)
