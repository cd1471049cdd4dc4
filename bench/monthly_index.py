"""Duration of `monthly-usage-summary` with and without an index in the order of its groups, and the size of the index.

python bench/monthly_index.py --rows 20M
"""

import time
from typing import Any
from urllib.parse import urlsplit

from psycopg import sql

from bench._common import arguments, connect, database, machine, say, spread, statements
from bench._events import load
from bench._processes import parent_of, tree_cpu_seconds
from bench._results import store
from bench._sql_ways import Ways
from mauntic_jobs.cli.framework.output import print_json
from mauntic_jobs.jobs.monthly_usage_summary import MONTHLY_USAGE_SUMMARY
from mauntic_jobs.timekeeping.window import Unit, naive

_own = statements("monthly_index")
# The least that every exact way does; measured in one process, which writes no temporary file.
_PARTS = {"read, and no more": "read", "counted without their contacts": "counted"}


def main() -> None:
    """Generate, measure, print."""
    given = arguments(__doc__)
    with database(given.database_url, keep=given.keep) as url:
        events = load(url, given.rows)
        ways = Ways(url, MONTHLY_USAGE_SUMMARY, events.window.aligned(Unit.MONTH), "monthly_usage_summary")
        with connect(url) as connection:
            server = parent_of(connection.info.backend_pid)
            found = {name: _parts(url, server, statement, ways, given.rounds) for name, statement in _PARTS.items()}
            for name in ("as the platform has it", "with the index"):
                before = tree_cpu_seconds(server)
                (figures,) = ways.measure([], ["64MB"], given.rounds).values()
                cpu = (tree_cpu_seconds(server) - before) / given.rounds
                found[name] = {**figures, "server_cpu_seconds": cpu}
                say(f"{name}: {figures['seconds']['median']:.1f} s, {cpu:.1f} s of the server's processors")
                if name == "as the platform has it":
                    name_of_it = sql.Identifier(urlsplit(url).path.lstrip("/"))
                    connection.execute(_own["index"])
                    connection.execute("VACUUM (ANALYZE) analytics.contact_activity")
                    connection.execute(sql.SQL(_own["of_ssds"].decode()).format(database=name_of_it))
            (size,) = connection.execute(_own["size"])
        results = {"machine": machine(url), "data": events.described(), "index_bytes": size["bytes"], "ways": found}
    print_json(results)
    store(given.json, results)


def _parts(url: str, server: int, statement: str, ways: Ways, rounds: int) -> dict[str, Any]:
    times = {"start": naive(ways.window.start), "end": naive(ways.window.end)}
    before, seconds = tree_cpu_seconds(server), []
    with connect(url) as connection:
        connection.execute(_own["one_process"])
        for _ in range(rounds):
            started = time.perf_counter()
            connection.execute(_own[statement], times)
            seconds.append(time.perf_counter() - started)
        cpu = (tree_cpu_seconds(server) - before) / rounds
    return {"seconds": spread(seconds), "temporary_mb": 0.0, "server_cpu_seconds": cpu}


if __name__ == "__main__":
    main()
