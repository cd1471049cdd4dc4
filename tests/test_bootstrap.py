"""The bootstrap script installs once and what it should, and takes its children with it."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import wait_until

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ("python", "mauntic-jobs", "ruff", "mypy", "lint-imports", "pytest")
VERSION = "python -I -m pip --version"
INSTALL = "python -I -m pip install -qq --disable-pip-version-check --no-input --no-user --no-compile"
INSTALLATION = [
    f"{INSTALL} --require-hashes -r requirements/{{}}.txt",
    f"{INSTALL} --no-deps --no-build-isolation -e .",
]


class Checkout:
    """A copy of the script among programs that only note how they were called."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._log = root / "log"
        for directory in ("scripts", "requirements", ".venv/bin"):
            (root / directory).mkdir(parents=True)
        shutil.copy(ROOT / "scripts" / "bootstrap.py", root / "scripts")
        for name in ("requirements/demo.txt", "requirements/dev.txt", "pyproject.toml", "log"):
            (root / name).touch()
        for name in PROGRAMS:
            self.program(name)

    def program(self, name: str, then: str = "") -> None:
        """Make a program that notes its call and goes on with `then`."""
        path = self.root / ".venv" / "bin" / name
        path.write_text(f'#!/bin/sh\necho {name} "$@" >> "{self._log}"\n{then}\n')
        path.chmod(0o755)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-I", str(self.root / "scripts" / "bootstrap.py"), *arguments]

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **environment}
        return subprocess.run(self.command(*arguments), capture_output=True, text=True, check=False, env=environment)

    def calls(self) -> list[str]:
        """Return what was called since the last time."""
        lines = self._log.read_text().splitlines()
        self._log.write_text("")
        return lines


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "a check out")


def installation(level: str) -> list[str]:
    return [line.format(level) for line in INSTALLATION]


def in_script(code: str, root: Path) -> subprocess.CompletedProcess[str]:
    """Run code that finds the script of a checkout as the module `bootstrap`."""
    code = f"import sys; sys.path[:0] = ['scripts']\nimport bootstrap\n{code}"
    return subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"


def test_the_first_run_installs_and_the_second_does_nothing_but_its_command(checkout: Checkout) -> None:
    assert checkout.run("demo", "--seed", "1 2").returncode == 0
    assert checkout.calls() == [VERSION, *installation("demo"), "mauntic-jobs demo --seed 1 2"]
    again = checkout.run("demo")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert checkout.calls() == ["mauntic-jobs demo"]


def test_the_demo_needs_nothing_after_an_installation_for_development(checkout: Checkout) -> None:
    checkout.run("test", "-x")
    assert checkout.calls() == [VERSION, *installation("dev"), "pytest -x"]
    checkout.run("demo")
    assert checkout.calls() == ["mauntic-jobs demo"]


@pytest.mark.parametrize("name", ["requirements/demo.txt", "pyproject.toml"])
def test_a_changed_lock_or_project_is_installed(checkout: Checkout, name: str) -> None:
    checkout.run("demo")
    checkout.calls()
    (checkout.root / name).write_text("# changed")
    checkout.run("demo")
    assert checkout.calls() == [VERSION, *installation("demo"), "mauntic-jobs demo"]


def test_what_another_program_has_installed_is_put_right(checkout: Checkout) -> None:
    packages = checkout.root / ".venv/lib/python3.11/site-packages"
    packages.mkdir(parents=True)
    checkout.run("test", "-x")
    checkout.run("test", "-x")
    assert checkout.calls() == [VERSION, *installation("dev"), "pytest -x", "pytest -x"]
    (packages / "redis-9.dist-info").mkdir()
    checkout.run("test", "-x")
    assert checkout.calls() == [VERSION, *installation("dev"), "pytest -x"]


def test_an_environment_that_was_moved_is_not_used(checkout: Checkout, tmp_path: Path) -> None:
    checkout.run("demo")
    moved = tmp_path / "moved"
    checkout.root.rename(moved)
    assert in_script("print(bootstrap.is_usable())", moved).stdout == "False\n"


def test_a_failed_installation_ends_with_its_status_and_is_done_again(checkout: Checkout) -> None:
    checkout.program("python", 'case "$*" in *hashes*) exit 7;; esac')
    failed = checkout.run("demo")
    assert failed.returncode == 7
    assert "failed: " in failed.stderr
    assert checkout.calls() == [VERSION, installation("demo")[0]]
    checkout.program("python")
    checkout.run("demo")
    assert checkout.calls() == [VERSION, *installation("demo"), "mauntic-jobs demo"]


def test_two_at_once_install_once(checkout: Checkout) -> None:
    gate = checkout.root / "gate"
    os.mkfifo(gate)
    checkout.program("python", f'case "$*" in *hashes*) read line < "{gate}";; esac')
    runs = [subprocess.Popen(checkout.command("demo"), stderr=subprocess.PIPE, text=True)]
    wait_until(lambda: "hashes" in (checkout.root / "log").read_text(), "the installation")
    runs.append(subprocess.Popen(checkout.command("demo"), stderr=subprocess.PIPE, text=True))
    assert runs[1].stderr is not None
    assert runs[1].stderr.readline() == "waiting for another installation into .venv\n"
    gate.write_text("\n")
    for process in runs:
        with process:
            assert process.wait() == 0
    assert checkout.calls() == [VERSION, *installation("demo"), "mauntic-jobs demo", "mauntic-jobs demo"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_stopped_installation_leaves_no_pip_and_is_done_again(checkout: Checkout, number: signal.Signals) -> None:
    if number == signal.SIGKILL and sys.platform != "linux":
        pytest.skip("only Linux ends children with their parent")
    pid_file = checkout.root / "pid"
    wait = f'case "$*" in *hashes*) echo $$ > "{pid_file}.new"; mv "{pid_file}.new" "{pid_file}"; exec sleep 600;; esac'
    checkout.program("python", wait)
    with subprocess.Popen(checkout.command("demo"), stderr=subprocess.DEVNULL) as process:
        wait_until(pid_file.exists, "the installation")
        process.send_signal(number)
        assert process.wait() == (-number if number == signal.SIGKILL else 128 + number)
    pid = int(pid_file.read_text())
    wait_until(lambda: is_gone(pid), "the end of pip")
    checkout.program("python")
    checkout.calls()
    checkout.run("demo")
    assert checkout.calls() == [VERSION, *installation("demo"), "mauntic-jobs demo"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_the_next_run_waits_for_what_a_killed_one_left_behind(checkout: Checkout) -> None:
    gate = checkout.root / "gate"
    os.mkfifo(gate)
    checkout.program("python", f'case "$*" in *hashes*) exec 3<&0; (read line < "{gate}") & wait;; esac')
    with subprocess.Popen(checkout.command("demo"), stderr=subprocess.DEVNULL) as killed:
        wait_until(lambda: "hashes" in (checkout.root / "log").read_text(), "the installation")
        with gate.open("w"):
            killed.kill()
            killed.wait()
            checkout.program("python")
            waiting = subprocess.Popen(checkout.command("demo"), stderr=subprocess.PIPE, text=True)
            assert waiting.stderr is not None
            assert waiting.stderr.readline() == "waiting for another installation into .venv\n"
    with waiting:
        assert waiting.wait() == 0
    assert checkout.calls()[-3:] == [*installation("demo"), "mauntic-jobs demo"]


@pytest.mark.parametrize(
    ("words", "pytest_line"),
    [
        (["test"], "pytest -n 4 --dist worksteal"),
        (["test", "--quick"], "pytest -n 2 --dist worksteal -m unit and not slow"),
    ],
)
def test_all_checks_run_and_are_shown(checkout: Checkout, words: list[str], pytest_line: str) -> None:
    checkout.run(*words)
    checkout.calls()
    done = checkout.run(*words)
    first, beside = ["ruff format --check .", "ruff check ."], ["mypy", "lint-imports"]
    assert done.returncode == 0
    calls = checkout.calls()
    assert calls[:2] == first
    assert sorted(calls[2:]) == sorted([*beside, pytest_line])
    assert [call for call in calls if call in beside] == beside
    shown = pytest_line.replace("unit and not slow", "'unit and not slow'")
    assert done.stderr.splitlines() == [f"+ {line}" for line in (*first, shown, *beside)]


def test_a_failing_check_before_the_tests_ends_the_run_with_its_status(checkout: Checkout) -> None:
    checkout.run("test", "-x")
    checkout.calls()
    checkout.program("ruff", "exit 3")
    assert checkout.run("test").returncode == 3
    assert checkout.calls() == ["ruff format --check ."]


@pytest.mark.parametrize(("program", "calls"), [("mypy", 4), ("lint-imports", 5), ("pytest", 5)])
def test_a_failing_check_beside_the_tests_and_a_failing_test_give_their_status(
    checkout: Checkout, program: str, calls: int
) -> None:
    checkout.run("test", "-x")
    checkout.calls()
    checkout.program(program, "echo what is wrong; exit 3")
    done = checkout.run("test")
    assert (done.returncode, "what is wrong" in done.stdout + done.stderr) == (3, True)
    assert len(checkout.calls()) == calls


def test_arguments_run_only_pytest_with_them_and_its_status(checkout: Checkout) -> None:
    checkout.program("pytest", "exit 5")
    done = checkout.run("test", "-k", "a name")
    assert done.returncode == 5
    assert checkout.calls()[-1] == "pytest -k a name"
    assert "+ pytest -k 'a name'\n" in done.stderr


def test_settings_that_lead_out_of_the_environment_do_not_reach_it(checkout: Checkout) -> None:
    checkout.program("python", 'env > "$(dirname "$0")/env"')
    checkout.run("demo", PYTHONPATH="/elsewhere", PIP_TARGET="/elsewhere", PIP_INDEX_URL="https://index.example")
    environment = (checkout.root / ".venv" / "bin" / "env").read_text()
    assert "/elsewhere" not in environment
    assert "PIP_INDEX_URL=https://index.example" in environment


def test_without_ensurepip_the_error_says_what_to_install(checkout: Checkout) -> None:
    shutil.rmtree(checkout.root / ".venv")
    code = """
find_spec = bootstrap.importlib.util.find_spec
bootstrap.importlib.util.find_spec = lambda name: None if name == "ensurepip" else find_spec(name)
bootstrap.main(["demo"])
"""
    done = in_script(code, checkout.root)
    assert done.returncode == 78
    assert f"install python{sys.version_info.major}.{sys.version_info.minor}-venv" in done.stderr


def test_anything_else_is_a_usage_error(checkout: Checkout) -> None:
    done = checkout.run("deploy")
    assert done.returncode == 2
    assert "usage: " in done.stderr


@pytest.mark.parametrize("name", ["demo", "test"])
def test_the_wrapper_passes_over_interpreters_that_are_too_old(tmp_path: Path, name: str) -> None:
    scripts = tmp_path / "scripts"
    programs = tmp_path / "bin"
    for directory in (scripts, programs):
        directory.mkdir()
    shutil.copy(ROOT / "scripts" / name, scripts)
    dirname = shutil.which("dirname")
    assert dirname is not None
    (programs / "dirname").symlink_to(dirname)
    environment = {"PATH": str(programs)}
    command = ["/bin/sh", str(scripts / name), "a b"]
    missing = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (missing.returncode, missing.stdout) == (78, "")
    assert "no Python 3.11 or newer was found" in missing.stderr
    for python, status in (("python3", 1), ("python3.12", 0)):
        path = programs / python
        path.write_text(f'#!/bin/sh\n[ "$2" = -c ] && exit {status}\nprintf "%s\\n" {python} "$@"\n')
        path.chmod(0o755)
    found = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert found.stdout.splitlines() == ["python3.12", "-I", f"{scripts}/bootstrap.py", name, "a b"]
