"""Health and metrics over HTTP, for clients that behave and for those that do not."""

import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from typing import Any

import pytest

from mauntic_jobs.errors import ConfigurationError
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.telemetry import http_server
from mauntic_jobs.telemetry.health import serve_health
from tests.delivery.web import free_port
from tests.support import wait_until

_THREADS = "process_request_thread"


@pytest.fixture
def port() -> Iterator[int]:
    number = free_port()
    with serve_health(
        Settings(port=number), lambda: (True, {"well": True}), metrics=lambda: b"up 1\n", own_metrics=lambda: b"own 1\n"
    ):
        yield number


def _get(host: str, port: int, path: str = "/health") -> tuple[int, bytes]:
    with closing(HTTPConnection(host, port, timeout=10)) as client:
        client.request("GET", path)
        answer = client.getresponse()
        return answer.status, answer.read()


def _serving() -> int:
    return sum(_THREADS in thread.name for thread in threading.enumerate())


def test_it_listens_on_every_address_by_default(port: int) -> None:
    for host in ("127.0.0.1", "::1"):
        status, body = _get(host, port)
        assert (status, json.loads(body)) == (200, {"well": True})


@pytest.mark.parametrize(("address", "other"), [("127.0.0.1", "::1"), ("::1", "127.0.0.1"), ("localhost", "127.0.0.2")])
def test_it_listens_on_the_one_address_that_is_set(address: str, other: str) -> None:
    number = free_port()
    with serve_health(Settings(port=number, listen_address=address), lambda: (True, {})):
        assert _get(address, number)[0] == 200
        with pytest.raises(ConnectionRefusedError):
            _get(other, number)


@pytest.mark.parametrize("address", ["192.0.2.1", "no-such-host.invalid", "x" * 300])
def test_an_address_that_is_not_this_machines_is_an_error_that_says_so(address: str) -> None:
    with (
        pytest.raises(ConfigurationError, match="MAUNTIC_LISTEN_ADDRESS"),
        serve_health(Settings(port=free_port(), listen_address=address), lambda: (True, {})),
    ):
        pytest.fail("it serves")


def test_a_client_that_goes_away_is_no_error(port: int, capfd: pytest.CaptureFixture[str]) -> None:
    for path in (b"/metrics", b"/health") * 20:
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(b"GET " + path + b" HTTP/1.1\r\n\r\n")
        # It is reset, not closed.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    assert _get("127.0.0.1", port)[0] == 200
    wait_until(lambda: _serving() == 0, "the end of the answers")
    assert capfd.readouterr().err == ""


def test_a_defect_is_one_line_and_the_next_answer_comes(capfd: pytest.CaptureFixture[str]) -> None:
    answers: list[Any] = [(True, {}), ZeroDivisionError("of the test")]

    def check() -> tuple[bool, dict[str, Any]]:
        answer = answers.pop()
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]  # a tuple is left

    number = free_port()
    with serve_health(Settings(port=number), check):
        with pytest.raises(OSError, match=r"closed|reset"):
            _get("127.0.0.1", number)
        assert _get("127.0.0.1", number)[0] == 200
    (line,) = capfd.readouterr().err.splitlines()
    assert "ZeroDivisionError: of the test" in json.loads(line)["event"]


def test_half_sent_requests_are_ended(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(10)]
        for client in slow:
            client.sendall(b"GET /hea")
        wait_until(lambda: _serving() == len(slow), "the connections")
        monkeypatch.setattr(http_server, "MAX_CONNECTION_SECONDS", 0.0)
        wait_until(lambda: _serving() == 0, "the end of the connections")
        assert [client.recv(1) for client in slow] == [b""] * len(slow)


def test_masses_of_connections_leave_room_for_the_one_that_watches(port: int) -> None:
    with ExitStack() as stack:
        for _ in range(3 * http_server.MAX_CONNECTIONS):
            stack.enter_context(socket.create_connection(("127.0.0.1", port))).sendall(b"GET /hea")
        began = time.monotonic()
        assert _get("127.0.0.1", port)[0] == 200
        # No connection was there long enough to be ended for its age.
        assert time.monotonic() - began < http_server.MAX_CONNECTION_SECONDS
        wait_until(lambda: _serving() <= http_server.MAX_CONNECTIONS, "the end of the oldest connections")
