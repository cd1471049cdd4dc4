"""Debian's own crontab, which reads a file as Vixie cron does and says what it cannot read."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from mauntic_jobs.errors import ExitCode
from mauntic_jobs.jobs.registry import JOBS
from tests.support import run_program
from tests.world.corpus import read_cases

_ROOT = Path(__file__).parent.parent.parent
_ACCEPTED = [case.input for case in read_cases("cron_lines") if not case.answer]
# A crontab has as many lines as there are jobs.
_GROUPS = [_ACCEPTED[first : first + len(JOBS)] for first in range(0, len(_ACCEPTED), len(JOBS))]


def _refused(crontab: Path) -> str:
    """Return what crontab says against a file; nothing is installed."""
    if shutil.which("crontab") is None:
        reason = "needs Debian's crontab: apt-get install cron"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    done = subprocess.run(["crontab", "-n", crontab], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr


def test_the_crontab_here_is_read() -> None:
    assert _refused(_ROOT / "crontab") == ""


@pytest.mark.parametrize("lines", _GROUPS, ids=str)
def test_every_line_that_is_accepted_is_read(lines: list[str], tmp_path: Path) -> None:
    jobs = json.dumps({name: {"cron": line} for name, line in zip(JOBS, lines, strict=False)})
    done = run_program("schedule", "export", "crontab", "--output", str(tmp_path), MAUNTIC_JOBS=jobs)
    assert done.returncode == ExitCode.DONE, done.stderr
    text = (tmp_path / "crontab").read_text("utf-8")
    assert all(f"\n{line} " in text for line in lines)
    assert _refused(tmp_path / "crontab") == ""


def test_a_line_that_cannot_be_read_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "crontab"
    file.write_text("5/15 * * * * true\n")
    assert "bad minute" in _refused(file)
