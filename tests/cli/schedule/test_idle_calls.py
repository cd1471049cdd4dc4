"""`schedule run --quiet` with nothing due: it asks nothing until something may be due, and other calls ask as ever."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mauntic_jobs.errors import ExitCode
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from tests.support import environment, run_program, scheduled_only

_QUIET = ("schedule", "run", "--quiet")

_Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def call(direct_settings: Settings, tmp_path: Path) -> _Call:
    """Return the program, with a directory of its own for stamps, where no job is due."""

    def run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        own = {"TMPDIR": str(tmp_path), "MAUNTIC_JOBS": scheduled_only(), **variables}
        return run_program(*words, settings=direct_settings, **own)

    return run


def _hide_tables(settings: Settings) -> None:
    """Let whatever asks the database fail."""
    with connect(settings) as session:
        session.execute(b"ALTER SCHEMA mauntic_jobs RENAME TO hidden")


def test_a_call_with_nothing_due_asks_nothing_and_says_nothing(direct_settings: Settings, call: _Call) -> None:
    # The first look takes note of the jobs.
    for _ in range(2):
        asked = call(*_QUIET)
        assert (asked.returncode, asked.stdout, asked.stderr) == (ExitCode.DONE, "", "")
    _hide_tables(direct_settings)
    idle = call(*_QUIET)
    assert (idle.returncode, idle.stdout, idle.stderr) == (ExitCode.DONE, "", "")
    for words in (("schedule", "run"), (*_QUIET, "--json"), ("schedule", "run", "--dry-run")):
        assert call(*words).returncode == ExitCode.CONFIGURATION
    assert call(*_QUIET).returncode == ExitCode.DONE
    assert call(*_QUIET, MAUNTIC_OVERDUE_AFTER="6m").returncode == ExitCode.CONFIGURATION
    # What has looked since decides.
    assert call(*_QUIET).returncode == ExitCode.CONFIGURATION


@pytest.mark.parametrize(
    ("variables", "code"),
    [
        ({}, ExitCode.DONE),
        ({"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}, ExitCode.UNAVAILABLE),
        ({"MAUNTIC_WATCH_EVERY": "7m"}, ExitCode.CONFIGURATION),
    ],
    ids=["first look", "no database", "wrong settings"],
)
def test_a_call_that_did_not_find_everything_settled_leaves_no_stamp(
    call: _Call, tmp_path: Path, variables: dict[str, str], code: ExitCode
) -> None:
    assert call(*_QUIET, **variables).returncode == code
    assert list(tmp_path.rglob("schedule-run-*")) == []


def test_a_call_that_logged_something_leaves_no_stamp(call: _Call, tmp_path: Path, direct_settings: Settings) -> None:
    assert direct_settings.database_url is not None
    url = direct_settings.database_url.get_secret_value()
    odd = f"{url}{'&' if '?' in url else '?'}pgbouncer=true"
    for _ in range(2):
        assert "ignored" in call(*_QUIET, DATABASE_URL=odd).stderr
    assert list(tmp_path.rglob("schedule-run-*")) == []


def test_tasks_that_are_due_each_minute_leave_no_time_for_a_stamp(call: _Call, tmp_path: Path) -> None:
    for upkeep in ("true", "false"):
        for _ in range(2):
            done = call(*_QUIET, MAUNTIC_UPKEEP=upkeep)
            assert (done.returncode, done.stderr) == (ExitCode.DONE, "")
        assert bool(list(tmp_path.rglob("schedule-run-*"))) is (upkeep == "false")


_LOADED = """
import sys
import mauntic_jobs.__main__ as program
sys.argv = ["mauntic-jobs", "schedule", "run", "--quiet"]
program.nothing_is_due(sys.argv[1:])
print(*sorted(name for name in sys.modules if name.partition(".")[0] not in {*sys.stdlib_module_names, "__main__"}))
"""


@pytest.mark.usefixtures("started_processes")
def test_a_call_with_nothing_due_imports_nothing_of_others(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-c", _LOADED],
        env=environment(TMPDIR=str(tmp_path)),
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = done.stdout.split()
    assert {name.partition(".")[0] for name in loaded} - {"_distutils_hack", "sitecustomize"} == {"mauntic_jobs"}
    assert len([name for name in loaded if name.startswith("mauntic_jobs")]) <= 12, loaded
