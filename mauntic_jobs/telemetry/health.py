"""The health of a process that stays, over HTTP, for what restarts or watches it."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from threading import Thread

from mauntic_jobs.errors import ConfigurationError
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.telemetry.http_server import ShortServer

Check = Callable[[], tuple[bool, Mapping[str, object]]]


@contextmanager
def serve_health(
    settings: Settings,
    check: Check,
    *,
    ready: Check | None = None,
    metrics: Callable[[], bytes] | None = None,
    own_metrics: Callable[[], bytes] | None = None,
) -> Iterator[None]:
    """Answer GET /health while the body runs: 200 if `check` says so, else 503, with its details as JSON.

    Likewise /ready with `ready`; /metrics and /metrics/own answer with the text of `metrics` and `own_metrics`. Nothing
    is served without a port in the settings. Raises ConfigurationError if the address or the port cannot be used.
    """
    port, address = settings.port, settings.listen_address
    if port is None:
        yield
        return

    checks = {"/health": check} | ({"/ready": ready} if ready else {})
    try:
        texts = {"/metrics": metrics, "/metrics/own": own_metrics}
        server = ShortServer(
            address or "", port, _handler(checks, {path: text for path, text in texts.items() if text})
        )
    except OSError as error:
        place = f"port {port}" if address is None else f"port {port} of {address}"
        advice = "Check PORT." if address is None else "Check PORT and MAUNTIC_LISTEN_ADDRESS."
        raise ConfigurationError(f"Cannot serve /health on {place}: {error.strerror}. {advice}") from None
    thread = Thread(target=server.serve_forever, name="health", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(checks: Mapping[str, Check], texts: Mapping[str, Callable[[], bytes]]) -> type[BaseHTTPRequestHandler]:
    paths = [*checks, *texts]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path in texts:
                self._answer(200, texts[path](), "text/plain; version=0.0.4; charset=utf-8")
            elif path in checks:
                well, details = checks[path]()
                self._answer(200 if well else 503, json.dumps(details, default=str).encode())
            else:
                self._answer(404, json.dumps({"error": f"there is {', '.join(paths)}"}).encode())

        def _answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing: requests come every few seconds."""

    return Handler
