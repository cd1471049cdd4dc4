"""Duration of a backfill by the number of its windows, with one and with two of them at a time.

python bench/backfill_windows.py --rows 2M
"""

from typing import Any

from bench._common import arguments, database, machine, say, spread
from bench._events import load
from bench._results import store
from bench.backfill import DAYS, ONE, TWO, backfill
from mauntic_jobs.cli.framework.output import print_json
from mauntic_jobs.timekeeping.window import Window

_WINDOWS = (1, 5, 10, DAYS)


def main() -> None:
    """Generate, measure in turn, print."""
    given = arguments(__doc__)
    with database(given.database_url, keep=given.keep) as url:
        events = load(url, given.rows, given.rows // DAYS)
        growth = []
        for count in _WINDOWS:
            window = Window(events.days[-count].start, events.window.end)
            taken: dict[str, list[float]] = {ONE: [], TWO: []}
            for _ in range(given.rounds):
                for way, parallel in ((ONE, 1), (TWO, 2)):
                    taken[way].append(backfill(url, window, parallel).seconds)
                    say(f"{count} windows, {way}: {taken[way][-1]:.1f} s")
            growth.append({"windows": count, "seconds": {way: spread(own) for way, own in taken.items()}})
        results: dict[str, Any] = {"machine": machine(url), "data": events.described(), "growth": growth}
    print_json(results)
    store(given.json, results)


if __name__ == "__main__":
    main()
