"""How fast `segment-trigger-eval` is: all contacts, those that changed, and against evaluating every contact in Python.

python bench/segment_trigger_eval.py --contacts 1000000 --triggers 100

With --shares it then measures other shares of contacts that change than 1 %, once each and without entries.
The CPU time is that of the server's processes which worked for the run: on a busy machine it says more than the clock.
"""

import argparse
import json
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from psycopg import Cursor

from bench._common import Sample, connect, database, machine, say, statements, summary
from bench._results import store
from mauntic_jobs.cli.framework.output import print_line, print_table
from mauntic_jobs.embedded.servers import throwaway
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.jobs.segment_trigger_eval import SEGMENT_TRIGGER_EVAL
from mauntic_jobs.migrations.platform import create_platform
from mauntic_jobs.migrations.upgrade import upgrade
from mauntic_jobs.runner.request import Launcher, Request
from mauntic_jobs.runner.run import run
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres import session as postgres
from mauntic_jobs.stores.postgres.connection import database_url
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.window import Unit, Window, naive

_ORGANIZATION = UUID(int=1)
_REAPED_AFTER_SECONDS = 0.5
_SEGMENT_BUCKETS = 5  # of 100: each segment holds 5 % of the contacts

_sql = statements("segments")


def main() -> None:
    """Generate, measure, print."""
    given = _arguments()
    with throwaway() as servers, database(given.database_url, keep=False) as url:
        settings = Settings(database_url=url, redis_url=servers.redis_url)
        journeys = _load(settings, given.contacts, given.triggers)
        samples: dict[str, list[Sample]] = {"full": [], "changed": [], "naive": []}
        entered: dict[str, int] = {}
        for number in range(given.rounds):
            say(f"round {number + 1} of {given.rounds}")
            for way in ("full", "changed"):
                sample, entered[way] = _job(settings, full=way == "full")
                samples[way].append(sample)
                _change(url, 1, by=10 if way == "full" else 90)  # 90 takes the change back
            _undo(url)
            if given.naive_triggers:
                samples["naive"].append(_naive(url, journeys, given.naive_triggers))
                _undo(url)
        shares = [_shared(settings, percent) for percent in given.shares]
        ground = machine(url)
    results = {
        "machine": ground,
        "contacts": given.contacts,
        "triggers": given.triggers,
        "entered": entered,
        "naive_triggers": given.naive_triggers,
        "full": summary(samples["full"], samples["naive"]),
        "changed": summary(samples["changed"], samples["full"]),
    }
    if shares:
        results["shares"] = shares
    if given.naive_triggers:
        results["naive"] = summary(samples["naive"])
    _print(results)
    store(given.json, results)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contacts", type=int, default=100_000, help="of one organization (default: 100000)")
    parser.add_argument("--triggers", type=int, default=20, help="each with a segment of its own (default: 20)")
    parser.add_argument(
        "--naive-triggers", type=int, default=2, help="evaluated the naive way; the rest is inferred; 0 for none"
    )
    parser.add_argument(
        "--shares", type=float, nargs="+", default=[], metavar="PERCENT", help="of contacts that change"
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each measurement (default: 3)")
    parser.add_argument(
        "--database-url", default=os.environ.get("DATABASE_URL"), help="the server to make a database on"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    return parser.parse_args()


def _load(settings: Settings, contacts: int, triggers: int) -> list[dict[str, Any]]:
    """Fill a database; return for each journey its ids and the buckets of contacts in its segment."""
    with postgres.connect(settings) as session:
        create_platform(session)
    upgrade(settings, lambda _: None)
    now = naive(clock.now())
    journeys = []
    with connect(database_url(settings)) as connection:
        connection.execute(_sql["quiet"])
        say(f"generating {contacts:,} contacts and {triggers} triggers")
        connection.execute(_sql["contacts"], {"organization": _ORGANIZATION, "contacts": contacts, "now": now})
        for number in range(triggers):
            low = number * 7 % (100 - _SEGMENT_BUCKETS)
            common = {"organization": _ORGANIZATION, "now": now, "low": low, "high": low + _SEGMENT_BUCKETS - 1}
            criteria = {
                "operator": "and",
                "conditions": [
                    {"field": "bucket", "operator": "gte", "value": common["low"]},
                    {"field": "bucket", "operator": "lte", "value": common["high"]},
                    {"field": "email", "operator": "contains", "value": "@EXAMPLE.com"},
                ],
            }
            (row,) = connection.execute(_sql["journey"], {**common, "criteria": json.dumps(criteria)}).fetchall()
            journey = {**common, "journey": row["journey_id"], "version": row["version_id"]}
            connection.execute(_sql["past"], journey)
            journeys.append(journey)
        connection.execute("VACUUM (ANALYZE)")
    return journeys


def _job(settings: Settings, *, full: bool) -> tuple[Sample, int]:
    now = clock.now()
    window = Window.before(now, Unit.HOUR)
    options = SEGMENT_TRIGGER_EVAL.options(full=full)
    server = _server(database_url(settings))
    time.sleep(_REAPED_AFTER_SECONDS)
    before, started = _cpu(server), time.perf_counter()
    report = run(Request(SEGMENT_TRIGGER_EVAL, window, window, options, settings, Launcher.CLI, now))
    seconds = time.perf_counter() - started
    if report.exit_code != ExitCode.DONE:
        raise RuntimeError(f"the run failed: {report.error or report.problems}")
    if (report.counters["full"] > 0) is not full:
        raise RuntimeError(f"the run was not what it was to be: {report.counters}")
    time.sleep(_REAPED_AFTER_SECONDS)
    return Sample(seconds, _cpu(server) - before), report.counters["entered"]


def _server(url: str) -> int:
    """Return the process that starts the server's others."""
    with connect(url) as connection:
        (row,) = connection.execute(_sql["backend"]).fetchall()
        return int(_stat(row["backend"])[1])


def _cpu(server: int) -> float:
    """Return the CPU seconds of the server's processes that have ended, as those of a run's connections have."""
    user, system = _stat(server)[13:15]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _stat(process: int) -> list[str]:
    """Return what Linux counts of a process, without its id and its name."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()


def _shared(settings: Settings, percent: float) -> dict[str, float]:
    """Return how long a run takes after a share of the contacts has changed, and the CPU of the server."""
    _change(database_url(settings), percent, by=0)
    sample, _ = _job(settings, full=False)
    return {"percent": percent, "seconds": sample.seconds, "server_cpu_seconds": sample.cpu or 0.0}


def _change(url: str, percent: float, *, by: int) -> None:
    """Change a share of the contacts, and move a tenth of these by so many buckets."""
    with connect(url) as connection:
        of_1000 = round(percent * 10)
        connection.execute(_sql["change"], {"organization": _ORGANIZATION, "by": by, "of_1000": of_1000})
        connection.execute("VACUUM (ANALYZE) crm.contacts, journey.journey_executions, mauntic_jobs.outbox")


def _naive(url: str, journeys: list[dict[str, Any]], triggers: int) -> Sample:
    """Read every contact, evaluate it in Python, let each in by itself; for some triggers, inferring the rest."""
    started = time.perf_counter()
    with connect(url, Cursor) as connection:
        for journey in journeys[:triggers]:
            past = connection.execute(_sql["naive_entered"], {"journey": journey["journey"]}).fetchall()
            entered = {row["contact_id"] for row in past}
            with connection.cursor() as reader:
                contacts = reader.stream(_sql["naive_contacts"], {"organization": _ORGANIZATION})
                found = [row["id"] for row in contacts if _is_member(row, journey) and row["id"] not in entered]
            for contact in found:
                values = {**journey, "contact": contact, "now": naive(clock.now())}
                connection.execute(_sql["naive_enter"], values)
    return Sample((time.perf_counter() - started) * len(journeys) / triggers)


def _is_member(contact: dict[str, Any], journey: dict[str, Any]) -> bool:
    bucket = contact["custom_fields"].get("bucket")
    return (
        isinstance(bucket, int)
        and journey["low"] <= bucket <= journey["high"]
        and "@example.com" in contact["email"].lower()
    )


def _undo(url: str) -> None:
    with connect(url) as connection:
        connection.execute(_sql["undo"], {"now": naive(clock.now()) - timedelta(days=1)})
        connection.execute(_sql["empty_outbox"])
        connection.execute("VACUUM (ANALYZE) journey.journey_executions")


def _print(results: dict[str, Any]) -> None:
    ground = results["machine"]
    print_line(f"{ground['cores']} cores, {ground['memory_gb']} GB, Postgres {ground['postgres']}")
    print_line(
        f"{results['contacts']:,} contacts, {results['triggers']} triggers with segments of {_SEGMENT_BUCKETS} %, "
        f"1 % of their members new: {results['entered']['full']:,} entries"
    )
    print_line(
        f"then 1 % of the contacts change, a tenth of them into other segments: "
        f"{results['entered']['changed']:,} entries"
    )
    print_line(f"naive: {results['naive_triggers']} triggers measured, {results['triggers']} inferred, no queue")
    ways = [way for way in ("full", "changed", "naive") if way in results]
    print_table(
        [
            {
                "way": way,
                **{name: f"{value:.2f}" for name, value in results[way]["seconds"].items()},
                "server CPU": f"{results[way]['client_cpu_seconds']['median']:.2f}"
                if "client_cpu_seconds" in results[way]
                else "-",
            }
            for way in ways
        ]
    )
    for way, other in (("changed", "full"), ("full", "naive")):
        if "ratio" in results[way]:
            ratio = results[way]["ratio"]
            print_line(f"{way} / {other}: {ratio['median']:.3f} ({ratio['min']:.3f}-{ratio['max']:.3f})")


if __name__ == "__main__":
    main()
