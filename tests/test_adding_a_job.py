"""docs/adding-a-job.md, done as it says; and packages that are broken."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from mauntic_jobs.errors import ExitCode
from mauntic_jobs.jobs.plugins import RESERVED
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.runner.history import list_runs
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from tests.support import APP, run_program, scheduled_only

_PAGE = Path(__file__).parent.parent / "docs/adding-a-job.md"
_FILES = dict(re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```", _PAGE.read_text(), re.DOTALL | re.MULTILINE))


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the page's package, install it, and return where."""
    project, site = tmp_path_factory.mktemp("acme"), tmp_path_factory.mktemp("site")
    for name, text in _FILES.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(site), str(project)], check=True, capture_output=True)
    (site / "tests").mkdir()
    (site / "tests/test_mark_inactive.py").write_text(_FILES["tests/test_mark_inactive.py"])
    return site


def test_the_page_has_the_files_that_it_speaks_of() -> None:
    assert set(_FILES) == {
        "pyproject.toml",
        "acme_jobs/__init__.py",
        "acme_jobs/mark_inactive.py",
        "tests/test_mark_inactive.py",
    }


def test_the_pages_own_test_passes(package: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=package,
        env={**os.environ, "PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_the_page_is_typed_strictly_against_the_installed_package(
    package: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    installed = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(installed), str(_PAGE.parent.parent)], check=True, capture_output=True)
    assert (installed / "mauntic_jobs/py.typed").exists()
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--config-file=", "acme_jobs", "tests"],
        cwd=package,
        env={**os.environ, "MYPYPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_the_page_imports_what_is_public() -> None:
    imported = re.findall(r"^from (mauntic_jobs[\w.]*) import", "\n".join(_FILES.values()), re.MULTILINE)
    assert set(imported) == {"mauntic_jobs.plugin", "mauntic_jobs.testing"}


def test_the_job_appears_everywhere(package: Path, direct_settings: Settings, tmp_path: Path) -> None:
    shown = run_program("mark-inactive", "--help", PYTHONPATH=str(package)).stdout
    assert "--idle" in shown
    assert "--dry-run" in shown
    assert "mark-inactive" in run_program("schedule", "next", "--job", "mark-inactive", PYTHONPATH=str(package)).stdout
    run_program("schedule", "export", "crontab", "--output", str(tmp_path), PYTHONPATH=str(package))
    assert "\n30 3 * * * mauntic-jobs mark-inactive --slot latest" in (tmp_path / "crontab").read_text()
    done = run_program("mark-inactive", "--idle", "30d", settings=direct_settings, PYTHONPATH=str(package))
    assert done.returncode == ExitCode.DONE, done.stderr
    with connect(direct_settings) as session:
        (run,) = list_runs(session)
    assert (run["job"], run["options"]) == ("mark-inactive", {"idle": "P30D"})
    listed = run_program("schedule", "list", "--json", settings=direct_settings, PYTHONPATH=str(package))
    assert [row["job"] for row in json.loads(listed.stdout)] == [*JOBS, "mark-inactive"]


_GOOD = """
from mauntic_jobs.job import Job, JobOptions, JobResult
from mauntic_jobs.timekeeping.window import Unit
JOB = Job(name="{name}", summary="s", description="d", cron="{cron}", unit=Unit.DAY, bucket=None, options=JobOptions,
          run=lambda context, window: JobResult({{}}))
"""


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("broken", "raise RuntimeError('no such luck')", "RuntimeError: no such luck"),
        ("broken", "import sys; JOB = sys", "it is a module, not a mauntic_jobs.job.Job"),
        ("broken", _GOOD.format(name="other", cron="* * * * *"), "it must be that of the entry point"),
        ("broken", _GOOD.format(name="broken", cron="61 * * * *"), "is not a valid cron expression"),
        ("schedule", _GOOD.format(name="schedule", cron="* * * * *"), "mauntic-jobs has another command schedule"),
        ("aggregate-hourly", _GOOD.format(name="aggregate-hourly", cron="* * * * *"), "has a job of this name"),
    ],
)
def test_a_broken_package_is_named_and_the_others_go_on(
    direct_settings: Settings, tmp_path: Path, name: str, text: str, reason: str
) -> None:
    (tmp_path / "acme_broken.py").write_text(text)
    metadata = tmp_path / "acme_broken-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-broken\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(f"[mauntic_jobs.jobs]\n{name} = acme_broken:JOB\n")
    variables = {"PYTHONPATH": str(tmp_path), "MAUNTIC_JOBS": scheduled_only()}
    done = run_program("schedule", "run", settings=direct_settings, **variables)
    assert (done.returncode, reason in done.stderr) == (ExitCode.PARTIAL, True), done.stderr
    with connect(direct_settings) as session:
        seen = session.rows(b"SELECT job FROM mauntic_jobs.schedules")
    assert {row["job"] for row in seen} == set(JOBS)
    if name == "broken":
        called = run_program("broken", settings=direct_settings, PYTHONPATH=str(tmp_path))
        assert (called.returncode, reason in called.stderr) == (ExitCode.CONFIGURATION, True)
    run = run_program("aggregate-hourly", settings=direct_settings, PYTHONPATH=str(tmp_path))
    assert run.returncode == ExitCode.DONE


def test_no_package_can_take_the_name_of_a_command() -> None:
    commands = set(get_command(APP).commands)  # type: ignore[attr-defined]
    assert commands - set(JOBS) == RESERVED
