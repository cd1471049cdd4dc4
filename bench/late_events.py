"""What the look for late events costs the daily report: a week of events that are all recorded, then one late event.

python bench/late_events.py --rows 9M
"""

import time
from dataclasses import replace
from datetime import datetime, timedelta

from bench._common import arguments, connect, database, machine, say
from bench._events import Events, load
from bench._results import store
from mauntic_jobs.cli.framework.output import print_json
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.jobs.registry import find_job
from mauntic_jobs.runner.request import Launcher, Report
from mauntic_jobs.runner.run import run
from mauntic_jobs.runner.slot_request import slot_request
from mauntic_jobs.settings.sources import load as load_settings
from mauntic_jobs.timekeeping.window import naive

_REPORT, _ROLLUP = "generate-daily-reports", "aggregate-hourly"
_LATE = (
    "INSERT INTO analytics.contact_activity (organization_id, contact_id, event_type, event_source, created_at)"
    " SELECT organization_id, contact_id, event_type, event_source, created_at FROM analytics.contact_activity"
    " WHERE created_at >= %(start)s AND created_at < %(end)s LIMIT 1"
)


def main() -> None:
    """Generate, record every day, measure, print."""
    given = arguments(__doc__)
    with database(given.database_url, keep=given.keep) as url:
        events = load(url, given.rows)
        for day in events.days:
            _slot(url, _ROLLUP, day.end + timedelta(hours=2) - timedelta(days=1), "0s")
            _slot(url, _ROLLUP, day.end + timedelta(hours=1), "0s")
            _slot(url, _REPORT, day.end + timedelta(hours=2), "0s")
        results = {"machine": machine(url), "data": events.described(), "seconds": _measure(url, events, given.rounds)}
    print_json(results)
    store(given.json, results)


def _measure(url: str, events: Events, rounds: int) -> dict[str, list[float]]:
    slot, week = events.days[-1].end + timedelta(hours=2), "7d"
    seconds: dict[str, list[float]] = {"without the look": [], "with the look": [], "one late event": []}
    for _ in range(rounds):
        seconds["without the look"].append(_slot(url, _REPORT, slot, "0s").seconds)
        seconds["with the look"].append(_slot(url, _REPORT, slot, week).seconds)
        with connect(url) as connection:
            # Not the day that the report is about.
            day = events.days[-min(3, len(events.days))]
            connection.execute(_LATE, {"start": naive(day.start), "end": naive(day.end)})
        late = _slot(url, _REPORT, slot, week)
        if late.counters["late_events"] != 1:
            raise RuntimeError(f"the late event was not found: {late.counters}")
        seconds["one late event"].append(late.seconds)
        say(f"{ {name: [round(each, 1) for each in found] for name, found in seconds.items()} }")
    return seconds


def _slot(url: str, job: str, slot: datetime, window: str) -> Report:
    settings, _ = load_settings({"database_url": url, "late_events_window": window})
    started = time.perf_counter()
    # Not claimed, so that the same slot can be measured again.
    report = run(replace(slot_request(find_job(job), slot, settings, Launcher.CLI, slot), claim_slot=False))
    if report.exit_code is not ExitCode.DONE:
        raise RuntimeError(f"{job} {slot}: {report}")
    say(f"{job} {slot}: {time.perf_counter() - started:.1f} s")
    return report


if __name__ == "__main__":
    main()
