"""Pictures of docs/performance.md: how figures grow, drawn from the stored results in bench/results.

Drawn by matplotlib in the environment of the peers, which the first run makes. A picture holds the hash of its data.
"""

import hashlib
import json
import subprocess
from collections.abc import Callable
from typing import Any

from bench._common import BENCH, ROOT
from bench.peers._systems import install, python
from bench.tables import read

PICTURES = ROOT / "docs" / "pictures"
Points = list[tuple[float, float]]


def main() -> None:
    """Draw every picture."""
    install()
    PICTURES.mkdir(exist_ok=True)
    for name, data in pictures().items():
        command = [str(python("peers")), str(BENCH / "_draw.py"), str(PICTURES / f"{name}.svg"), digest(data)]
        subprocess.run(command, input=json.dumps(data), text=True, check=True)


def pictures() -> dict[str, dict[str, Any]]:
    """Return the data of each picture: its title, the names of its axes, and its lines."""
    return {
        "hourly": _hourly(),
        "backfill": _backfill(),
        "segments": _segments(),
        "segments_change": _segments_change(),
        "deliver": _deliver(),
        "providers": _providers(),
        "claims": _claims(),
    }


def digest(data: dict[str, Any]) -> str:
    """Return the hash of a picture's data."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _hourly() -> dict[str, Any]:
    ways = {
        "the job, whole process": "job, whole process",
        "the job, without process start": "job, without process start",
        "bare SQL": "bare SQL",
    }
    results = _sorted("hourly", lambda each: each["events"]["rows_a_day"])
    lines = {
        title: [(each["events"]["rows_a_day"], each["hour"]["none"][way]["seconds"]["median"]) for each in results]
        for title, way in ways.items()
    }
    return _picture("Run of a day's last hour", "events of the day", "seconds", lines)


def _backfill() -> dict[str, Any]:
    result = read("backfill_windows")
    lines: dict[str, Points] = {}
    for each in result["growth"]:
        for way, seconds in each["seconds"].items():
            lines.setdefault(way, []).append((each["windows"], seconds["median"]))
    return _picture(f"Backfill of days with {result['data']['rows_a_day']:,} events", "windows", "seconds", lines)


def _segments() -> dict[str, Any]:
    results = _sorted("segments", lambda each: each["contacts"])
    lines = {
        title: [(each["contacts"], each[way]["seconds"]["median"]) for each in results]
        for title, way in (("all contacts", "full"), ("the 1 % that changed", "changed"))
    }
    return _picture(f"Evaluation of {results[0]['triggers']} triggers", "contacts", "seconds", lines)


def _segments_change() -> dict[str, Any]:
    result = read("segments_change")
    lines = {
        title: [(each["percent"], each[name]) for each in result["shares"]]
        for title, name in (("by the clock", "seconds"), ("CPU of the server", "server_cpu_seconds"))
    }
    title = f"Evaluation of {result['triggers']} triggers over {result['contacts']:,} contacts"
    return _picture(title, "percent of the contacts that changed", "seconds", lines)


def _deliver() -> dict[str, Any]:
    results = read("deliver_concurrency")["results"]
    lines = {
        title: [(each["concurrency"], each["ways"][way]["rate"]["median"]) for each in results]
        for title, way in (("deliver", "deliver"), ("Node engine", "node"))
    }
    return _picture("Emails over SMTP", "sent at once", "messages a second", lines)


def _providers() -> dict[str, Any]:
    lines: dict[str, Points] = {}
    for each in read("providers_latency")["results"]:
        own = lines.setdefault(f"{each['concurrency']} at once", [])
        own.append((each["latency_ms"], each["rates"]["deliver"]["median"]))
    return _picture("Emails over Postmark's API", "milliseconds of an answer", "messages a second", lines)


def _claims() -> dict[str, Any]:
    results = read("claims")["results"]
    lines = {
        way: [(each["processes"], each["ways"][way]["rate"]["median"]) for each in results]
        for way in ("ours", "procrastinate")
    }
    return _picture("Claims and results of work, committed to one Postgres", "processes", "claims a second", lines)


def _sorted(name: str, size: Callable[[Any], float]) -> list[dict[str, Any]]:
    """Return the results of a benchmark at several sizes, the smallest first."""
    return sorted((read(f"{name}_{size}") for size in ("small", "middle", "large")), key=size)


def _picture(title: str, x: str, y: str, lines: dict[str, Points]) -> dict[str, Any]:
    return {"title": title, "x": x, "y": y, "lines": lines}


if __name__ == "__main__":
    main()
