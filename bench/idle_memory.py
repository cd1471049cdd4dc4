"""Memory of `deliver` and all its processes while there is nothing to deliver.

It is proportional: a page that two processes share counts half for each. From /proc, on Linux.
"""

import argparse
import re
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from bench import _results as results
from bench._common import ROOT, environment_with
from mauntic_jobs.embedded.servers import Servers, throwaway
from mauntic_jobs.migrations.platform import create_platform
from mauntic_jobs.migrations.upgrade import upgrade
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres import session as postgres

_WAYS = (["deliver"], ["deliver", "--all"], ["deliver", "--all", "--processes", "2"])
_PROPORTIONAL = re.compile(r"^Pss: +(\d+) kB$", re.MULTILINE)
_LOOK_SECONDS = 0.2


def main() -> None:
    """Measure, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--idle", type=float, default=15.0, help="seconds before it is measured (default: 15)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    given = parser.parse_args()
    with throwaway() as servers:
        settings = Settings(database_url=servers.database_url, redis_url=servers.redis_url)
        with postgres.connect(settings) as session:
            create_platform(session)
        upgrade(settings, lambda _: None)
        figures = {" ".join(way): _measured(servers, way, given.idle) for way in _WAYS}
    for way, own in figures.items():
        print(f"{way}: {sum(own):.1f} MB ({' + '.join(f'{each:.1f}' for each in own)})")
    results.store(given.json, {"proportional_mb": figures})


def _measured(servers: Servers, way: list[str], idle: float) -> list[float]:
    """Return the proportional memory in MB of a command and of each of its processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = environment_with(DATABASE_URL=servers.database_url, REDIS_URL=servers.redis_url, PORT=str(port))
    command = [sys.executable, "-m", "mauntic_jobs", *way]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            while not _is_ready(port):
                if process.poll() is not None:
                    raise RuntimeError(f"mauntic-jobs {' '.join(way)} has ended with status {process.returncode}")
                time.sleep(_LOOK_SECONDS)
            time.sleep(idle)
            return [_proportional(each) for each in (process.pid, *_children(process.pid))]
        finally:
            process.terminate()


def _is_ready(port: int) -> bool:
    with suppress(URLError, OSError), urlopen(f"http://127.0.0.1:{port}/ready", timeout=5):
        return True
    return False


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _proportional(pid: int) -> float:
    (found,) = _PROPORTIONAL.findall(Path(f"/proc/{pid}/smaps_rollup").read_text())
    return int(found) * 1024 / 1e6


if __name__ == "__main__":
    main()
