"""Jobs of a peer whose worker is killed (SIGKILL) and replaced at once: when they are done, and which are done twice.

Each job takes 0.1 s. The peers' own timeouts are shortened to --redelivery seconds, where there is a setting for it.
"""

import argparse
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bench._common import ROOT, say
from bench._deliver_rig import Rig, rig
from bench._results import store
from bench.peers._systems import SYSTEMS, System, command, described, install
from bench.peers.compare import environment, working

_CONCURRENCY = 5


def main() -> None:
    """Kill a worker of each peer, and print what became of its jobs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=60, help="jobs of each peer (default: 60)")
    parser.add_argument("--redelivery", type=int, default=15, metavar="SECONDS", help="default: 15")
    parser.add_argument("--patience", type=int, default=240, metavar="SECONDS", help="to wait at most (default: 240)")
    names = [each.name for each in SYSTEMS]
    parser.add_argument("--systems", nargs="+", choices=names, default=names, help="default: all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    given = parser.parse_args()
    smtp_sink = shutil.which("smtp-sink")
    if smtp_sink is None:
        parser.error("there is no smtp-sink: install the package postfix")
    install()
    with rig(smtp_sink, extra={}) as running:
        found = {each.name: _killed(running, each, given) for each in SYSTEMS if each.name in given.systems}
    store(given.json, {"systems": described(), "redelivery": given.redelivery, "results": found})


def _killed(running: Rig, system: System, given: argparse.Namespace) -> dict[str, Any]:
    running.ask("FLUSHALL")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        values = environment(running, system, "slow", _CONCURRENCY, given.jobs, folder)
        values["REDELIVERY"] = str(given.redelivery)
        subprocess.run(command(system, "enqueue"), cwd=ROOT, env=values, check=True, stdout=subprocess.DEVNULL)
        with working(system, values):
            _wait(folder, given.jobs // 3, given.patience)
            # Between two rounds of its jobs a worker has none in hand, and to kill it would show nothing.
            while not _in_hand(folder):
                time.sleep(0.005)
        in_hand = _in_hand(folder)
        began = time.monotonic()
        with working(system, values):
            _wait(folder, given.jobs, given.patience)
        done = _noted(folder, "done")
    found = {
        "in hand": in_hand,
        "never": given.jobs - len(done),
        "twice": sum(times > 1 for times in done.values()),
        "seconds": round(time.monotonic() - began, 1),
    }
    print(f"{system.name}: {found}", flush=True)
    return found


def _wait(folder: Path, jobs: int, patience: int) -> None:
    """Wait until so many jobs are done, or until patience ends."""
    ends = time.monotonic() + patience
    while len(_noted(folder, "done")) < jobs and time.monotonic() < ends:
        time.sleep(0.05)


def _in_hand(folder: Path) -> int:
    """Return how many jobs are begun and not done."""
    done = _noted(folder, "done")
    return len(_noted(folder, "begun").keys() - done.keys())


def _noted(folder: Path, act: str) -> Counter[str]:
    path = folder / f"{act}.txt"
    return Counter(path.read_text("utf-8").split()) if path.exists() else Counter()


if __name__ == "__main__":
    began_ = time.perf_counter()
    main()
    say(f"took {time.perf_counter() - began_:.0f} s")
