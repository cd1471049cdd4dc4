"""The figures of `aggregate_hourly.py` as tables."""

from collections.abc import Mapping
from typing import Any

from mauntic_jobs.cli.framework.output import print_line, print_table

_MOST_RATIO, _MOST_SECONDS, _MOST_MB = 1.25, 2.0, 100.0


def print_report(results: Mapping[str, Any]) -> None:
    """Print everything that was measured, the targets last."""
    _print_ground(results)
    day = f"{results['events']['rows_a_day']:,} events"
    print_line(f"\nBare SQL: one day of {day}, its rows right already")
    print_table(_row({"variant": name}, figures) for name, figures in results["variants"].items())
    print_line(f"\nThe run of a day's last hour, which rebuilds the day of {day}. Bare SQL is: {results['bare']}")
    print_table(
        _row({"rows before": state, "way": name}, figures)
        for state, ways in results["hour"].items()
        for name, figures in ways.items()
    )
    backfill = results["backfill"]
    print_line(f"\nBackfill of {results['events']['days']} days, {results['events']['rows']:,} events")
    print_table(
        _row({"rows before": state, "way": name}, figures)
        for state in ("right", "none")
        for name, figures in backfill[state].items()
    )
    each = backfill["none"]["job, whole process"]["seconds_a_day"]
    print_line(f"seconds for one of these days: {_text(each)}")
    year = backfill["year"]
    print_line(
        f"a window of {year['days']} days, the others empty: {year['seconds']['median']:.1f} s, "
        f"peak RSS {year['peak_rss_mb']:.0f} MB"
    )
    print_line("\nThe same run with other work_mem, without process start, rows right already; ratio to the default")
    print_table(
        _row({"work_mem": size}, figures)
        | {
            "grouping": figures["grouping"],
            "workers": figures["workers"],
            "hash table MB": f"{figures['hash_mb']:.0f}",
            "temporary MB": f"{figures['temporary_mb']:.0f}",
        }
        for size, figures in results["memory"].items()
    )
    print_line("\nCounting one day with and without the BRIN index on created_at")
    print_table(_row({"table": name}, figures) for name, figures in results["index"].items())
    _print_targets(results)


def _print_ground(results: Mapping[str, Any]) -> None:
    machine, events = results["machine"], results["events"]
    load = machine["load_average"]
    print_line(
        f"{machine['cores']} cores, {machine['memory_gb']} GB, Python {machine['python']}, Postgres "
        f"{machine['postgres']}; load average {load['before']:.1f} before, {load['after']:.1f} after"
    )
    print_line(", ".join(f"{name} {value}" for name, value in machine["settings"].items()))
    print_line(
        f"{events['rows']:,} events in {events['days']} days, table {events['table_bytes'] / 1e6:,.0f} MB, BRIN index "
        f"{events['brin_bytes'] / 1e3:.0f} kB; last day: {events['day_groups']:,} groups, "
        f"{events['day_distinct']:,} distinct contacts in them"
    )


def _row(head: Mapping[str, Any], figures: Mapping[str, Any]) -> dict[str, Any]:
    row = {**head, "rounds": figures["rounds"], "seconds": _text(figures["seconds"])}
    if "ratio" in figures:
        row["ratio"] = _text(figures["ratio"])
    if "rows_per_second" in figures:
        cpu, rss = figures.get("client_cpu_seconds"), figures.get("peak_rss_mb")
        row["events/s"] = f"{figures['rows_per_second']:,.0f}"
        row["client CPU s"] = _text(cpu) if cpu else "-"
        row["peak RSS MB"] = f"{rss:.0f}" if rss else "-"
    return row


def _print_targets(results: Mapping[str, Any]) -> None:
    hour = results["hour"]
    ratio = max(ways["job, without process start"]["ratio"]["median"] for ways in hour.values())
    seconds = max(ways["job, whole process"]["seconds"]["median"] for ways in hour.values())
    peak = max(
        *(ways["job, whole process"]["peak_rss_mb"] for ways in hour.values()),
        *(results["backfill"][state]["job, whole process"]["peak_rss_mb"] for state in ("right", "none")),
        results["backfill"]["year"]["peak_rss_mb"],
    )
    print_line("\nTargets")
    print_table(
        {"target": name, "limit": f"{limit:.2f}", "measured": f"{measured:.2f}", "held": measured < limit}
        for name, measured, limit in (
            ("run / bare SQL", ratio, _MOST_RATIO),
            ("whole process, seconds", seconds, _MOST_SECONDS),
            ("peak RSS of any process, MB", peak, _MOST_MB),
        )
    )


def _text(figures: Mapping[str, float]) -> str:
    median, least, greatest = (f"{figures[name]:.2f}" for name in ("median", "min", "max"))
    return f"{median} ({least}-{greatest})"
