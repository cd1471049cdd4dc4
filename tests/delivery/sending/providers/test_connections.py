"""Connections that a provider keeps, where it may have a learned number of them."""

import asyncio
from uuid import uuid4

import pytest

from mauntic_jobs.delivery.sending.allowed_networks import Network
from mauntic_jobs.delivery.sending.providers.config import ProviderConfig
from mauntic_jobs.delivery.sending.providers.idle import IdleConnections
from mauntic_jobs.delivery.sending.providers.smtp import SmtpProvider
from tests.delivery.adapters import EMAIL
from tests.delivery.proxy import running_proxy
from tests.delivery.sink import Sink
from tests.support import run_on_loop


# How many connections may be open, and how many are opened for five messages, of which three are sent at once.
@pytest.mark.parametrize(("most", "opened"), [(None, 3), (2, 3), (1, 4), (0, 5)])
def test_no_more_connections_are_kept_than_there_may_be(sink: Sink, most: int | None, opened: int) -> None:
    with running_proxy(sink.host, sink.port) as proxy:
        values = {"host": "127.0.0.1", "port": proxy.port, "from": "news@acme.test"}
        config = ProviderConfig(uuid4(), "custom_smtp", values)

        async def run() -> None:
            provider = SmtpProvider(
                config, Network(loopback=True), hello="here.example", timeout=2, idle=IdleConnections()
            )
            await asyncio.gather(*(provider.send(EMAIL) for _ in range(3)))
            assert provider.opened == 3
            provider.limit(most)
            assert provider.opened == (3 if most is None else most)
            await asyncio.gather(*(provider.send(EMAIL) for _ in range(2)))
            await provider.close()

        run_on_loop(run())
        assert proxy.accepted == opened
