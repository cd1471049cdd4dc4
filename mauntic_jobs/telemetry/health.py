"""The health of a process that stays, over HTTP, for whoever restarts it."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from mauntic_jobs.errors import ConfigurationError

Check = Callable[[], tuple[bool, Mapping[str, Any]]]


@contextmanager
def serve_health(port: int | None, check: Check) -> Iterator[None]:
    """Answer GET /health while the body runs: 200 if `check` says so, else 503, with its details as JSON.

    Nothing is served if `port` is None. Raises ConfigurationError if the port cannot be used.
    """
    if port is None:
        yield
        return

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/health":
                self._answer(404, {"error": "there is /health"})
                return
            healthy, details = check()
            self._answer(200 if healthy else 503, details)

        def _answer(self, status: int, details: Mapping[str, Any]) -> None:
            body = json.dumps(details, default=str).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing: somebody asks every few seconds."""

    try:
        server = ThreadingHTTPServer(("", port), Handler)
    except OSError as error:
        raise ConfigurationError(f"Cannot serve /health on port {port}: {error.strerror}. Check PORT.") from None
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, name="health", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
