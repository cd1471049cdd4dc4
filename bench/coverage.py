"""Cost of judging a recorded day, beside that of rebuilding it: processor time of the server's process.

python bench/coverage.py --rows 2M
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

from bench._common import arguments, database, machine, say
from bench._events import Events, load
from bench._results import store
from mauntic_jobs.backfill.coverage import BucketState, buckets, judge
from mauntic_jobs.cli.framework.output import print_json
from mauntic_jobs.job import AnyJob, Context
from mauntic_jobs.jobs.registry import find_job
from mauntic_jobs.runner.request import Launcher, Request, silent
from mauntic_jobs.runner.run import run
from mauntic_jobs.settings.sources import load as load_settings
from mauntic_jobs.stores.postgres.session import Session, connect

_JOBS = ("aggregate-hourly", "generate-daily-reports", "monthly-usage-summary")


def main() -> None:
    """Generate, record the last day, measure, print."""
    given = arguments(__doc__)
    with database(given.database_url, keep=given.keep) as url:
        events = load(url, given.rows)
        ratios = {name: _measure(url, events, find_job(name), given.rounds) for name in _JOBS}
        results = {"machine": machine(url), "data": events.described(), "rebuild over judgement": ratios}
    print_json(results)
    store(given.json, results)


def _measure(url: str, events: Events, job: AnyJob, rounds: int) -> list[float]:
    settings, _ = load_settings({"database_url": url, "late_events_window": "0s"})
    (bucket,) = buckets(job, events.days[-1])
    now = bucket.end
    options = job.options()
    report = run(Request(job, bucket, bucket, options, settings, Launcher.CLI, now))
    if report.error is not None:
        raise report.error
    found = []
    with connect(settings) as session:
        # Parallel workers are processes of their own, whose time is not counted here.
        session.execute_alone(b"SET max_parallel_workers_per_gather = 0")
        context = Context(session, options, settings, now, dry_run=True, warn=silent)

        def judged() -> None:
            (coverage,) = judge(session, job, options, settings, now, [bucket])
            if coverage.state is not BucketState.DONE:
                raise RuntimeError(f"{job.name}: {coverage}")

        def rehearsed() -> None:
            with session.rehearsal():
                job.run(replace(context), bucket)

        for _ in range(rounds):
            cheap, dear = server_cost(session, judged), server_cost(session, rehearsed)
            found.append(round(dear / cheap, 2))
            say(f"{job.name}: {cheap:.2f} s and {dear:.2f} s")
    say(f"{job.name}: {median(found)}")
    return found


def server_cost(session: Session, work: Callable[[], None]) -> float:
    """Return the processor seconds of the session's server process for some work."""
    with _server_seconds(session) as seconds:
        work()
    return seconds()


@contextmanager
def _server_seconds(session: Session) -> Iterator[Callable[[], float]]:
    """Yield what returns the processor seconds that the session's server process has used since."""
    status = Path(f"/proc/{session.wire.backend}/stat")

    def read() -> float:
        fields = status.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before = read()
    yield lambda: read() - before


if __name__ == "__main__":
    main()
