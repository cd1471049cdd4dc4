"""HTTP server for health and metrics: a few short answers, whatever clients do.

It holds few connections, each for a few seconds. So clients that are slow, stay, or come in masses take nothing from
the work of the process.
"""

import errno
import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn
from typing import Any

from mauntic_jobs.telemetry.logs import emit

MAX_CONNECTIONS = 64
# From its first byte to the end of the answer, however slowly a client sends or reads.
MAX_CONNECTION_SECONDS = 10.0


class ShortServer(ThreadingMixIn, HTTPServer):
    """Listens on an address, or on all of them, IPv6 included, if `address` is empty. Raises OSError if it cannot."""

    daemon_threads = True
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, address: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self._opened: dict[socket.socket, float] = {}
        everywhere = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104 - the setting can say less
        try:
            found = socket.getaddrinfo(address or everywhere, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except UnicodeError:
            raise OSError(errno.EINVAL, "it is not the name of a host") from None
        self.address_family = found[0][0]
        super().__init__((str(found[0][4][0]), port), handler)

    def server_bind(self) -> None:
        """Bind, for both families where that is possible. No name is looked up, which can take seconds."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread; where there are too many, the oldest connection is ended for it."""
        if len(self._opened) >= MAX_CONNECTIONS:
            self._end(next(iter(self._opened)))
        self._opened[request] = time.monotonic()
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """End connections that have been there for too long; called twice a second."""
        latest = time.monotonic() - MAX_CONNECTION_SECONDS
        for request in [each for each, opened in list(self._opened.items()) if opened < latest]:
            self._end(request)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        self._opened.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - named by the class above
        """Log a defect. A client that went away, or was too slow, is none."""
        error = sys.exception()
        if not isinstance(error, OSError):
            emit("error", f"an answer over HTTP failed: {type(error).__name__}: {error}")

    def _end(self, request: socket.socket) -> None:
        # Its thread finds the connection ended, and closes it.
        self._opened.pop(request, None)
        try:
            request.shutdown(socket.SHUT_RDWR)
        except OSError:  # the client was faster
            return
