"""Commands that look at the delivery ledger and at the runs, as whole processes, on a large ledger."""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

from bench._common import ROOT, connect, environment_with, machine, say, spread, statements
from bench._results import store
from mauntic_jobs.embedded.servers import Servers, throwaway
from mauntic_jobs.migrations.platform import create_platform
from mauntic_jobs.migrations.upgrade import upgrade
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres import session as postgres

_SETTINGS = {"shared_buffers": "512MB", "max_wal_size": "8GB", "checkpoint_timeout": "30min"}
_SMALL, _LARGE = str(UUID(int=7)), str(UUID(int=0))
_COMMANDS = (
    "deliveries list",
    "deliveries list --state failed",
    "deliveries list --state sent",
    f"deliveries list --organization {_SMALL}",
    f"deliveries list --organization {_LARGE}",
    "deliveries list --count",
    "deliveries reconcile",
    "dlq list",
    "status",
    "monitor run --once",
    "--version",
)


def main() -> None:
    """Measure, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000, help="deliveries in the ledger (default: 2000000)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each command (default: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    given = parser.parse_args()
    with throwaway(postgres_settings=_SETTINGS) as servers:
        _fill(servers.database_url, given.rows)
        figures: dict[str, Any] = {"machine": machine(servers.database_url), "rows": given.rows, "seconds": {}}
        for command in _COMMANDS:
            seconds = spread([_seconds(servers, command.split()) for _ in range(given.rounds)])
            figures["seconds"][command] = seconds
            print(f"{command}: {seconds['median']:.2f} s ({seconds['min']:.2f}-{seconds['max']:.2f})", flush=True)
    store(given.json, figures)


def _fill(url: str, rows: int) -> None:
    settings, own = Settings(database_url=url), statements("at_size")
    with postgres.connect(settings) as session:
        create_platform(session)
    upgrade(settings, lambda _: None)
    with connect(url) as connection:
        for name in ("deliveries", "campaigns", "runs"):
            say(f"fills {name}")
            connection.execute(own[name], {"rows": rows})
        connection.execute("VACUUM ANALYZE")


def _seconds(servers: Servers, command: list[str]) -> float:
    before = os.times()
    subprocess.run(
        [sys.executable, "-m", "mauntic_jobs", *command],
        cwd=ROOT,
        env=environment_with(DATABASE_URL=servers.database_url, REDIS_URL=servers.redis_url),
        capture_output=True,
        check=False,  # an exit code tells what there is to be done
    )
    return os.times().elapsed - before.elapsed


if __name__ == "__main__":
    main()
