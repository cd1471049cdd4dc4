"""Duration of DuckDB's count of a day that was exported to Parquet, beside that of Postgres.

python bench/parquet_days.py --rows 5M
"""

import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from bench._common import ROOT, Sample, arguments, connect, database, machine, say, summary
from bench._events import Events, load
from bench._results import store
from bench.peers import _systems as peers
from mauntic_jobs.cli.framework.output import print_json
from mauntic_jobs.jobs import event_counts
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.settings.sources import load as load_settings
from mauntic_jobs.stores.postgres.session import Limits, connect as open_store
from mauntic_jobs.timekeeping.window import naive

_A_DAY = 5_000_000
_CSV = """
COPY (
    SELECT organization_id, contact_id, event_type, created_at FROM analytics.contact_activity
    WHERE created_at >= '{start}' AND created_at < '{end}'
) TO STDOUT (FORMAT csv)
"""
_ONE, _HALVES, _DUCKDB = "Postgres, one process", "Postgres, two halves", "DuckDB, from Parquet"


def main() -> None:
    """Generate, export, measure in turn, print."""
    given = arguments(__doc__)
    peers.install()
    with database(given.database_url, keep=given.keep) as url, tempfile.TemporaryDirectory() as place:
        events = load(url, given.rows, _A_DAY)
        settings, _ = load_settings({"database_url": url})
        parquet = Path(place, "day.parquet")
        export = _export(url, events, parquet)
        samples: dict[str, list[Sample]] = {_ONE: [], _HALVES: [], _DUCKDB: []}
        for _ in range(given.rounds):
            samples[_ONE].append(_counted(settings, events, 10**12))
            samples[_HALVES].append(_counted(settings, events, 0))
            found = _ask("count", parquet)
            if found["events"] != events.rows_a_day:
                raise RuntimeError(f"DuckDB counted {found['events']:,} events")
            samples[_DUCKDB].append(Sample(found["seconds"]))
            say(", ".join(f"{name}: {taken[-1].seconds:.2f} s" for name, taken in samples.items()))
        results: dict[str, Any] = {
            "machine": machine(url),
            "data": events.described(),
            "duckdb": found["version"],
            "export": export,
            "ways": {name: summary(taken, samples[_ONE]) for name, taken in samples.items()},
        }
    print_json(results)
    store(given.json, results)


def _export(url: str, events: Events, parquet: Path) -> dict[str, float]:
    """Write the last day's events as Parquet; return how long each step took, and the sizes."""
    text = parquet.with_suffix(".csv")
    day = events.days[-1]
    query = _CSV.format(start=naive(day.start), end=naive(day.end)).encode()
    started = time.perf_counter()
    with connect(url) as connection, connection.cursor().copy(query) as copy, text.open("wb") as file:
        for chunk in copy:
            file.write(chunk)
    copied = time.perf_counter() - started
    written = _ask("export", text, parquet)["seconds"]
    size = parquet.stat().st_size
    text.unlink()
    share = events.facts["table_bytes"] * events.rows_a_day / events.rows
    return {"seconds from Postgres": copied, "seconds to Parquet": written, "bytes": size, "bytes in Postgres": share}


def _counted(settings: Settings, events: Events, many: int) -> Sample:
    """Count the last day as the job does, in halves from so `many` events on."""
    day = events.days[-1]
    asked = {"start": naive(day.start), "end": naive(day.end), "date": day.start.date()}
    event_counts.MANY_EVENTS = many
    limits = Limits(statement_timeout=settings.statement_timeout, work_mem=settings.work_mem)
    with open_store(settings) as session, session.rehearsal(limits):
        started = time.perf_counter()
        everything = {"organizations": None, "share": None, "seed": None}
        event_counts.count_events(session, event_counts.COUNT, asked | everything)
        return Sample(time.perf_counter() - started)


def _ask(*words: str | Path) -> dict[str, Any]:
    command = [str(peers.python("peers")), str(ROOT / "bench" / "_count_parquet.py"), *map(str, words)]
    found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


if __name__ == "__main__":
    main()
