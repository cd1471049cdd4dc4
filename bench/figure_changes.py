"""Measure what it costs Postgres in CPU to note the changes of rollups, by how many events a changed group has.

Runs of `aggregate-hourly` rebuild a day, with and without the notes in turn, when all of its groups are new and when
all of them change. The CPU is that of all processes of the server, from the connection to its end; sums are compared,
since one run is too short for the clock of the kernel. python -m bench.figure_changes
"""

import argparse
import json
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

from bench._common import connect, machine, say, statements
from bench._processes import cpu_seconds
from bench._results import store
from mauntic_jobs.embedded.servers import Servers, throwaway
from mauntic_jobs.jobs import aggregate_hourly
from mauntic_jobs.jobs.aggregate_hourly import AGGREGATE_HOURLY
from mauntic_jobs.migrations.platform import create_platform
from mauntic_jobs.migrations.upgrade import upgrade
from mauntic_jobs.runner.request import Launcher, Request
from mauntic_jobs.runner.run import run
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements as product
from mauntic_jobs.stores.postgres import session as postgres
from mauntic_jobs.timekeeping.window import parse_date, parse_instant

_SERVER = {"shared_buffers": "512MB", "max_wal_size": "8GB", "checkpoint_timeout": "30min", "autovacuum": "off"}
_DAY = parse_date("2025-06-01", parse_instant("2025-06-10"))
_STATES = {"new": "forget", "changed": "lower"}


def main() -> None:
    """Measure, and print what came out."""
    given = _arguments()
    results: list[dict[str, Any]] = []
    for each in given.events_a_group:
        with throwaway(postgres_settings=_SERVER) as servers:
            settings = Settings(database_url=servers.database_url)
            _fill(settings, servers.database_url, given.groups, each)
            for state in _STATES:
                measured = _measured(servers, settings, state, given.rounds)
                results.append({"groups": given.groups, "events_a_group": each, "state": state, **measured})
                print(json.dumps(results[-1]), flush=True)
            about = machine(servers.database_url)
    store(given.json, {"machine": about, "results": results})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=2000, help="groups that change (default: 2000)")
    parser.add_argument("--events-a-group", type=int, nargs="+", default=[1, 5, 25], help="(default: 1 5 25)")
    parser.add_argument("--rounds", type=int, default=20, help="runs of each way (default: 20)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    return parser.parse_args()


def _fill(settings: Settings, url: str, groups: int, each: int) -> None:
    with postgres.connect(settings) as session:
        create_platform(session)
    upgrade(settings, lambda _: None)
    with connect(url) as connection:
        connection.execute(statements("figure_changes")["events"], {"groups": groups, "events": groups * each})
        connection.execute("VACUUM ANALYZE analytics.contact_activity")


def _measured(servers: Servers, settings: Settings, state: str, rounds: int) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {"without": [], "with": []}
    unnoted = {**product("event_aggregates"), "replace": statements("figure_changes")["unnoted"]}
    _rebuild(settings)
    for number in range(2 * rounds):
        way = ("without", "with")[(number + number // 2) % 2]
        with connect(servers.database_url) as connection:
            connection.execute(statements("figure_changes")[_STATES[state]])
        before = _server_cpu(servers)
        with patch.object(aggregate_hourly, "_sql", unnoted) if way == "without" else nullcontext():
            _rebuild(settings)
        seconds[way].append(_server_cpu(servers) - before)
    with connect(servers.database_url) as connection:
        notes: Any = connection.execute(statements("figure_changes")["notes"]).fetchone()
    total = {way: sum(each) for way, each in seconds.items()}
    say(f"{state}: {total}")
    return {
        "milliseconds_without": round(total["without"] / rounds * 1000, 1),
        "milliseconds_with": round(total["with"] / rounds * 1000, 1),
        "ratio": round(total["with"] / total["without"], 3),
        "bytes_a_group": round(notes["bytes"] / notes["groups"], 1),
    }


def _rebuild(settings: Settings) -> None:
    options = AGGREGATE_HOURLY.options(allow_shrink=True)
    report = run(Request(AGGREGATE_HOURLY, _DAY, _DAY, options, settings, Launcher.CLI, _DAY.end))
    if report.error is not None:
        raise report.error


def _server_cpu(servers: Servers) -> float:
    """Return the server's CPU seconds so far, once the processes of closed connections are among its ended children."""
    time.sleep(0.15)
    return cpu_seconds(servers.pid, "postgres")


if __name__ == "__main__":
    main()
