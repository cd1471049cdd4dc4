"""Duration of the rebuild of a large day, and of a month, by two processes of Postgres beside one.

python -m bench.large_days --rows 10M
"""

import time
from typing import Any

from bench._common import Sample, arguments, database, machine, say, spread, summary
from bench._events import Events, load
from bench._processes import cpu_seconds, parent_of
from bench._results import store
from mauntic_jobs.backfill.coverage import buckets
from mauntic_jobs.cli.framework.output import print_json
from mauntic_jobs.job import AnyJob, Context
from mauntic_jobs.jobs import event_counts
from mauntic_jobs.jobs.registry import find_job
from mauntic_jobs.runner.request import silent
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.settings.sources import load as load_settings
from mauntic_jobs.stores.postgres.session import Limits, Session, connect

_JOBS = ("aggregate-hourly", "generate-daily-reports", "monthly-usage-summary")
_A_DAY = 5_000_000
# From how many events on there are halves.
_WAYS = {"one process": 10**12, "two halves": 0}


def main() -> None:
    """Generate, measure, print."""
    given = arguments(__doc__)
    with database(given.database_url, keep=given.keep) as url:
        events = load(url, given.rows, _A_DAY)
        settings, _ = load_settings({"database_url": url})
        with connect(settings) as session:
            ways = {name: _measure(session, settings, events, find_job(name), given.rounds) for name in _JOBS}
        results = {"machine": machine(url), "data": events.described(), "ways": ways}
    print_json(results)
    store(given.json, results)


def _measure(session: Session, settings: Settings, events: Events, job: AnyJob, rounds: int) -> dict[str, Any]:
    samples: dict[str, list[Sample]] = {name: [] for name in _WAYS}
    cpu: dict[str, list[float]] = {name: [] for name in _WAYS}
    for _ in range(rounds):
        for name, many in _WAYS.items():
            event_counts.MANY_EVENTS = many
            sample, seconds = _rehearse(session, settings, events, job)
            samples[name].append(sample)
            cpu[name].append(seconds)
            say(f"{job.name}, {name}: {sample.seconds:.2f} s, {seconds:.2f} s of the server's processors")
    one = samples["one process"]
    return {name: summary(each, one) | {"server_cpu_seconds": spread(cpu[name])} for name, each in samples.items()}


def _rehearse(session: Session, settings: Settings, events: Events, job: AnyJob) -> tuple[Sample, float]:
    """Rebuild the last bucket, roll it back, and return what it took by the clock and of the server's processors."""
    bucket = list(buckets(job, events.window))[-1]
    server = parent_of(session.wire.backend)
    context = Context(session, job.options(), settings, events.window.end, dry_run=True, warn=silent)
    limits = Limits(statement_timeout=settings.statement_timeout, work_mem=settings.work_mem)
    with session.rehearsal(limits):
        cpu, started = cpu_seconds(server, "postgres"), time.perf_counter()
        job.run(context, bucket)
        seconds = time.perf_counter() - started
        return Sample(seconds), cpu_seconds(server, "postgres") - cpu


if __name__ == "__main__":
    main()
