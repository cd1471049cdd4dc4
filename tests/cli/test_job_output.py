import pytest

from mauntic_jobs.cli.job_output import Shown, show
from mauntic_jobs.runner.request import Report, Status
from tests.support import day


def _partial() -> Report:
    return Report("j", day("2026-10-05"), Status.SUCCEEDED, partial=True, problems=["trigger 7: no such segment"])


def test_quiet_still_tells_what_was_left_undone(capsys: pytest.CaptureFixture[str]) -> None:
    show(_partial(), Shown(json=False, quiet=True, skip_ok=True))
    assert capsys.readouterr() == ("", "j 2026-10-05/2026-10-06: trigger 7: no such segment\n")


def test_json_is_left_to_the_document_of_all_runs(capsys: pytest.CaptureFixture[str]) -> None:
    show(_partial(), Shown(json=True, quiet=False, skip_ok=False))
    assert capsys.readouterr() == ("", "")
