"""Modules of the working directory: no child process imports them."""

from datetime import timedelta
from pathlib import Path

import pytest

from mauntic_jobs.delivery.process.supervisor import ProcessSupervisor
from mauntic_jobs.delivery.process.wiring import DeliveryPlan
from mauntic_jobs.errors import ExitCode, UnavailableError
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.runner.history import list_runs
from mauntic_jobs.runner.request import Launcher
from mauntic_jobs.runner.subprocesses import start_slot
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.cron import latest_slot
from tests.support import run_on_loop

_PLANTED = "import os\nopen({mark!r}, 'w').write('ran')\nos._exit(0)\n"


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file that any module planted in the working directory leaves."""
    mark = tmp_path / "mark"
    there = tmp_path / "there"
    package = there / "mauntic_jobs"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    names = ("mauntic_jobs/__main__", "psycopg", "redis", "json", "pickle", "multiprocessing", "bullmq")
    for name in names:
        (there / f"{name}.py").write_text(_PLANTED.format(mark=str(mark)))
    monkeypatch.chdir(there)
    return mark


def test_the_run_of_a_slot_imports_nothing_from_the_working_directory(direct_settings: Settings, mark: Path) -> None:
    slot = latest_slot(JOBS["aggregate-hourly"].cron, clock.now())
    process = start_slot("aggregate-hourly", slot, Launcher.LOOP, direct_settings)
    assert (process.wait(), mark.exists()) == (ExitCode.DONE, False)
    with connect(direct_settings) as session:
        assert [row["slot"] for row in list_runs(session)] == [slot]


def _exit(*_: object) -> None:
    raise SystemExit(3)


def test_a_delivering_process_imports_nothing_from_the_working_directory(mark: Path) -> None:
    said: list[str] = []
    family = ProcessSupervisor(
        Settings(), DeliveryPlan({"email": 1}, timedelta(hours=1), timedelta(seconds=5)), 1, _exit, said.append
    )
    with pytest.raises(UnavailableError, match="ended with status 3"):
        run_on_loop(family.run())
    assert not mark.exists()
