"""How fast `aggregate-hourly` is: against SQL written by hand, and against the way of working that it replaces.

python bench/aggregate_hourly.py --rows 20M
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from bench._common import Sample, arguments, database, machine, say, spread, summary
from bench._events import Events, load
from bench._results import store
from bench._rollup_report import print_report
from bench._rollup_ways import BARE, Ways
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.timekeeping.window import Window

_WORK_MEMS = ("4MB", "16MB", "64MB", "256MB")
_YEAR = timedelta(days=365)
# The replaced way takes half a minute a round on tables without indexes, and a backfill of 20 days a quarter.
_SLOW_ROUNDS = 3


@dataclass(frozen=True)
class _Case:
    """A way under measurement: what is made ready, unmeasured, before each round, and what is measured."""

    measure: Callable[[], Sample]
    prepare: Callable[[], None] = lambda: None
    verify: Callable[[], None] = lambda: None
    rounds: int = 1_000


def main() -> None:
    """Generate, measure, print."""
    given = arguments(__doc__)
    with database(given.database_url, keep=given.keep) as url:
        load_before = os.getloadavg()[0]
        events = load(url, given.rows)
        last = events.days[-1].end
        ways = Ways(url, Window(last - timedelta(hours=1), last), Settings().work_mem)
        results: dict[str, Any] = {"machine": machine(url), "events": events.described(), "work_mem": ways.work_mem}
        results["variants"] = _variants(ways, given.rounds)
        best = min(results["variants"], key=lambda name: results["variants"][name]["seconds"]["median"])
        ways.bare_days(best, events.days)
        results |= {"bare": best, "hour": _hour(ways, best, events, given.rounds)}
        results["backfill"] = _backfill(ways, best, events, given.rounds)
        results["memory"] = _memory(ways, given.rounds)
        results["index"] = _index(ways, given.rounds)
        results["machine"]["load_average"] = {"before": load_before, "after": os.getloadavg()[0]}
    print_report(results)
    store(given.json, results)


def _variants(ways: Ways, rounds: int) -> dict[str, Any]:
    """Find the fastest SQL, on rows that are right already."""
    ways.set_right()
    cases = {name: _Case(partial(ways.bare, name)) for name in BARE}
    return {name: summary(samples) for name, samples in _alternate("bare SQL", cases, rounds).items()}


def _hour(ways: Ways, bare: str, events: Events, rounds: int) -> dict[str, Any]:
    """Measure the run of the day's last hour, from rows that are right and from none."""
    results: dict[str, Any] = {}
    for state, prepare in {"right": ways.set_right, "none": ways.set_empty}.items():
        cases = {
            "job, whole process": _Case(ways.process, prepare, ways.verify),
            "job, without process start": _Case(ways.in_process, prepare, ways.verify),
            "bare SQL": _Case(partial(ways.bare, bare), prepare, ways.verify),
            "bare SQL, psql": _Case(partial(ways.psql, bare), prepare, ways.verify),
            "replaced way, with our indexes": _Case(ways.replaced, prepare),
            "replaced way, as found": _Case(ways.replaced_as_found, prepare, rounds=_SLOW_ROUNDS),
        }
        samples = _alternate(f"hour, rows before: {state}", cases, rounds)
        results[state] = {name: summary(taken, samples["bare SQL"]) for name, taken in samples.items()}
        for name, figures in results[state].items():
            counted = events.rows_a_day // 24 if name.startswith("replaced") else events.rows_a_day
            figures["rows_per_second"] = counted / figures["seconds"]["median"]
    return results


def _backfill(ways: Ways, bare: str, events: Events, rounds: int) -> dict[str, Any]:
    """Measure all days at once, and a year of which the other days are empty."""
    results: dict[str, Any] = {}
    for state, prepare in {"right": lambda: None, "none": ways.set_all_empty}.items():
        cases = {
            "job, whole process": _Case(partial(ways.process, events.window), prepare, rounds=_SLOW_ROUNDS),
            "bare SQL": _Case(partial(ways.bare_days, bare, events.days), prepare, rounds=_SLOW_ROUNDS),
        }
        samples = _alternate(f"backfill, rows before: {state}", cases, rounds)
        results[state] = {name: summary(taken, samples["bare SQL"]) for name, taken in samples.items()}
        for figures in results[state].values():
            figures["rows_per_second"] = events.rows / figures["seconds"]["median"]
        each = [run["seconds"] for taken in samples["job, whole process"] for run in json.loads(taken.output)["runs"]]
        results[state]["job, whole process"]["seconds_a_day"] = spread(each)
    year = ways.process(Window(events.window.end - _YEAR, events.window.end))
    results["year"] = summary([year]) | {"days": len(json.loads(year.output)["runs"])}
    return results


def _memory(ways: Ways, rounds: int) -> dict[str, Any]:
    """Measure the run with less and more work_mem, and what the plan of its counting is like."""
    cases = {size: _Case(partial(ways.in_process, size)) for size in _WORK_MEMS}
    samples = _alternate("work_mem", cases, rounds)
    return {
        size: summary(taken, samples[ways.work_mem]) | _outline(ways.explain(size)) for size, taken in samples.items()
    }


def _index(ways: Ways, rounds: int) -> dict[str, Any]:
    """Measure the counting of the day with and without the BRIN index."""
    cases = {"with the index": _Case(ways.count), "without": _Case(partial(ways.count, index=False))}
    samples = _alternate("index", cases, min(rounds, _SLOW_ROUNDS))
    return {name: summary(taken, samples["with the index"]) for name, taken in samples.items()}


def _alternate(title: str, cases: dict[str, _Case], rounds: int) -> dict[str, list[Sample]]:
    """Measure the cases in turn, round by round, so that they meet the same noise."""
    samples: dict[str, list[Sample]] = {name: [] for name in cases}
    for number in range(rounds):
        for name, case in cases.items():
            if number < case.rounds:
                case.prepare()
                samples[name].append(case.measure())
                case.verify()
                say(f"{title}, round {number + 1} of {rounds}, {name}: {samples[name][-1].seconds:.2f} s")
    return samples


def _outline(plan: dict[str, Any]) -> dict[str, Any]:
    """Return how the rows were grouped, by how many workers, and the megabytes that took, in memory and in files."""
    nodes = list(_nodes(plan["Plan"]))
    grouping = [f"{node['Strategy']} {node['Node Type']}" for node in nodes if node["Node Type"] == "Aggregate"]
    return {
        "grouping": grouping[-1],
        "workers": sum(node.get("Workers Launched", 0) for node in nodes),
        "hash_mb": max(node.get("Peak Memory Usage", 0) for node in nodes) * 1024 / 1e6,
        "temporary_mb": plan["Plan"]["Temp Written Blocks"] * 8192 / 1e6,
    }


def _nodes(node: dict[str, Any]) -> list[dict[str, Any]]:
    return [node, *(inner for child in node.get("Plans", ()) for inner in _nodes(child))]


if __name__ == "__main__":
    main()
