"""What every benchmark needs: a database of its own, child processes that are measured, medians and the machine."""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg import sql
from psycopg.rows import DictRow, dict_row

from mauntic_jobs.embedded.servers import throwaway
from mauntic_jobs.redaction.urls import mask_url

BENCH = Path(__file__).parent
ROOT = BENCH.parent

# A server of one's own is set up for the size of the data, not for a laptop's spare memory.
_POSTGRES = {"shared_buffers": "1GB", "max_wal_size": "8GB", "checkpoint_timeout": "30min"}

# A child's peak memory counts what its parent held when it was started, so that a small process starts it.
_SPAWN = """
import json, os, sys, time
started = time.perf_counter()
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(pid, 0)
wall = time.perf_counter() - started
unit = 1 if sys.platform == "darwin" else 1024
print(json.dumps([os.waitstatus_to_exitcode(status), wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit]))
"""
_MILLION = 1_000_000
_MOST_ROWS = 20 * _MILLION
_HEADING = re.compile(r"^-- (\w+) -- .+$", re.MULTILINE)


@dataclass(frozen=True)
class Sample:
    """One measurement: seconds by the clock, and of a process also its CPU seconds and its peak memory in bytes."""

    seconds: float
    cpu: float | None = None
    peak_rss: int | None = None
    output: str = ""


@cache
def statements(name: str) -> dict[str, bytes]:
    """Return the statements of `<name>.sql` beside this file, by name."""
    _, *parts = _HEADING.split((BENCH / f"{name}.sql").read_text("utf-8"))
    return {heading: text.strip().encode() for heading, text in zip(parts[::2], parts[1::2], strict=True)}


@contextmanager
def database(server: str | None, *, keep: bool) -> Iterator[str]:
    """Yield the URL of an empty database on `server`, or on a server started for it; drop it afterwards."""
    with ExitStack() as stack:
        if server is None:
            server = stack.enter_context(throwaway(postgres_settings=_POSTGRES)).database_url
        name = f"mauntic_bench_{os.getpid()}"
        url = urlsplit(server)._replace(path=f"/{name}").geturl()
        say(f"using {mask_url(url)}")
        with connect(server) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield url
        finally:
            if not keep:
                with connect(server) as connection:
                    connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def connect(url: str, cursor_factory: type[psycopg.Cursor[Any]] = psycopg.ClientCursor) -> psycopg.Connection[DictRow]:
    """Open a plain connection in autocommit mode."""
    return psycopg.connect(url, autocommit=True, cursor_factory=cursor_factory, row_factory=dict_row)


def run_process(arguments: Sequence[str], url: str) -> Sample:
    """Run `mauntic-jobs` with these arguments in a process of its own."""
    command = [sys.executable, "-I", "-S", "-c", _SPAWN, sys.executable, "-m", "mauntic_jobs", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=environment_with(DATABASE_URL=url), capture_output=True, text=True, check=True
    )
    *output, measured = done.stdout.splitlines()
    exit_code, wall, cpu, peak_rss = json.loads(measured)
    if exit_code:
        raise RuntimeError(
            f"mauntic-jobs {' '.join(arguments)} ended with exit code {exit_code}: {done.stderr or done.stdout}"
        )
    return Sample(wall, cpu, peak_rss, "\n".join(output))


def environment_with(**variables: str) -> dict[str, str]:
    """Return the environment of a child: without settings of this program, and with these variables."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MAUNTIC_")} | variables


def summary(samples: Sequence[Sample], reference: Sequence[Sample] = ()) -> dict[str, Any]:
    """Return the median, least and greatest seconds, the same of the ratios to `reference` pair by pair, and maxima."""
    figures: dict[str, Any] = {"rounds": len(samples), "seconds": spread([sample.seconds for sample in samples])}
    if reference:
        pairs = zip(samples, reference, strict=False)  # a slow way may have been given fewer rounds
        figures["ratio"] = spread([sample.seconds / other.seconds for sample, other in pairs])
    cpu = [sample.cpu for sample in samples if sample.cpu is not None]
    if cpu:
        figures["client_cpu_seconds"] = spread(cpu)
        figures["peak_rss_mb"] = max(sample.peak_rss or 0 for sample in samples) / 1e6
    return figures


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median, the least and the greatest of `values`."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def machine(url: str) -> dict[str, Any]:
    """Describe the machine, the server and its settings."""
    own = statements("_common")
    with connect(url) as connection:
        (server,) = connection.execute(own["version"])
        settings = {row["name"]: row["value"] for row in connection.execute(own["settings"])}
    return {
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "python": sys.version.split()[0],
        "postgres": server["version"],
        "settings": settings,
    }


def arguments(description: str | None) -> argparse.Namespace:
    """Read the command line that all benchmarks share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=_rows, default="1M", help="events: up to 1M, or whole millions up to 20M")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each measurement (default: 5)")
    parser.add_argument(
        "--database-url",
        default=os.environ.get("DATABASE_URL"),
        help="the server to make a database on; environment: DATABASE_URL. Without one a server is started",
    )
    parser.add_argument("--keep", action="store_true", help="leave the database on that server")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    given = parser.parse_args()
    if given.keep and not given.database_url:
        parser.error("--keep needs --database-url: a server started for the benchmark ends with it")
    return given


def _rows(text: str) -> int:
    count = int(text[:-1]) * _MILLION if text.endswith("M") else int(text)
    if not (0 < count <= _MILLION or (count % _MILLION == 0 and count <= _MOST_ROWS)):
        raise argparse.ArgumentTypeError(f"{text} is neither up to 1M nor whole millions up to 20M")
    return count


def say(message: str) -> None:
    """Tell what is going on, on stderr."""
    print(message, file=sys.stderr, flush=True)
