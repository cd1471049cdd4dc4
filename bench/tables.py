"""Tables of docs/performance.md and docs/scaling.md, written from the stored results in bench/results.

The pages mark each place with `<!-- result: NAME -->`, for the command and the machine, or `<!-- table: NAME -->`.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable
from typing import Any

from bench import _delivery_tables as delivery, _job_tables as jobs
from bench._common import ROOT
from bench._results import RESULTS
from bench._scaling_table import SOURCES, scaling

PAGES = [ROOT / "docs" / f"{name}.md" for name in ("performance", "scaling")]
_BLOCK = re.compile(r"<!-- (result|table): (\w+) -->\n.*?<!-- end -->", re.DOTALL)
# By the name of a table: the stored results, and the function that makes rows of them.
TABLES: dict[str, tuple[str, Callable[..., list[jobs.Row]]]] = {
    "hourly": ("aggregate_hourly", jobs.hourly),
    "hourly_memory": ("aggregate_hourly", jobs.hourly_memory),
    "hourly_index": ("aggregate_hourly", jobs.hourly_index),
    "backfill": ("aggregate_hourly", jobs.backfill),
    "daily": ("generate_daily_reports", jobs.statement_ways),
    "monthly": ("monthly_usage_summary", jobs.statement_ways),
    "monthly_index": ("monthly_index", jobs.monthly_index),
    "large_days": ("large_days", jobs.large_days),
    "backfill_ways": ("backfill_small backfill backfill_large", jobs.backfill_ways),
    "backfill_workers": ("backfill_workers", jobs.backfill_workers),
    "backfill_memory": ("backfill_workers", jobs.backfill_memory),
    "parquet_days": ("parquet_days", jobs.parquet_days),
    "parquet_export": ("parquet_days", jobs.parquet_export),
    "late_events": ("late_events", jobs.late_events),
    "coverage": ("coverage", jobs.coverage),
    "verify": ("verify", jobs.verify),
    "figure_changes": ("figure_changes", jobs.figure_changes),
    "segments": ("segment_trigger_eval", jobs.segments),
    "warm_up": ("warmup_daily_reset", jobs.warm_up),
    "stale": ("stale_execution_cleanup", jobs.stale),
    "start_up": ("schedule_run", jobs.start_up),
    "rates": ("deliver", delivery.rates),
    "cpu": ("deliver", delivery.cpu),
    "relay": ("deliver_relay", delivery.relay),
    "memory": ("deliver_memory", delivery.memory),
    "idle_memory": ("idle_memory", delivery.idle_memory),
    "idle": ("idle_delivery", delivery.idle),
    "ledger": ("ledger", delivery.ledger),
    "providers": ("providers", delivery.providers),
    "governed": ("governed", delivery.governed),
    "small_beside_large": ("governed", delivery.small_beside_large),
    "turns": ("turns", delivery.turns),
    "fairness": ("fairness", delivery.fairness),
    "scaling": (" ".join(SOURCES), scaling),
    "peers_no_op": ("peers", delivery.peers_no_op),
    "peers_smtp": ("peers", delivery.peers_smtp),
    "peers_ahead": ("peers", delivery.peers_ahead),
    "peer_settings": ("peers", delivery.peer_settings),
    "claims": ("claims", delivery.claims),
    "peer_kills": ("peer_kills", delivery.peer_kills),
}


def main() -> None:
    """Write the tables into the pages, or with --check only say whether they are what the results say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is out of date")
    given = parser.parse_args()
    for page in PAGES:
        text = page.read_text("utf-8")
        current = rendered(text)
        if not given.check:
            page.write_text(current, "utf-8")
        elif current != text:
            sys.exit(f"{page.name} is not what bench/results says: run python bench/tables.py")


def rendered(text: str) -> str:
    """Return a page with all its places filled."""
    return _BLOCK.sub(_filled, text)


def _filled(place: re.Match[str]) -> str:
    kind, name = place.groups()
    body = origin(read(name)) if kind == "result" else _table(name)
    return f"<!-- {kind}: {name} -->\n{body}\n<!-- end -->"


def read(name: str) -> dict[str, Any]:
    """Return a stored result."""
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    return found


def origin(result: jobs.Result) -> str:
    """Return the command that measured a result, when, and on what."""
    about = result["origin"]
    host = about["host"]
    versions = ", ".join(f"{name} {host[name]}" for name in ("Python", "Postgres", "Valkey", "Node") if name in host)
    place = f"{host['cores']} cores, {host['memory_gb']} GB, a load of {host['load']} at the end"
    return f"\n    {about['command']}\n\nMeasured {about['date']} on {place}; {versions}.\n"


def _table(name: str) -> str:
    sources, make = TABLES[name]
    rows = make(*map(read, sources.split()))
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([row.get(column, "") for column in head] for row in rows)]
    return "\n" + "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


if __name__ == "__main__":
    main()
