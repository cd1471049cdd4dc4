"""Makes the virtual environment in .venv what the lock files say, then runs the demo or the tests in it.

    bootstrap.py demo [ARGUMENTS of mauntic-jobs demo]
    bootstrap.py test [--quick | ARGUMENTS of pytest]

Without arguments `test` runs every check, with --quick those that need a minute, else pytest alone.

Needs a Python with the standard library only. A second run finds everything in place and takes no time.
"""

import contextlib
import ctypes
import fcntl
import hashlib
import importlib.util
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "bin"
STAMP = ROOT / ".venv" / "installed.json"
CHECKS = (["ruff", "format", "--check", "."], ["ruff", "check", "."])
CHECKS_BESIDE_TESTS = (["mypy"], ["lint-imports"])
# Four on two cores: many tests wait for processes, answers and clocks.
TESTS = ["pytest", "-n", "4", "--dist", "worksteal"]
QUICK_TESTS = ["pytest", "-n", "2", "--dist", "worksteal", "-m", "unit and not slow"]
# The dev lock contains the demo lock.
INCLUDES = {"demo": ("demo",), "dev": ("demo", "dev")}
CONFIGURATION = 78
STOP_SECONDS = 5.0
# These would lead Python or pip out of the environment, or past its lock; where pip looks for packages is the user's.
IGNORED = {"PYTHONHOME", "PYTHONPATH", "PIP_CONSTRAINT", "PIP_PREFIX", "PIP_PYTHON", "PIP_REQUIREMENT"}
IGNORED |= {"PIP_REQUIRE_HASHES", "PIP_ROOT", "PIP_TARGET"}
# Without its cache Python compiles the program for each process that a test starts.
IGNORED |= {"PYTHONDONTWRITEBYTECODE"}
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in IGNORED}


def main(arguments: list[str]) -> None:
    """Install what the command needs, then become it."""
    if arguments[:1] == ["demo"]:
        ensure("demo")
        become(["mauntic-jobs", *arguments])
    if arguments[:1] == ["test"]:
        ensure("dev")
        os.chdir(ROOT)
        if arguments[1:] not in ([], ["--quick"]):
            say(f"+ {shlex.join(['pytest', *arguments[1:]])}")
            become(["pytest", *arguments[1:]])
        for check in CHECKS:
            run_shown(check)
        run_beside([sys.executable, "-I", __file__, "checks"], QUICK_TESTS if arguments[1:] else TESTS)
        return
    if arguments == ["checks"]:
        for check in CHECKS_BESIDE_TESTS:
            run_shown(check)
        return
    fail("usage: bootstrap.py demo|test [ARGUMENTS]", 2)


def run_shown(command: list[str]) -> None:
    """Run a program of the environment, and say which."""
    say(f"+ {shlex.join(command)}")
    run([str(BIN / command[0]), *command[1:]])


def run_beside(checks: list[str], tests: list[str]) -> None:
    """Run checks and tests at once, and show what the checks printed after the tests; both must succeed."""
    say(f"+ {shlex.join(tests)}")
    with (
        tempfile.TemporaryFile("w+") as report,
        started(checks, stdout=report.fileno(), stderr=report.fileno()) as beside,
        started([str(BIN / tests[0]), *tests[1:]]) as running,
    ):
        tested, checked = running.wait(), beside.wait()
        report.seek(0)
        say(report.read().rstrip())
    exit_for(tests, tested)
    exit_for(checks, checked)


def ensure(level: str) -> None:
    """Install the lock file `level` and the project, unless that is done; others wait while one does it."""
    if is_installed(level):
        return
    with lock() as held:
        if is_installed(level):
            return
        if not is_usable():
            make_environment(held)
        STAMP.unlink(missing_ok=True)
        say(f"installing requirements/{level}.txt into .venv")
        pip(held, "--require-hashes", "-r", f"requirements/{level}.txt")
        pip(held, "--no-deps", "--no-build-isolation", "-e", ".")
        write_stamp(level)


def is_installed(level: str) -> bool:
    """Whether the stamp says so of today's lock file and project, for this place and the Python behind .venv."""
    programs_exist = all(os.access(BIN / name, os.X_OK) for name in ("python", "mauntic-jobs"))
    return programs_exist and read_stamp().items() >= stamp_of(level).items()


def is_usable() -> bool:
    """Whether the environment has a working pip, and was not moved here or left behind by another Python."""
    here = stamp_of("demo")
    if any(read_stamp().get(name, here[name]) != here[name] for name in ("root", "python")):
        return False
    command = [str(BIN / "python"), "-I", "-m", "pip", "--version"]
    try:
        return subprocess.run(command, env=ENVIRONMENT, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def make_environment(held: int) -> None:
    """Make .venv, in place of whatever is there."""
    if importlib.util.find_spec("ensurepip") is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        fail(f"Python {version} cannot make virtual environments: install python{version}-venv (Debian, Ubuntu).")
    say(f"making .venv with {sys.executable}")
    run([sys.executable, "-I", "-m", "venv", "--clear", str(BIN.parent)], stdin=held)


def pip(held: int, *arguments: str) -> None:
    """Run pip install with the user's indexes, but for this environment only."""
    # Python compiles what it imports, which is a small part of what is installed.
    options = ["-qq", "--disable-pip-version-check", "--no-input", "--no-user", "--no-compile"]
    command = [str(BIN / "python"), "-I", "-m", "pip", "install", *options, *arguments]
    run(command, stdin=held, stdout=sys.stderr.fileno())


def read_stamp() -> dict[str, str]:
    """Read what the last complete installation was of; empty when there was none."""
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(level: str) -> None:
    """Say that everything in `level` is installed, with a rename that an interruption cannot leave half done."""
    stamp = {name: value for part in INCLUDES[level] for name, value in stamp_of(part).items()}
    partial = STAMP.with_suffix(".new")
    partial.write_text(json.dumps(stamp))
    partial.replace(STAMP)


def stamp_of(level: str) -> dict[str, str]:
    """Compute what the stamp of an up-to-date installation of `level` holds."""
    digest = hashlib.sha256()
    for path in (ROOT / "requirements" / f"{level}.txt", ROOT / "pyproject.toml"):
        digest.update(path.read_bytes())
    # Another program, such as uv, may have changed what is installed; its directory then has another time.
    times = [str(path.stat().st_mtime_ns) for path in sorted(BIN.parent.glob("lib/*/site-packages"))]
    place = {"root": str(ROOT), "python": os.path.realpath(BIN / "python"), "packages": " ".join(times)}
    return {level: digest.hexdigest(), **place}


@contextlib.contextmanager
def lock() -> Iterator[int]:
    """Lock this very file: any other would be one more file, and .venv may be deleted meanwhile.

    The descriptor is the children's standard input, which they do not read: so the lock is held until the last of
    theirs has ended too, even when this process is killed.
    """
    with Path(__file__).open("rb+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another installation into .venv")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def run(command: list[str], *, stdin: int | None = None, stdout: int | None = None) -> None:
    """Run a command to its end; its failure is ours."""
    with started(command, stdin=stdin, stdout=stdout) as child:
        status = child.wait()
    exit_for(command, status)


@contextlib.contextmanager
def started(
    command: list[str], *, stdin: int | None = None, stdout: int | None = None, stderr: int | None = None
) -> "Iterator[subprocess.Popen[bytes]]":
    """Start a command for the block. A signal ends both, and SIGKILL too on Linux."""
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=ENVIRONMENT,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        preexec_fn=with_parent_death_signal(),  # noqa: PLW1509 - this process has one thread
    ) as child:
        try:
            yield child
        finally:
            if child.poll() is None:
                stop(child)


def exit_for(command: list[str], status: int) -> None:
    """Exit with the status of a command that failed."""
    if status != 0:
        # As a shell has it: the signal's number is negative here.
        fail(f"failed: {shlex.join(command)}", status if status > 0 else 128 - status)


def stop(child: "subprocess.Popen[bytes]") -> None:
    """End a child the way Ctrl-C does, on which pip removes its temporary files."""
    child.send_signal(signal.SIGINT)
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()


def with_parent_death_signal() -> Callable[[], None] | None:
    """Make what a child on Linux runs to end with this process, however that ends."""
    if sys.platform != "linux":
        return None
    libc, parent = ctypes.CDLL(None), os.getpid()
    pr_set_pdeathsig = 1

    def arrange() -> None:
        libc.prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return arrange


def become(command: list[str]) -> NoReturn:
    """Replace this process by a program of the environment, which then gets the signals itself."""
    os.execve(BIN / command[0], command, ENVIRONMENT)  # noqa: S606 - a shell would stand between it and signals


def say(text: str) -> None:
    """Talk on standard error: standard output belongs to the command."""
    print(text, file=sys.stderr, flush=True)


def fail(text: str, status: int = CONFIGURATION) -> NoReturn:
    """End with a message."""
    say(f"bootstrap: {text}")
    sys.exit(status)


def on_signal(number: int, _frame: object) -> NoReturn:
    """Leave through the `finally` of whatever runs."""
    sys.exit(128 + number)


if __name__ == "__main__":
    if sys.version_info < (3, 11):  # noqa: UP036 - the interpreter that runs this is the one being checked
        fail("Python 3.11 or newer is needed.")
    for signal_number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signal_number, on_signal)
    main(sys.argv[1:])
