"""Rows of the tables about the scheduled jobs, from stored results."""

from collections.abc import Mapping
from statistics import median
from typing import Any

Row = dict[str, str]
Result = Mapping[str, Any]


def spread_text(values: Mapping[str, float], digits: int = 2) -> str:
    """Return a median with the least and the greatest."""
    middle, least, greatest = (f"{values[name]:,.{digits}f}" for name in ("median", "min", "max"))
    return middle if least == greatest else f"{middle} ({least}-{greatest})"


def list_text(values: list[float], digits: int = 2) -> str:
    """Return the median of values, with the least and the greatest."""
    return spread_text({"median": median(values), "min": min(values), "max": max(values)}, digits)


def hourly(result: Result) -> list[Row]:
    """Return the run of a day's last hour, by way."""
    ways = {
        "job, without process start": "the job, without process start",
        "job, whole process": "the job, whole process",
        "bare SQL": "bare SQL",
        "bare SQL, psql": "bare SQL, by psql, whole process",
        "replaced way, as found": "the replaced way, on tables without indexes",
        "replaced way, with our indexes": "the replaced way, with our indexes",
    }
    return [
        _timed(title, result["hour"][state][way], rows="right already" if state == "right" else "none yet")
        for way, title in ways.items()
        for state in ("right", "none")
    ]


def hourly_memory(result: Result) -> list[Row]:
    """Return the run by work_mem."""
    return [
        {
            "`work_mem`": size,
            "ratio": spread_text(each["ratio"]) if "ratio" in each else "1.00",
            "seconds": spread_text(each["seconds"]),
            "temporary files": f"{each['temporary_mb']:,.0f} MB",
        }
        for size, each in result["memory"].items()
    ]


def hourly_index(result: Result) -> list[Row]:
    """Return the counting of a day with and without the index."""
    return [_timed(name, each) for name, each in result["index"].items()]


def backfill(result: Result) -> list[Row]:
    """Return the backfill of all days, and of a year."""
    own = result["backfill"]
    return [
        *(_timed(name, each, days=str(result["events"]["days"])) for name, each in own["none"].items()),
        _timed("job, whole process, the other days empty", own["year"], days=str(own["year"]["days"])),
    ]


def statement_ways(result: Result) -> list[Row]:
    """Return a job beside single statements."""
    return [
        {
            "way": name,
            "ratio": spread_text(each["ratio"]),
            "seconds": spread_text(each["seconds"], 1),
            "temporary files": f"{each['temporary_mb']:,.0f} MB",
        }
        for name, each in result["ways"].items()
    ]


def monthly_index(result: Result) -> list[Row]:
    """Return the month by the table alone, and by an index in the order of its groups."""
    rows = result["data"]["rows"]
    return [
        {
            "the events": name,
            "of them": f"{rows:,}",
            "seconds": spread_text(each["seconds"], 1),
            "CPU seconds of the server": f"{each['server_cpu_seconds']:.1f}",
            "temporary files": f"{each['temporary_mb']:,.0f} MB",
            "bytes of the index, an event": f"{result['index_bytes'] / rows:.0f}" if name == "with the index" else "",
        }
        for name, each in result["ways"].items()
    ]


def large_days(result: Result) -> list[Row]:
    """Return a day and a month by one process of Postgres and by two."""
    return [
        {
            "job": f"`{job}`",
            "by": name,
            "ratio": spread_text(each["ratio"]),
            "seconds": spread_text(each["seconds"]),
            "CPU seconds of the server": spread_text(each["server_cpu_seconds"]),
        }
        for job, ways in result["ways"].items()
        for name, each in ways.items()
    ]


def backfill_ways(*results: Result) -> list[Row]:
    """Return a backfill of many days, by the size of the days and by way."""
    return [
        {"events a day": f"{result['data']['rows_a_day']:,}", **_timed(name, each, days=str(result["data"]["days"]))}
        for result in results
        for name, each in result["ways"].items()
    ]


def backfill_workers(result: Result) -> list[Row]:
    """Return the windows of a backfill by how many `work` processes take them."""
    return [
        {
            "`work` processes": count,
            "seconds": spread_text(each["seconds"], 1),
            "times as fast": spread_text(each["times_as_fast"]),
        }
        for count, each in result["processes"].items()
    ]


def backfill_memory(result: Result) -> list[Row]:
    """Return the peak memory of a backfill by its windows."""
    return [
        {"windows": f"{int(windows):,}", "peak RSS": f"{memory:.0f} MB"}
        for windows, memory in result["memory_mb"].items()
    ]


def parquet_days(result: Result) -> list[Row]:
    """Return the count of a day by Postgres and by DuckDB."""
    return [_timed(name, each) for name, each in result["ways"].items()]


def parquet_export(result: Result) -> list[Row]:
    """Return what the export of a day takes."""
    own = result["export"]
    return [
        {
            "events": f"{result['data']['rows_a_day']:,}",
            "read from Postgres": f"{own['seconds from Postgres']:.1f} s",
            "written as Parquet": f"{own['seconds to Parquet']:.1f} s",
            "Parquet": f"{own['bytes'] / 1e6:,.0f} MB",
            "in Postgres": f"{own['bytes in Postgres'] / 1e6:,.0f} MB",
        }
    ]


def late_events(result: Result) -> list[Row]:
    """Return the seconds of a report with and without the look for late events."""
    return [{"report": name, "seconds": list_text(each, 1)} for name, each in result["seconds"].items()]


def coverage(result: Result) -> list[Row]:
    """Return how much a rebuild takes over a judgement, by job."""
    own = result["rebuild over judgement"]
    return [{"job": f"`{name}`", "rebuild, to judgement": list_text(each, 1)} for name, each in own.items()]


def verify(result: Result) -> list[Row]:
    """Return what verification takes over a rehearsal, by job."""
    return [
        {
            "job": f"`{name}`",
            "verification, to rehearsal": f"{each['verification over rehearsal']:.2f}",
            "for 400 days, inferred": f"{each['minutes']:.1f} minutes",
            "peak memory, one day and all": f"{each['MB for a day']:.0f} MB, {each['MB for all']:.0f} MB",
        }
        for name, each in result["jobs"].items()
    ]


def figure_changes(result: Result) -> list[Row]:
    """Return what the notes of changes cost, by the events of a group."""
    return [
        {
            "events in a group": str(each["events_a_group"]),
            "groups": f"{each['groups']:,}, all {each['state']}",
            "with notes, to without": f"{each['ratio']:.2f}",
            "bytes a group": f"{each['bytes_a_group']:.0f}",
        }
        for each in result["results"]
    ]


def segments(result: Result) -> list[Row]:
    """Return the evaluation of all contacts, of the changed ones, and one by one."""
    ways = {
        "full": "all contacts, with executions, outbox and queue",
        "changed": "the contacts that changed, likewise",
        "naive": "every contact evaluated in Python, one insert each, no queue, inferred",
    }
    return [
        {
            "way": title,
            "seconds": spread_text(result[way]["seconds"]),
            "CPU seconds of the server": spread_text(result[way]["client_cpu_seconds"])
            if "client_cpu_seconds" in result[way]
            else "",
            "entered": f"{result['entered'][way]:,}" if way in result["entered"] else "",
        }
        for way, title in ways.items()
        if way in result
    ]


def warm_up(result: Result) -> list[Row]:
    """Return the reset of warm-up counters, by way."""
    return [_timed(name, each) for name, each in result["ways"].items()]


def stale(result: Result) -> list[Row]:
    """Return the clean-up of stale executions, and what an executor waits beside it."""
    rounds = result["rounds"]
    waits = {
        name: max(each[key] for each in rounds) * 1000
        for name, key in (("beside the job", "longest_wait_beside"), ("alone", "longest_wait_alone"))
    }
    return [
        {
            "way": "the job",
            "ratio": list_text([1 / each["ratio"] for each in rounds]),
            "seconds": list_text([each["job"]["seconds"] for each in rounds], 1),
            "peak RSS": f"{max(each['job']['peak_rss_mb'] for each in rounds):.0f} MB",
            "longest wait of an executor": f"{waits['beside the job']:.0f} ms",
        },
        {
            "way": "one execution at a time, judged in Python, inferred",
            "ratio": "1.00",
            "seconds": list_text([each["naive"]["seconds"] for each in rounds], 1),
            "peak RSS": "",
            "longest wait of an executor": f"{waits['alone']:.0f} ms (alone)",
        },
    ]


def start_up(result: Result) -> list[Row]:
    """Return the CPU of a start, by way."""
    ways = result["ways"]
    base = ways["Python, Typer and psycopg imported"]
    return [
        {
            "way": name,
            "ratio": list_text([own[0] / other[0] for own, other in zip(each, base, strict=True)]),
            "CPU seconds": f"{median(cpu for cpu, _ in each):.2f}",
        }
        for name, each in ways.items()
    ]


def _timed(name: str, each: Mapping[str, Any], **more: str) -> Row:
    rate, memory = each.get("rows_per_second"), each.get("peak_rss_mb")
    row = {
        "way": name,
        **more,
        "ratio": spread_text(each["ratio"]) if "ratio" in each else "",
        "seconds": spread_text(each["seconds"]),
    }
    row |= {"events/s": f"{rate:,.0f}"} if rate else {}
    return row | {"peak RSS": f"{memory:.0f} MB" if memory else ""}
