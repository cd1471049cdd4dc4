"""Look for parked jobs that no lane would bring back, as the processes share it."""

import asyncio
from typing import cast

import pytest

from mauntic_jobs.delivery.admission import admission as admissions
from mauntic_jobs.delivery.admission.admission import Admission, Refresh
from mauntic_jobs.stores.redis.async_link import RedisLink
from tests.delivery.world import World
from tests.support import run_on_loop


def test_one_process_at_a_time_looks_for_what_was_lost(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admissions, "_AUDIT_SECONDS", 0.05)
    world.ask("ZADD", f"{world.base}:prioritized", -(2**53) + 131073 * 2**35, "j1")
    ready = f"{world.base}:adm:ready1"

    async def run() -> list[bool]:
        links = [RedisLink(world.settings) for _ in range(2)]
        found = []
        for link in links:
            running = asyncio.create_task(Admission(world.base, link, cast("Refresh", None)).run())
            await asyncio.sleep(0.5)
            found.append(bool(await link.command("EXISTS", ready)))
            await link.command("DEL", ready)
            running.cancel()
        # The lease of the first is over.
        await links[0].command("DEL", f"{world.base}:adm:auditor")
        running = asyncio.create_task(Admission(world.base, links[1], cast("Refresh", None)).run())
        await asyncio.sleep(0.5)
        found.append(bool(await links[1].command("EXISTS", ready)))
        running.cancel()
        await asyncio.gather(*(link.close() for link in links))
        return found

    assert run_on_loop(run()) == [True, False, True]
