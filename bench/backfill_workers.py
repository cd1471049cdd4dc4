"""Windows of a backfill by one, two and three `work` processes, and the memory of a backfill of few and many windows.

Each window waits in Postgres for `--wait` seconds, as for a disk: so the processors do not decide it, of which a small
machine has fewer than processes. Seconds are those from the start of the first window to the end of the last, by the
ledger.

python bench/backfill_workers.py --windows 24 --wait 5
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench._common import ROOT, connect, environment_with, machine, run_process, say, spread
from bench._results import store
from mauntic_jobs.cli.framework.output import print_json
from mauntic_jobs.embedded.servers import Servers, throwaway
from mauntic_jobs.migrations.platform import create_platform
from mauntic_jobs.migrations.upgrade import upgrade
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect as open_store
from mauntic_jobs.timekeeping.window import Window

_JOB, _QUEUE = "aggregate-hourly", "analytics:aggregate-hourly"
_FIRST_DAY = datetime(2023, 1, 1, tzinfo=UTC)
_PROCESSES = (1, 2, 3)
_FEW, _MANY = 10, 1_000
_EVENTS = """
INSERT INTO analytics.contact_activity (organization_id, contact_id, event_type, created_at)
SELECT gen_random_uuid(), gen_random_uuid(), 'email_opened', %(first)s + number * interval '1 day'
FROM generate_series(0, %(windows)s - 1) AS number
"""
_SLOW = """
CREATE OR REPLACE FUNCTION wait_for_a_disk() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN PERFORM pg_sleep({}); RETURN NULL; END $$;
CREATE TRIGGER wait_for_a_disk BEFORE INSERT ON analytics.event_aggregates
FOR EACH STATEMENT EXECUTE FUNCTION wait_for_a_disk();
"""
_TOOK = """
SELECT extract(epoch FROM max(finished_at) - min(started_at))::float8 AS seconds, count(*) AS windows
FROM mauntic_jobs.runs WHERE backfill_id = (SELECT max(id) FROM mauntic_jobs.backfills) AND status = 'succeeded'
"""
_OPEN = "SELECT count(*) AS backfills FROM mauntic_jobs.backfills WHERE ended_at IS NULL"


def main() -> None:
    """Generate, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=24, help="for each measurement (default: 24)")
    parser.add_argument("--wait", type=float, default=5.0, help="seconds that a window waits (default: 5)")
    parser.add_argument("--rounds", type=int, default=1, help="rounds of each measurement (default: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    given = parser.parse_args()
    with throwaway() as servers:
        settings = Settings(database_url=servers.database_url, redis_url=servers.redis_url)
        with open_store(settings) as session:
            create_platform(session)
        upgrade(settings, lambda _: None)
        _execute(servers, _EVENTS, {"first": _FIRST_DAY.replace(tzinfo=None), "windows": _MANY})
        figures: dict[str, Any] = {"machine": machine(servers.database_url), "windows": given.windows}
        figures["memory_mb"] = {windows: _memory(servers, windows) for windows in (_FEW, _MANY)}
        say(f"memory in MB, by windows: {figures['memory_mb']}")
        _execute(servers, _SLOW.format(given.wait))
        taken: dict[int, list[float]] = {count: [] for count in _PROCESSES}
        for _ in range(given.rounds):
            for count, seconds in taken.items():
                seconds.append(_by_workers(servers, count, given.windows))
                say(f"{count} processes: {seconds[-1]:.1f} s")
        figures |= {"wait": given.wait, "processes": {count: _summary(own, taken[1]) for count, own in taken.items()}}
    print_json(figures)
    store(given.json, figures)


def _summary(seconds: list[float], alone: list[float]) -> dict[str, Any]:
    times = [other / own for own, other in zip(seconds, alone, strict=True)]
    return {"seconds": spread(seconds), "times_as_fast": spread(times)}


def _memory(servers: Servers, windows: int) -> float:
    """Return the peak memory in MB of a backfill of so many windows, each with one event."""
    words = ["backfill", "run", _JOB, f"--window={_range(windows)}", "--reprocess=all", "--quiet"]
    return round((run_process(words, servers.database_url).peak_rss or 0) / 1e6, 1)


def _by_workers(servers: Servers, count: int, windows: int) -> float:
    """Return the seconds that so many processes take for the windows."""
    _execute(servers, "DELETE FROM analytics.event_aggregates")
    words = ["run", _JOB, f"--window={_range(windows)}", "--reprocess=all", "--enqueue", f"--parallel={count}"]
    subprocess.run(_command("backfill", *words), cwd=ROOT, env=_environment(servers), check=True, capture_output=True)
    with _workers(servers, count):
        while _row(servers, _OPEN)["backfills"]:
            time.sleep(0.1)
    took = _row(servers, _TOOK)
    if took["windows"] != windows:
        raise RuntimeError(f"{took['windows']} of {windows} windows succeeded")
    seconds: float = took["seconds"]
    return seconds


@contextmanager
def _workers(servers: Servers, count: int) -> Iterator[None]:
    command, environment = _command("work", _QUEUE), _environment(servers)
    started = [
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(count)
    ]
    try:
        yield
    finally:
        for process in started:
            process.terminate()
            process.wait()


def _range(windows: int) -> Window:
    return Window(_FIRST_DAY, _FIRST_DAY + timedelta(days=windows))


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "mauntic_jobs", *words]


def _environment(servers: Servers) -> dict[str, str]:
    return environment_with(DATABASE_URL=servers.database_url, REDIS_URL=servers.redis_url)


def _execute(servers: Servers, statement: str, values: dict[str, Any] | None = None) -> None:
    with connect(servers.database_url) as connection:
        connection.execute(statement.encode(), values)


def _row(servers: Servers, statement: str) -> dict[str, Any]:
    with connect(servers.database_url) as connection:
        (row,) = connection.execute(statement.encode())
    return row


if __name__ == "__main__":
    main()
