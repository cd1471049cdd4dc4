"""Duration of a backfill of 20 days, by a process for each day and by one command with one or two windows at a time.

python bench/backfill.py --rows 8M
"""

import subprocess
import sys
import time
from typing import Any

from bench._common import ROOT, Sample, arguments, database, machine, run_process, say, summary
from bench._events import Events, load
from bench._results import store
from mauntic_jobs.cli.framework.output import print_json
from mauntic_jobs.timekeeping.window import Window

_JOB = "aggregate-hourly"
DAYS = 20
ONE, TWO, _LOOP = "one window at a time", "two windows at a time", "a process for each day"


def main() -> None:
    """Generate, measure in turn, print."""
    given = arguments(__doc__)
    with database(given.database_url, keep=given.keep) as url:
        events = load(url, given.rows, given.rows // DAYS)
        samples: dict[str, list[Sample]] = {ONE: [], TWO: [], _LOOP: []}
        for _ in range(given.rounds):
            samples[ONE].append(backfill(url, events.window, 1))
            samples[TWO].append(backfill(url, events.window, 2))
            samples[_LOOP].append(_loop(url, events))
            say(", ".join(f"{name}: {taken[-1].seconds:.1f} s" for name, taken in samples.items()))
        results: dict[str, Any] = {
            "machine": machine(url),
            "data": events.described(),
            "ways": {name: summary(taken, samples[ONE]) for name, taken in samples.items()},
        }
    print_json(results)
    store(given.json, results)


def backfill(url: str, window: Window, parallel: int) -> Sample:
    """Rebuild the days of a window in a process of its own, with so many windows at a time."""
    words = ["backfill", "run", _JOB, f"--window={window}", "--reprocess=all", f"--parallel={parallel}", "--quiet"]
    return run_process(words, url)


def _loop(url: str, events: Events) -> Sample:
    """Run the job once for each day, as a loop of a shell does."""
    days = " ".join(f"{day.start:%Y-%m-%d}" for day in events.days)
    run = f'"{sys.executable}" -m mauntic_jobs {_JOB} --date "$day" --grace 0s --quiet'
    line = f"for day in {days}; do {run} || exit; done"
    started = time.perf_counter()
    subprocess.run(["/bin/sh", "-c", line], cwd=ROOT, env={"DATABASE_URL": url, "PATH": "/usr/bin:/bin"}, check=True)
    return Sample(time.perf_counter() - started)


if __name__ == "__main__":
    main()
