"""Commands that stay, told to stop before they have begun."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mauntic_jobs.cli.framework.signals import stays
from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.settings.settings import Settings
from tests.support import start_program, wait_until


def _takes(process: subprocess.Popen[str], number: int) -> bool:
    """Return whether a process has a handler for a signal."""
    for line in Path(f"/proc/{process.pid}/status").read_text("ascii").splitlines():
        name, _, mask = line.partition(":")
        if name == "SigCgt":
            return bool(int(mask, 16) >> (number - 1) & 1)
    return False


@pytest.mark.usefixtures("started_processes")
@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("command", ["deliver email", "work", "schedule run --loop", "monitor run"])
def test_a_command_that_stays_ends_well_whenever_it_is_told_to_stop(
    direct_settings: Settings, servers: Servers, command: str, seconds: float
) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        process = start_program(*command.split(), settings=direct_settings, REDIS_URL=servers.redis_url)
        # Before its first line the program takes no signals: that is Python's own start. SIGTERM comes last.
        wait_until(lambda: _takes(process, signal.SIGTERM), "the program's first line")  # noqa: B023 - called here
        time.sleep(seconds)
        process.send_signal(number)
        _, errors = process.communicate()
        assert process.returncode == ExitCode.DONE, errors


def test_the_program_takes_signals_before_it_imports_its_commands() -> None:
    code = "import sys, mauntic_jobs.__main__; print('typer' in sys.modules, 'asyncio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(
    ("line", "is_so"),
    [
        ("deliver", True),
        ("deliver email --drain", True),
        ("work analytics:aggregate-hourly", True),
        ("schedule run --loop", True),
        ("schedule run", False),
        ("monitor run", True),
        ("monitor run --once", False),
        ("aggregate-hourly --slot latest", False),
        ("deliveries list", False),
        ("", False),
    ],
)
def test_only_commands_that_stay_end_so(line: str, is_so: bool) -> None:
    assert stays(line.split()) == is_so
