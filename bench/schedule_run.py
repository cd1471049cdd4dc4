"""Cost of a start: of `schedule run` with nothing due, as cron calls it every minute, and of --version and --help.

With `watch_every` of an hour. `--quiet` finds the stamp of an earlier call, and asks nothing.

python bench/schedule_run.py
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from bench._common import ROOT, database, environment_with, machine
from bench._results import store
from mauntic_jobs.cli.framework.output import print_table
from mauntic_jobs.migrations.platform import create_platform
from mauntic_jobs.migrations.upgrade import upgrade
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect

_BASE = "Python, Typer and psycopg imported"
_IDLE = "schedule run --quiet"
_WAYS = {
    _IDLE: ("-m", "mauntic_jobs", "schedule", "run", "--quiet"),
    "schedule run": ("-m", "mauntic_jobs", "schedule", "run"),
    "mauntic-jobs --version": ("-m", "mauntic_jobs", "--version"),
    "mauntic-jobs --help": ("-m", "mauntic_jobs", "--help"),
    _BASE: ("-c", "import typer, psycopg"),
    "the same, and a model of pydantic": (
        "-c",
        "import typer, psycopg, pydantic; pydantic.create_model('M', x=(int, 1))",
    ),
    "Python, psycopg, one query": (
        "-c",
        "import os, psycopg; psycopg.connect(os.environ['DATABASE_URL']).execute('SELECT 1')",
    ),
    "Python alone": ("-c", "pass"),
}


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11, help="rounds of each measurement (default: 11)")
    parser.add_argument("--database-url", default=os.environ.get("DATABASE_URL"), help="the server to make one on")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    given = parser.parse_args()
    with TemporaryDirectory() as directory, database(given.database_url, keep=False) as url:
        settings = Settings(database_url=url)
        with connect(settings) as session:
            create_platform(session)
        upgrade(settings, lambda _: None)
        # The first sees the jobs for the first time, the next one leaves the stamp.
        for _ in range(2):
            _measure(url, _IDLE, directory)
        if not list(Path(directory).rglob("schedule-run-*")):
            raise SystemExit("there is no stamp: a slot strikes within the minute")
        found: dict[str, list[tuple[float, float]]] = {way: [] for way in _WAYS}
        for _ in range(given.rounds):
            for way in _WAYS:
                found[way].append(_measure(url, way, directory))
        facts = machine(url)
    lines = [
        {
            "way": way,
            "ratio": f"{_ratio(samples, found[_BASE]):.2f}",
            "cpu_seconds": f"{statistics.median(cpu for cpu, _ in samples):.3f}",
            "seconds": f"{statistics.median(wall for _, wall in samples):.3f}",
        }
        for way, samples in found.items()
    ]
    print_table(lines)
    store(given.json, {"machine": facts, "ways": found})


def _ratio(samples: list[tuple[float, float]], base: list[tuple[float, float]]) -> float:
    return statistics.median(own / other for (own, _), (other, _) in zip(samples, base, strict=True))


def _measure(url: str, way: str, directory: str) -> tuple[float, float]:
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, *_WAYS[way]]
    own = environment_with(DATABASE_URL=url, MAUNTIC_WATCH_EVERY="1h", TMPDIR=directory)
    subprocess.run(command, cwd=ROOT, env=own, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.perf_counter() - started


if __name__ == "__main__":
    main()
