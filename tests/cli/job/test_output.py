import pytest

from mauntic_jobs.cli.job.output import Shown, show, show_withheld
from mauntic_jobs.errors import RefusedError
from mauntic_jobs.runner.request import Report, Status
from mauntic_jobs.timekeeping.window import Window
from tests.support import day


def _partial() -> Report:
    return Report("j", day("2026-10-05"), Status.SUCCEEDED, partial=True, problems=["trigger 7: no such segment"])


def test_quiet_still_tells_what_was_left_undone(capsys: pytest.CaptureFixture[str]) -> None:
    show(_partial(), Shown(json=False, quiet=True, skip_ok=True))
    assert capsys.readouterr() == ("", "j 2026-10-05/2026-10-06: trigger 7: no such segment\n")


def test_json_is_left_to_the_document_of_all_runs(capsys: pytest.CaptureFixture[str]) -> None:
    show(_partial(), Shown(json=True, quiet=False, skip_ok=False))
    assert capsys.readouterr() == ("", "")


def test_of_many_runs_what_was_withheld_is_one_table(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Shown(json=False, quiet=False, skip_ok=False, one_of_many=True)
    days = [day(f"2026-10-{number:02}") for number in range(1, 31)]
    reports = [_withheld(each, refused=each.start.day % 2 == 0) for each in days]
    for report in reports:
        show(report, shown)
    show_withheld(reports, shown)
    output, errors = capsys.readouterr()
    assert len(output.splitlines()) == 15
    lines = errors.splitlines()
    assert len(lines) == 15 + 1 + 31 + 2
    assert lines[15] == "j: 1,080 groups of 30 buckets withheld:"
    assert lines[16].split() == ["bucket", "reason", "groups", "organizations", "old", "total", "new", "total"]
    assert lines[17].split() == ["2026-10-01", "shrinks", "36", "12", "3,600", "600"]
    assert lines[-2] == "To see the groups of one: mauntic-jobs j --date 2026-10-01 --dry-run --compare"
    assert lines[-1].endswith("run the same command with --allow-shrink.")


def test_where_nothing_was_withheld_one_line_says_that_all_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    reports = [Report("j", day(f"2026-10-{number:02}"), Status.SUCCEEDED) for number in (1, 2, 3)]
    show_withheld(reports, Shown(json=False, quiet=False, skip_ok=False, one_of_many=True))
    show_withheld(reports, Shown(json=False, quiet=True, skip_ok=False, one_of_many=True))
    assert capsys.readouterr().err == "j: 3 windows done\n"


def _withheld(window: Window, *, refused: bool) -> Report:
    row = {"bucket": str(window.start.date()), "reason": "shrinks", "groups": 36, "organizations": 12}
    row |= {"old_total": 3600, "new_total": 600}
    sentence = "36 groups are withheld, because recorded values would fall"
    if refused:
        return Report("j", window, Status.FAILED, summary=[row], error=RefusedError(sentence, [row] * 20, [row]))
    return Report("j", window, Status.SUCCEEDED, partial=True, problems=[sentence], summary=[row])
