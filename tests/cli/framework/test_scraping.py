"""Scrapes of a process that stays, while a store hangs."""

import socket
import threading
from collections.abc import Iterator

import pytest

from mauntic_jobs.cli.framework import scraping
from mauntic_jobs.cli.framework.scraping import Scraper
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.telemetry.metrics import gauge
from tests.support import wait_until


class SilentServer:
    """Takes connections and never answers; `connections` are those that it has taken."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for connection in self.connections:
            connection.close()

    def _accept(self) -> None:
        try:
            while True:
                self.connections.append(self._socket.accept()[0])
        except OSError:
            return


@pytest.fixture
def silent() -> Iterator[SilentServer]:
    server = SilentServer()
    yield server
    server.close()


@pytest.mark.parametrize("hanging", ["postgres", "redis"])
def test_a_store_that_hangs_keeps_nothing_else_from_a_scrape(
    hanging: str, silent: SilentServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scraping, "_ANSWER_SECONDS", 0.3)
    url = f"postgresql://jobs@127.0.0.1:{silent.port}/jobs" if hanging == "postgres" else None
    asked = Settings(
        database_url=url or settings.database_url,
        redis_url=f"redis://127.0.0.1:{silent.port}/0" if hanging == "redis" else None,
        connect_timeout="20s",
    )
    scraper = Scraper(asked)
    own = gauge("own_number", "What the process itself knows.", "kind")
    own.add_metric(["any"], 1)
    assert b'own_number{kind="any"} 1.0' in scraper.numbers([own])
    wait_until(lambda: silent.connections, "the look at what hangs")
    for text in (scraper.numbers([own]).decode() for _ in range(2)):
        assert 'own_number{kind="any"} 1.0' in text
        assert f'mauntic_store_up{{store="{hanging}"}} 0.0' in text
        assert ('mauntic_store_up{store="postgres"} 1.0' in text) == (hanging == "redis")
    assert len(silent.connections) == 1
