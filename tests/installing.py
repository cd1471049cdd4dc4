"""The project's distributions, built and installed into environments of their own."""

import subprocess
import sys
from pathlib import Path

from mauntic_jobs.settings.settings import Settings
from tests.support import environment

ROOT = Path(__file__).parent.parent


def build(directory: Path, target: str, source: Path = ROOT) -> Path:
    """Build the wheel or the sdist of a source tree into an empty directory, and return the file."""
    _run(sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(directory), cwd=source)
    (built,) = directory.iterdir()
    return built


def install(directory: Path, *packages: str) -> Path:
    """Install packages at the versions of the lock into a new environment, and return where its programs are."""
    python = directory / "bin" / "python"
    uv = (sys.executable, "-m", "uv", "--quiet")
    _run(*uv, "venv", "--python", sys.executable, str(directory))
    lock = str(ROOT / "requirements" / "dev.txt")
    _run(*uv, "pip", "install", "--python", str(python), "--constraints", lock, *packages)
    return directory / "bin"


def call(
    programs: Path, name: str, *arguments: str, directory: Path, settings: Settings | None = None
) -> subprocess.CompletedProcess[str]:
    """Run an installed program in a directory, to its end."""
    return subprocess.run(
        [programs / name, *arguments],
        cwd=directory,
        env=environment(settings),
        capture_output=True,
        text=True,
        check=False,
    )


def _run(*words: str, cwd: Path = ROOT) -> None:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
