"""`new-job`: the package it writes, installed as docs/adding-a-job.md says; and packages that are broken."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mauntic_jobs.errors import ExitCode
from mauntic_jobs.jobs.new_package import new_package
from mauntic_jobs.jobs.plugins import RESERVED
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.runner.history import list_runs
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from tests.installing import call, install
from tests.support import APP, build_program, run_program, scheduled_only

_PAGE = (Path(__file__).parent.parent / "docs/adding-a-job.md").read_text()
_SHOWN = dict(re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```", _PAGE, re.DOTALL | re.MULTILINE))
_JOB = "count-quiet"


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Let the program write a package, and return where it is."""
    directory = tmp_path_factory.mktemp("packages")
    done = run_program("new-job", _JOB, "--into", str(directory))
    assert done.returncode == ExitCode.DONE, done.stderr
    return directory / _JOB


@pytest.fixture(scope="session")
def programs(package: Path, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the package beside the wheel, as its README says, and return where the programs are."""
    return install(tmp_path_factory.mktemp("beside"), f"{wheel}[embedded]", str(package), "mypy", "pytest")


def test_the_page_shows_the_files_that_the_program_writes() -> None:
    written = new_package("mark-inactive")
    assert set(written) - set(_SHOWN) == {"README.md"}
    assert {name: written[name] for name in _SHOWN} == _SHOWN


def test_another_name_stands_in_every_file() -> None:
    for path, text in new_package(_JOB).items():
        assert "inactive" not in path
        assert not re.search("mark.inactive", text)
        assert re.search("count.quiet", text)


def test_the_test_that_is_written_passes_and_is_short(package: Path, programs: Path) -> None:
    (test,) = package.glob("tests/*.py")
    assert len(test.read_text().splitlines()) <= 12
    done = call(programs, "pytest", "-q", "-p", "no:cacheprovider", directory=package)
    assert (done.returncode, "1 passed" in done.stdout) == (0, True), done.stdout


def test_the_package_is_typed_strictly(package: Path, programs: Path) -> None:
    done = call(programs, "mypy", "--strict", ".", directory=package)
    assert done.returncode == 0, done.stdout


def test_the_package_imports_what_is_public() -> None:
    written = "\n".join(new_package(_JOB).values())
    imported = re.findall(r"^from (mauntic_jobs[\w.]*) import", written, re.MULTILINE)
    assert set(imported) == {"mauntic_jobs.plugin", "mauntic_jobs.testing"}


def test_the_job_appears_everywhere(programs: Path, direct_settings: Settings, tmp_path: Path) -> None:
    def program(*arguments: str) -> str:
        done = call(programs, "mauntic-jobs", *arguments, directory=tmp_path, settings=direct_settings)
        assert done.returncode == ExitCode.DONE, done.stderr
        return done.stdout

    shown = program(_JOB, "--help")
    assert "--idle" in shown
    assert "--dry-run" in shown
    assert _JOB in program("schedule", "next", "--job", _JOB)
    program("schedule", "export", "crontab")
    assert f"\n30 3 * * * mauntic-jobs {_JOB} --slot latest" in (tmp_path / "crontab").read_text()
    program(_JOB, "--idle", "30d")
    with connect(direct_settings) as session:
        (run,) = list_runs(session)
    assert (run["job"], run["options"]) == (_JOB, {"idle": "P30D"})
    assert [row["job"] for row in json.loads(program("schedule", "list", "--json"))] == [*JOBS, _JOB]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "'' is not a valid name"),
        ("Send-Digest", "is not a valid name"),
        ("send_digest", "is not a valid name"),
        ("2-digests", "is not a valid name"),
        ("../digest", "is not a valid name"),
        ("send-digest\n", "is not a valid name"),
        ("import", "is a keyword of Python"),
        ("aggregate-hourly", "has a command aggregate-hourly already"),
        ("new-job", "has a command new-job already"),
    ],
)
def test_a_name_that_no_job_can_have_is_a_usage_error(tmp_path: Path, name: str, reason: str) -> None:
    done = CliRunner().invoke(APP, ["new-job", name, "--into", str(tmp_path)])
    assert (done.exit_code, reason in done.stderr, done.stdout) == (ExitCode.USAGE, True, ""), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_installed_program_writes_the_same_package(programs: Path, tmp_path: Path) -> None:
    assert call(programs, "mauntic-jobs", "new-job", "trim-logs", directory=tmp_path).returncode == ExitCode.DONE
    written = {str(path.relative_to(tmp_path / "trim-logs")): path for path in tmp_path.rglob("*") if path.is_file()}
    assert {name: path.read_text() for name, path in written.items()} == new_package("trim-logs")


def test_a_name_of_an_installed_job_is_taken(programs: Path, tmp_path: Path) -> None:
    done = call(programs, "mauntic-jobs", "new-job", _JOB, directory=tmp_path)
    assert (done.returncode, list(tmp_path.iterdir())) == (ExitCode.USAGE, [])
    assert f"has a command {_JOB} already" in done.stderr


def test_what_exists_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "send-digest").mkdir()
    (tmp_path / "send-digest" / "pyproject.toml").write_text("mine")
    (tmp_path / "trim-logs").write_text("mine")
    for name in ("send-digest", "trim-logs"):
        done = CliRunner().invoke(APP, ["new-job", name, "--into", str(tmp_path)])
        assert (done.exit_code, "exists already" in done.stderr) == (ExitCode.REFUSED, True), done.stderr
    assert {path.read_text() for path in tmp_path.rglob("*") if path.is_file()} == {"mine"}
    assert len(list(tmp_path.rglob("*"))) == 3


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = CliRunner().invoke(APP, ["new-job", "send-digest", "--into", str(tmp_path / "file")])
    assert (done.exit_code, str(tmp_path / "file") in done.stderr) == (ExitCode.CONFIGURATION, True), done.stderr


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
    commands = set(build_program().commands)
    assert commands - set(JOBS) == RESERVED
