"""Start of the program: each command imports what it uses, and the outline of the commands is what they say."""

import subprocess
import sys
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from mauntic_jobs.cli.main import application, program
from mauntic_jobs.cli.outline import COMMANDS, JOBS
from mauntic_jobs.jobs.plugins import RESERVED
from mauntic_jobs.jobs.registry import JOBS as REGISTRY
from tests.support import APP

PLAIN = {"GITHUB_ACTIONS": "", "PY_COLORS": ""}
WHOLE: Any = get_command(APP)

_TYPER, _SETTINGS, _STORES, _ALL = "Typer", "and the settings", "and Postgres", "and Redis, delivery"
# How many modules a command has imported when it begins, without those of Python, at most; and what most of them are.
# A change that raises a number has to give a reason for it: cron starts the program every minute.
MOST_MODULES = {
    "--version": (52, _TYPER),
    "--help": (54, _TYPER),
    "unknown": (54, _TYPER),
    "help": (54, _TYPER),
    "version": (54, _TYPER),
    "demo": (126, "and pydantic, whose models are the rows it shows"),
    "config": (156, _SETTINGS),
    "dev": (161, _SETTINGS),
    "alerts": (216, _STORES),
    "enqueue": (226, _STORES),
    "new-job": (133, "and the registry of jobs, which checks the name"),
    "runs": (230, _STORES),
    "outbox": (243, _STORES),
    "coverage": (241, _STORES),
    "verify": (283, "and what runs jobs, for the repair, and the options that commands share"),
    "doctor": (166, "and the jobs, whose schedule it checks"),
    "explain": (275, "and the jobs whose figures and entries it explains, with their schedule"),
    "show": (239, "and the jobs whose figures it shows"),
    "aggregate-hourly": (272, "and every job, for the slots that come before its own"),
    "db": (286, _STORES),
    "metrics": (307, "and what is counted: jobs, queues, deliveries, the outbox"),
    "monitor": (298, "and the conditions that it looks for"),
    "backfill": (298, "and BullMQ's queues, on which it may put windows"),
    "deliveries": (310, _ALL),
    "work": (326, "and BullMQ's queues"),
    "recover": (314, _ALL),
    "status": (337, "and backfills, and the lanes in which messages wait for a provider"),
    "providers": (299, _ALL),
    "schedule": (
        296,
        "and the jobs; what runs them, and the conditions of alerts, come once something is due or wrong",
    ),
    "dlq": (358, "and Redis, delivery, and the options that commands share"),
    "deliver": (411, "and the writers of messages, and where the settings file lies"),
}
_COUNT = """
import sys
from typer.main import get_command
from mauntic_jobs.cli.main import program

get_command(program(sys.argv[1]))
print(*sorted(name for name in sys.modules if name.partition(".")[0] not in {*sys.stdlib_module_names, "__main__"}))
"""


@pytest.mark.parametrize("word", MOST_MODULES)
def test_a_command_imports_no_more_than_it_did(word: str) -> None:
    process = subprocess.run([sys.executable, "-c", _COUNT, word], capture_output=True, text=True, check=True)
    loaded = process.stdout.split()
    most, _ = MOST_MODULES[word]
    assert len(loaded) <= most, loaded
    assert "mauntic_jobs.cli.main" in loaded


def test_every_command_has_a_number() -> None:
    assert {*COMMANDS} <= {*MOST_MODULES}
    assert {*COMMANDS} == RESERVED


def test_the_outline_says_of_each_command_what_it_says_itself() -> None:
    outline: Any = get_command(program(None))
    assert {**JOBS, **COMMANDS}.keys() == {*WHOLE.commands} == {*outline.commands}
    assert [*JOBS] == [*REGISTRY]
    whole, named = (
        CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200", **PLAIN}) for app in (APP, program(None))
    )
    assert (named.exit_code, named.stdout) == (0, whole.stdout)


@pytest.mark.parametrize("line", [[], ["-h"], ["shedule"], ["deliverr", "--help"], ["--nonsense"], ["--", "shedule"]])
def test_what_is_answered_without_a_command_is_the_same(line: list[str]) -> None:
    part, whole = (CliRunner().invoke(app, line, prog_name="mauntic-jobs", env=PLAIN) for app in _programs(line))
    assert (part.exit_code, part.stdout, part.stderr) == (whole.exit_code, whole.stdout, whole.stderr)
    assert part.stdout or part.stderr


def _programs(line: list[str]) -> tuple[Any, Any]:
    return program(line[0] if line else None), application()
