"""Delivering with processes that are killed, and the account of every message afterwards."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from mauntic_jobs.delivery.channels import CHANNELS
from mauntic_jobs.errors import ExitCode
from tests.delivery.sink import Sink
from tests.delivery.world import World
from tests.support import environment

CONCURRENCY = 4
_PATIENCE_SECONDS = 60 + 30 * int(os.environ.get("CHAOS", "1"))
_FAILING = Path(__file__).parent / "failing.py"
_SETTLED = ("sent", "failed", "suppressed", "expired", "ambiguous")


def start(
    world: World,
    *options: str,
    concurrency: int = CONCURRENCY,
    output: int = subprocess.PIPE,
    program: Path = _FAILING,
    **extra: str,
) -> "subprocess.Popen[str]":
    """Start a process that delivers the world's channel; `FAILPOINT` may be among the variables."""
    assert world.settings.redis_url
    variables = {
        "REDIS_URL": world.settings.redis_url.get_secret_value(),
        "MAUNTIC_QUEUE_PREFIX": world.settings.queue_prefix,
        "MAUNTIC_ALLOWED_NETWORKS": "127.0.0.0/8",
        "MAUNTIC_SEND_TIMEOUT": "3s",
        "MAUNTIC_PROVIDER_URLS": json.dumps(world.settings.provider_urls),
        "PYTHONPATH": str(_FAILING.parents[2]),
        **extra,
    }
    command = ["deliver", world.channel, f"--concurrency={world.channel}={concurrency}"]
    return subprocess.Popen(
        [sys.executable, str(program), *command, *options],
        stdout=output,
        stderr=output,
        text=True,
        env=environment(world.settings, **variables),
    )


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Return a process's status and what it said, when it has ended."""
    _, errors = process.communicate(timeout=_PATIENCE_SECONDS)
    return process.returncode, errors


def backlog(world: World, count: int, first: int = 0, recipient: str = "ann{}@example.com") -> None:
    """Put the messages of a campaign on the queue."""
    job = world.campaign(count)
    own = {"jobId": str(job), "contactId": str(world.contact())}
    world.add(
        *(world.message(f"d{n:04}", emailAddress=recipient.format(n), **own) for n in range(first, first + count))
    )


def age(world: World) -> None:
    """Let two minutes pass: locks, leases and waits are over, and what was stalled has been looked at once."""
    for key in world.ask("KEYS", f"{world.base}:*:lock"):
        world.ask("DEL", key.decode())
    world.ask("DEL", f"{world.base}:stalled-check")
    for job in world.jobs_in("active"):
        world.ask("SADD", f"{world.base}:stalled", job)
    world.write(
        "UPDATE mauntic_jobs.deliveries SET sending_at = sending_at - interval '3 minutes'"
        " WHERE state IN ('sending', 'ambiguous')"
    )
    world.hurry()


def deliver_all(world: World) -> None:
    """Deliver, and let time pass, until nothing is left to be done."""
    for _ in range(6):
        age(world)
        status, errors = ended(start(world, "--drain", "--drain-timeout=1s"))
        assert status in (ExitCode.DONE, ExitCode.TRY_LATER), errors
        if not any(world.jobs_in(name) for name in ("wait", "active", "delayed", "prioritized")):
            return
    raise AssertionError(f"jobs are left: {world.states()}")


def check(world: World, sink: Sink, created: int, *, kills: int = 0, unsent: int = 0) -> Counter[str]:
    """Check that no email was lost, and that the ledger names each that may have been sent twice."""
    received = Counter(message.message_id for message in sink.messages())
    return account(world, received, created, by="message_id", kills=kills, unsent=unsent)


def account(
    world: World,
    received: Counter[str],
    created: int,
    *,
    by: str,
    kills: int,
    concurrency: int = CONCURRENCY,
    unsent: int = 0,
) -> Counter[str]:
    """Hold the ledger against what was received, which the column `by` tells; return how many are in each state.

    A killed process may have doubled what was at a provider, and is uncertain of that and of what it had claimed.
    """
    rows = world.ledger()
    states = Counter(row["state"] for row in rows)
    assert created == sum(states[state] for state in _SETTLED), states
    assert all(world.jobs_in(name) == [] for name in ("wait", "active", "delayed", "prioritized"))
    by_id: dict[str, dict[str, Any]] = {row[by]: row for row in rows if row[by]}
    doubled = {by_id[name]["delivery_id"] for name, count in received.items() if count > 1}
    named = {row["delivery_id"] for row in rows if row["possible_duplicate"]}
    assert doubled <= named, doubled - named
    assert len(doubled) <= kills * concurrency
    lost = [row for row in rows if row["state"] == "sent" and not received[row[by]]]
    assert lost == []
    phantom = [row for row in rows if row["state"] in ("failed", "suppressed") and received[row[by]]]
    assert phantom == []
    assert states["sent"] >= created - unsent - states["ambiguous"]
    claimed = concurrency + CHANNELS[world.channel].ahead(concurrency)
    assert len(named) + states["ambiguous"] <= kills * claimed
    return states


def counted(world: World) -> tuple[int, int]:
    """Return how many messages the campaigns say were sent, and have failed."""
    (row,) = world.session.rows(
        b"SELECT sum(sent_count)::int AS sent, sum(failed_count)::int AS failed FROM delivery.delivery_jobs"
    )
    return row["sent"], row["failed"]
