"""Cost of verifying recorded figures beside that of rehearsing their rebuild, as processor time of the server.

Days of 100,000 events of 200 organizations: python bench/verify.py --rows 1M --rounds 3
"""

from statistics import median

from bench._common import arguments, database, machine, run_process, say
from bench._events import Events, load
from bench._results import store
from bench.coverage import server_cost
from mauntic_jobs.backfill.coverage import buckets
from mauntic_jobs.backfill.verify import Verification, verify
from mauntic_jobs.cli.framework.output import print_json
from mauntic_jobs.job import Context
from mauntic_jobs.jobs.registry import find_job
from mauntic_jobs.runner.request import Launcher, Request, silent
from mauntic_jobs.runner.run import run
from mauntic_jobs.settings.sources import load as load_settings
from mauntic_jobs.stores.postgres.session import connect

_JOBS = ("aggregate-hourly", "generate-daily-reports", "monthly-usage-summary")
_ROWS_A_DAY = 100_000
_DAYS = 400


def main() -> None:
    """Generate, record every bucket, measure, print."""
    given = arguments(__doc__)
    with database(given.database_url, keep=given.keep) as url:
        events = load(url, given.rows, _ROWS_A_DAY)
        figures = {name: _measure(url, events, name, given.rounds) for name in _JOBS}
        results = {
            "machine": machine(url),
            "data": events.described(),
            "jobs": figures,
            f"minutes for {_DAYS} days": round(sum(each["minutes"] for each in figures.values()), 2),
        }
    print_json(results)
    store(given.json, results)


def _measure(url: str, events: Events, name: str, rounds: int) -> dict[str, float]:
    settings, _ = load_settings({"database_url": url, "late_events_window": "0s"})
    job = find_job(name)
    wanted = buckets(job, events.window)
    now = wanted[-1].end
    for bucket in wanted:
        report = run(Request(job, bucket, bucket, job.options(), settings, Launcher.CLI, now))
        if report.error is not None:
            raise report.error
    ratios, seconds = [], []
    with connect(settings) as session:
        # Parallel workers are processes of their own, whose time is not counted here.
        session.execute_alone(b"SET max_parallel_workers_per_gather = 0")
        context = Context(session, job.options(), settings, now, dry_run=True, warn=silent)

        def verified() -> None:
            for found in verify(session, Verification(job, job.options(), settings), wanted):
                if found.wrong:
                    raise RuntimeError(f"{name}: {found}")

        def rehearsed() -> None:
            for bucket in wanted:
                with session.rehearsal():
                    job.run(context, bucket)

        for _ in range(rounds):
            seconds.append(server_cost(session, verified))
            ratios.append(seconds[-1] / server_cost(session, rehearsed))
    return {
        "verification over rehearsal": round(median(ratios), 2),
        "seconds": round(median(seconds), 2),
        "minutes": median(seconds) / 60 * _DAYS / len(events.days),
        **_memory(url, events, name),
    }


def _memory(url: str, events: Events, name: str) -> dict[str, float]:
    """Return the peak memory of the process for one day and for all of them, in MB."""

    def peak(days: int) -> float:
        start, end = events.days[0].start, events.days[days - 1].end
        # Its month is over.
        sample = run_process(["verify", name, "--from", f"{start:%Y-%m-%d}", "--to", f"{end:%Y-%m-%d}", "--json"], url)
        return round((sample.peak_rss or 0) / 1e6, 1)

    one, every = peak(1), peak(len(events.days))
    say(f"{name}: {one} MB for a day, {every} MB for {len(events.days)}")
    return {"MB for a day": one, "MB for all": every}


if __name__ == "__main__":
    main()
