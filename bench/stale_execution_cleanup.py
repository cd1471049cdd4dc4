"""How fast `stale-execution-cleanup` is, against one execution at a time, and how long executors wait for it.

python bench/stale_execution_cleanup.py --executions 5000000
"""

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from threading import Event, Thread
from typing import Any

from bench._common import Sample, connect, database, machine, say, spread, statements
from bench._results import store
from mauntic_jobs.cli.framework.output import print_line, print_table
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.jobs.stale_execution_cleanup import STALE_EXECUTION_CLEANUP
from mauntic_jobs.migrations.platform import create_platform
from mauntic_jobs.migrations.upgrade import upgrade
from mauntic_jobs.runner.request import Launcher, Request
from mauntic_jobs.runner.run import run
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect as open_session
from mauntic_jobs.timekeeping.window import Unit, Window, naive

_NOW = datetime(2026, 11, 1, 3, tzinfo=UTC)
_CUTOFF = naive(_NOW - timedelta(days=7))
_UNITS = {"minutes": timedelta(minutes=1), "hours": timedelta(hours=1), "days": timedelta(days=1)}

_sql = statements("stale_execution_cleanup")


def main() -> None:
    """Generate, measure, print."""
    given = _arguments()
    with database(given.database_url, keep=False) as url:
        facts = _load(url, given.executions)
        results: dict[str, Any] = {"machine": machine(url), "data": facts, "rounds": []}
        with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as processes:
            for number in range(given.rounds):
                figures = _round(url, given, facts, processes)
                results["rounds"].append(figures)
                say(f"round {number + 1} of {given.rounds}: {json.dumps(figures)}")
    _print(results)
    store(given.json, results)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--executions", type=int, default=500_000, help="of which 2 %% are stale and 10 %% active (default: 500000)"
    )
    parser.add_argument("--sample", type=int, default=2_000, help="executions for the naive way (default: 2000)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each measurement (default: 3)")
    parser.add_argument(
        "--database-url",
        default=os.environ.get("DATABASE_URL"),
        help="the server to make a database on; environment: DATABASE_URL. Without one a server is started",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    return parser.parse_args()


def _load(url: str, executions: int) -> dict[str, Any]:
    with open_session(Settings(database_url=url)) as session:
        create_platform(session)
    parameters = {"executions": executions, "now": naive(_NOW)}
    generate = ("journeys", "unindexed_executions", "unindexed_steps", "executions", "steps")
    with connect(url) as connection:
        for name in (*generate, "indexed_executions", "indexed_steps"):
            say(f"generating: {name}")
            connection.execute(_sql[name], parameters)
        upgrade(Settings(database_url=url), say)
        connection.execute(_sql["settled"])
        (facts,) = connection.execute(_sql["sizes"])
    return facts


def _round(
    url: str, given: argparse.Namespace, facts: dict[str, Any], processes: ProcessPoolExecutor
) -> dict[str, Any]:
    """Measure the naive way, an executor alone, and the job with executors beside it."""
    naive_way = processes.submit(_one_by_one, url, given.sample).result()
    with connect(url) as connection:
        lively = [row["id"] for row in connection.execute(_sql["lively"], {"executions": given.executions})]
        oldest = [row["id"] for row in connection.execute(_sql["oldest"])]
    with _executor(url, "touch", lively) as alone:
        time.sleep(2)
    with _executor(url, "touch", lively) as beside, _executor(url, "reach", oldest) as locked:
        job = processes.submit(_job, url).result()
    canceled = _undo(url)
    naive_seconds = naive_way["select"] + naive_way["loop"] * facts["active"] / given.sample
    return {
        "job": {"seconds": job.seconds, "peak_rss_mb": (job.peak_rss or 0) / 1e6, "canceled": canceled},
        "naive": naive_way | {"seconds": naive_seconds},
        "ratio": naive_seconds / job.seconds,
        "active_per_second": facts["active"] / job.seconds,
        "longest_wait_alone": max(alone),
        "longest_wait_beside": max(beside),
        "canceled_rows_locked_for": max(locked),
    }


def _job(url: str) -> Sample:
    """Make the run: connect, claim, judge, cancel, record."""
    settings = Settings(database_url=url)
    window = Window.before(_NOW, Unit.DAY)
    request = Request(
        job=STALE_EXECUTION_CLEANUP,
        window=window,
        coverage=window,
        options=STALE_EXECUTION_CLEANUP.options(),
        settings=settings,
        launcher=Launcher.CLI,
        now=_NOW,
    )
    started = time.perf_counter()
    report = run(request)
    seconds = time.perf_counter() - started
    if report.exit_code is not ExitCode.DONE:
        raise RuntimeError(f"the run ended as {report.status}: {report.error}")
    return Sample(seconds, peak_rss=_peak_rss())


def _one_by_one(url: str, sample: int) -> dict[str, float]:
    """Select all that is active, then judge and cancel a sample one by one, in one transaction that is rolled back.

    Ids are hashes, so that the first of them are a fair sample.
    """
    with connect(url) as connection, connection.transaction(force_rollback=True):
        started = time.perf_counter()
        active = connection.execute(_sql["naive_active"]).fetchall()
        selected = time.perf_counter()
        canceled = 0
        for execution in active[:sample]:
            execution["now"] = naive(_NOW)
            steps = connection.execute(_sql["naive_steps"], execution).fetchall()
            delay = connection.execute(_sql["naive_delay"], execution).fetchone()
            if _is_stale(execution, steps, delay and delay["config"]):
                connection.execute(_sql["naive_cancel"], execution)
                connection.execute(_sql["naive_log"], execution)
                canceled += 1
        ended = time.perf_counter()
    return {
        "select": selected - started,
        "loop": ended - selected,
        "canceled": canceled,
        "peak_rss_mb": _peak_rss() / 1e6,
    }


def _is_stale(execution: dict[str, Any], steps: list[dict[str, Any]], delay: dict[str, Any] | None) -> bool:
    latest = max(at for step in steps for at in (step["started_at"], step["completed_at"]) if at)
    if max(latest, execution["started_at"]) >= _CUTOFF:
        return False
    if delay is None or not isinstance(delay["duration"], int):
        return True
    entered = max(
        (step["started_at"] for step in steps if step["step_id"] == execution["current_step_id"]), default=latest
    )
    return bool(entered + delay["duration"] * _UNITS[delay["unit"]] <= naive(_NOW))


def _undo(url: str) -> int:
    """Check what was canceled, undo it, and return how many executions it was."""
    with connect(url) as connection:
        (outcome,) = connection.execute(_sql["outcome"])
        for name in ("reactivate", "forget_logs", "settled"):
            connection.execute(_sql[name])
    if outcome["canceled"] != outcome["logged"]:
        raise RuntimeError(f"{outcome['canceled']} executions were canceled, but {outcome['logged']} logged")
    return int(outcome["canceled"])


@contextmanager
def _executor(url: str, statement: str, ids: list[Any]) -> Iterator[list[float]]:
    """Execute a statement for one id after the other meanwhile; yield the seconds that each took."""
    waits: list[float] = []
    over = Event()

    def work() -> None:
        with connect(url) as connection:
            while not over.wait(0.005):
                started = time.perf_counter()
                connection.execute(_sql[statement], {"id": ids[len(waits) % len(ids)]})
                waits.append(time.perf_counter() - started)

    thread = Thread(target=work)
    thread.start()
    try:
        yield waits
    finally:
        over.set()
        thread.join()


def _peak_rss() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _print(results: dict[str, Any]) -> None:
    about, data, rounds = results["machine"], results["data"], results["rounds"]
    print_line(
        f"{about['cores']} cores, {about['memory_gb']} GB, Python {about['python']}, Postgres {about['postgres']}, "
        f"shared_buffers {about['settings']['shared_buffers']}; {data['executions']:,} executions, "
        f"{data['active']:,} of them active, with {data['steps']:,} steps; "
        f"{data['executions_bytes'] / 1e6:,.0f} and {data['steps_bytes'] / 1e6:,.0f} MB"
    )
    figures: dict[str, Callable[[dict[str, Any]], float]] = {
        "job, seconds": lambda one: one["job"]["seconds"],
        "job, canceled": lambda one: one["job"]["canceled"],
        "job, active executions judged a second": lambda one: one["active_per_second"],
        "job, peak RSS, MB": lambda one: one["job"]["peak_rss_mb"],
        "one by one, seconds, extrapolated from a sample": lambda one: one["naive"]["seconds"],
        "one by one, peak RSS, MB": lambda one: one["naive"]["peak_rss_mb"],
        "one by one / job": lambda one: one["ratio"],
        "longest wait of an executor, nobody beside it, ms": lambda one: one["longest_wait_alone"] * 1e3,
        "longest wait of an executor, the job beside it, ms": lambda one: one["longest_wait_beside"] * 1e3,
        "a canceled row stays locked for, seconds": lambda one: one["canceled_rows_locked_for"],
    }
    print_table({"figure": name} | _texts(spread([of(one) for one in rounds])) for name, of in figures.items())


def _texts(figures: dict[str, float]) -> dict[str, str]:
    return {name: f"{value:,.1f}" for name, value in figures.items()}


if __name__ == "__main__":
    main()
