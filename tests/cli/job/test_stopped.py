"""A run that an operator stops: nothing is red afterwards, and the message names the command that goes on."""

import json
import shlex
from collections.abc import Iterator
from signal import SIGINT

import pytest
from typer.testing import CliRunner, Result

from mauntic_jobs.cli.job import commands
from mauntic_jobs.errors import Interrupted
from mauntic_jobs.runner.backfill import run_all
from mauntic_jobs.runner.history import list_runs
from mauntic_jobs.runner.request import Report, Request
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session
from tests.support import APP, Event, add_events, contact, organization, stored_rollups, utc

_EVENTS = [
    Event(organization(1), contact(1), "email_opened", utc(f"2026-10-0{number}T10:00")) for number in (5, 6, 7, 8)
]


def _invoke(settings: Settings, *words: str) -> Result:
    url = settings.database_url
    assert url
    return CliRunner().invoke(APP, words, prog_name="mauntic-jobs", env={"DATABASE_URL": url.get_secret_value()})


def _stopped_after(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def some(requests: list[Request]) -> Iterator[Report]:
        yield from run_all(requests[:number])
        raise Interrupted(SIGINT)

    monkeypatch.setattr(commands, "run_all", some)


def test_the_message_says_what_is_done_and_its_command_goes_on(
    direct_settings: Settings, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_events(session, _EVENTS)
    line = ("aggregate-hourly", "--window", "2026-10-05/2026-10-09", "--allow-shrink", "--grace", "0s")
    with monkeypatch.context() as patch:
        _stopped_after(2, patch)
        done = _invoke(direct_settings, *line)
    assert done.exit_code == 130
    message, _, command = done.stderr.rpartition("To go on: mauntic-jobs ")
    assert "stopped by signal 2. 2 of 4 windows are done, up to 2026-10-07. Not done: 2026-10-07/2026-10-09." in message
    assert len(stored_rollups(session)) == 2
    assert _invoke(direct_settings, *shlex.split(command)).exit_code == 0
    assert len(stored_rollups(session)) == 4
    assert shlex.split(command)[:3] == ["aggregate-hourly", "--window", "2026-10-07/2026-10-09"]
    assert "--allow-shrink" in command


def test_json_is_one_document_all_the_same(
    direct_settings: Settings, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_events(session, _EVENTS)
    _stopped_after(1, monkeypatch)
    done = _invoke(direct_settings, "aggregate-hourly", "--window", "2026-10-05/2026-10-09", "--json")
    shown = json.loads(done.stdout)
    assert (shown["exit_code"], [run["status"] for run in shown["runs"]]) == (130, ["succeeded"])


def test_a_stopped_run_is_no_failure_anywhere(
    direct_settings: Settings, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_arguments: object) -> None:
        raise Interrupted(SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr("mauntic_jobs.runner.commit.check_plausibility", stop)
        assert _invoke(direct_settings, "aggregate-hourly").exit_code == 130
    assert [row["status"] for row in list_runs(session)] == ["stopped"]
    status = json.loads(_invoke(direct_settings, "status", "--json").stdout)
    assert not [each for each in status["findings"] if each["urgent"]]
    assert [each["result"] for each in status["jobs"] if each["job"] == "aggregate-hourly"] == ["stopped"]
