"""Counter of what a program asks Postgres: a relay that reads the messages of the protocol on their way."""

import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_SSL_REQUEST = (80877103).to_bytes(4, "big")
_CHUNK_BYTES = 1 << 16


@dataclass
class Asked:
    """Counts of messages by their type, of all connections, and the number of connections."""

    url: str
    messages: Counter[str] = field(default_factory=Counter)
    connections: int = 0

    @property
    def statements(self) -> int:
        """Statements that were run: simple queries, and executions of prepared or unnamed ones."""
        return self.messages["Q"] + self.messages["E"]

    @property
    def round_trips(self) -> int:
        """Answers that were waited for at least: simple queries, and ends of a batch."""
        return self.messages["Q"] + self.messages["S"]


@contextmanager
def counted(url: str) -> Iterator[Asked]:
    """Yield the counts of what goes to a server through a URL of their own."""
    parts = urlsplit(url)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        login = f"{parts.username}:{parts.password}@" if parts.password else f"{parts.username}@"
        asked = Asked(parts._replace(netloc=f"{login}127.0.0.1:{port}").geturl())
        upstream = (parts.hostname or "", parts.port or 5432)
        threading.Thread(target=_accept, args=(server, upstream, asked), daemon=True).start()
        yield asked


def _accept(server: socket.socket, upstream: tuple[str, int], asked: Asked) -> None:
    # Closing the server ends it.
    with suppress(OSError):
        while True:
            client, _ = server.accept()
            asked.connections += 1
            database = socket.create_connection(upstream)
            threading.Thread(target=_count, args=(client, database, asked.messages), daemon=True).start()
            threading.Thread(target=_pass, args=(database, client), daemon=True).start()


def _pass(source: socket.socket, target: socket.socket) -> None:
    with source, suppress(OSError):
        while chunk := source.recv(_CHUNK_BYTES):
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)


def _count(client: socket.socket, database: socket.socket, messages: Counter[str]) -> None:
    """Pass on what a client sends, and count its messages by their first byte; the first ones have none."""
    unread, has_begun = b"", False
    with client, suppress(OSError):
        while chunk := client.recv(_CHUNK_BYTES):
            # Counted first: who has the answer sees the count.
            unread += chunk
            while True:
                head = int(has_begun)
                length = int.from_bytes(unread[head : head + 4], "big")
                if len(unread) < head + 4 or len(unread) < head + length:
                    break
                if has_begun:
                    messages[chr(unread[0])] += 1
                else:
                    has_begun = unread[4:8] != _SSL_REQUEST
                unread = unread[head + length :]
            database.sendall(chunk)
        database.shutdown(socket.SHUT_WR)
