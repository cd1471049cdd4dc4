"""DuckDB's part of `parquet_days.py`, in an environment that has it: COMMAND FILE..., with JSON as the answer.

`export CSV PARQUET` writes a day's events as Parquet; `count PARQUET` counts them as the daily rollups do.
"""

import json
import sys
import time
from typing import Any

import duckdb

_EXPORT = """
COPY (
    SELECT * FROM read_csv('{source}', header = false, columns = {{
        'organization_id': 'UUID', 'contact_id': 'UUID', 'event_type': 'VARCHAR', 'created_at': 'TIMESTAMP'
    }})
) TO '{target}' (FORMAT parquet, COMPRESSION zstd)
"""
_COUNT = """
SELECT organization_id, event_type, sum(events) AS count, count(*) AS unique_count
FROM (
    SELECT organization_id, event_type, contact_id, count(*) AS events FROM read_parquet('{source}') GROUP BY ALL
)
GROUP BY ALL
"""


def main(command: str, source: str, *more: str) -> None:
    """Do one command, and print its seconds and what it found."""
    started = time.perf_counter()
    found: dict[str, Any] = {}
    if command == "export":
        duckdb.execute(_EXPORT.format(source=source, target=more[0]))
    else:
        rows = duckdb.execute(_COUNT.format(source=source)).fetchall()
        found = {
            "groups": len(rows),
            "events": sum(int(row[2]) for row in rows),
            "distinct": sum(row[3] for row in rows),
        }
    print(json.dumps({"seconds": time.perf_counter() - started, "version": duckdb.__version__, **found}))


if __name__ == "__main__":
    main(*sys.argv[1:])
