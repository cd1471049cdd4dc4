"""Output of backfills: a line a window, the table at the end, and the JSON documents."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby

from mauntic_jobs.backfill.coverage import BucketState
from mauntic_jobs.backfill.plan import PlannedWindow, Reprocess
from mauntic_jobs.backfill.store import Backfill, BackfillState, BackfillWindow, WindowState
from mauntic_jobs.cli.documents.backfills import BackfillDetailsJson, BackfillJson, BackfillWindowJson
from mauntic_jobs.cli.framework.output import counters_text, log, print_table
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.job import Row
from mauntic_jobs.runner.request import Report
from mauntic_jobs.telemetry.logs import emit, structured
from mauntic_jobs.timekeeping.window import Window

_COLUMNS = ("windows", "number", "state", "result")


def ended_window(report: Report) -> BackfillWindow:
    """Return the window of a run that has ended, as the ledger has it."""
    state = WindowState.DONE if report.error is None else WindowState.FAILED
    reason = str(report.error) if report.error is not None else "; ".join(report.problems) or None
    return BackfillWindow(report.window, "", state, reason, report.run_id, dict(report.counters))


def log_window(backfill: Backfill, each: BackfillWindow, ended: int) -> None:
    """Log that a window has ended: the `ended`-th of those that are to be run."""
    if structured():
        emit(
            "info" if each.state is WindowState.DONE else "error",
            "window ended",
            backfill=backfill.id,
            job=backfill.job,
            window=str(each.window),
            state=each.state.value,
            run=each.run,
            reason=each.reason,
            counters=each.counters,
            ended=ended,
            windows=backfill.to_run,
        )
        return
    log(f"{backfill.job} {each.window} {each.state} ({ended} of {backfill.to_run}): {_result(each)}")


def print_windows(windows: Sequence[BackfillWindow]) -> None:
    """Print windows as a table: those in a row that stand alike as one line."""
    print_table([_line(list(alike)) for _, alike in groupby(windows, _likeness)], columns=_COLUMNS)


def as_planned(plan: Iterable[PlannedWindow]) -> list[BackfillWindow]:
    """Return the windows of a plan, oldest first, as they would stand at first."""
    return [
        BackfillWindow(
            each.window,
            each.found.value,
            WindowState.WAITING if each.skipped is None else WindowState.SKIPPED,
            each.reason if each.skipped is None else each.skipped,
            None,
            {},
        )
        for each in sorted(plan, key=lambda each: each.window)
    ]


def exit_code(backfill: Backfill) -> ExitCode:
    """Return the exit code for how a backfill stands: partial unless all is done, failed if nothing is."""
    counts = backfill.counts
    if counts[WindowState.DONE] == backfill.to_run and not backfill.partial:
        return ExitCode.DONE
    return ExitCode.PARTIAL if counts[WindowState.DONE] or not counts[WindowState.FAILED] else ExitCode.FAILED


def summary(backfill: Backfill) -> str:
    """Return how a backfill stands, as a sentence, with the command that goes on."""
    counts = ", ".join(f"{number:,} {state}" for state, number in backfill.counts.items() if number)
    text = f"backfill {backfill.id} of {backfill.job} is {_state(backfill)}: {counts}."
    if backfill.state is BackfillState.ENDED and backfill.counts[WindowState.FAILED]:
        text += f" To try the failed ones again: mauntic-jobs backfill resume {backfill.id} --failed-only"
    elif backfill.ended_at is None:
        text += f" To go on: mauntic-jobs backfill resume {backfill.id}"
    return text


def backfill_line(backfill: Backfill) -> Row:
    """Return a backfill as a row of a table."""
    return {
        "id": backfill.id,
        "job": backfill.job,
        "windows": str(backfill.window),
        "state": _state(backfill),
        "done": f"{backfill.counts[WindowState.DONE]:,} of {backfill.to_run:,}",
        "failed": backfill.counts[WindowState.FAILED],
        "skipped": backfill.counts[WindowState.SKIPPED],
        "started": backfill.created_at,
        "reason": backfill.reason,
    }


def backfill_json(backfill: Backfill) -> BackfillJson:
    """Return a backfill for JSON."""
    counts = backfill.counts
    return {
        "id": backfill.id,
        "job": backfill.job,
        "window": {"start": backfill.window.start, "end": backfill.window.end},
        "options": backfill.options,
        "reprocess": [Reprocess(each) for each in backfill.reprocess],
        "newest_first": backfill.newest_first,
        "parallel": backfill.parallel,
        "stop_after_failures": backfill.stop_after_failures,
        "state": backfill.state,
        "reason": backfill.reason,
        "created_at": backfill.created_at,
        "worked_at": backfill.worked_at,
        "ended_at": backfill.ended_at,
        "abandoned": backfill.abandoned,
        "windows": {
            "done": counts[WindowState.DONE],
            "partial": backfill.partial,
            "failed": counts[WindowState.FAILED],
            "skipped": counts[WindowState.SKIPPED],
            "running": counts[WindowState.RUNNING],
            "waiting": counts[WindowState.WAITING],
            "canceled": counts[WindowState.CANCELED],
        },
    }


def details_json(backfill: Backfill, windows: Iterable[BackfillWindow]) -> BackfillDetailsJson:
    """Return a backfill with its windows for JSON."""
    return {**backfill_json(backfill), "each": [window_json(each) for each in windows]}


def window_json(each: BackfillWindow) -> BackfillWindowJson:
    """Return a window of a backfill for JSON."""
    return {
        "window": {"start": each.window.start, "end": each.window.end},
        "found": BucketState(each.found),
        "state": each.state,
        "reason": each.reason,
        "run": each.run,
        "counters": each.counters,
    }


def _state(backfill: Backfill) -> str:
    if backfill.abandoned:
        return f"{backfill.state}, and no process works on it"
    return f"{backfill.state} ({backfill.reason})" if backfill.reason else str(backfill.state)


def _likeness(each: BackfillWindow) -> tuple[str, str | None]:
    """Return what windows have in common that are shown as one line."""
    if each.state in (WindowState.SKIPPED, WindowState.WAITING):
        return each.state, each.found
    return each.state, each.reason


def _line(alike: Sequence[BackfillWindow]) -> Row:
    first = alike[0]
    return {
        "windows": str(Window(first.window.start, alike[-1].window.end)),
        "number": len(alike),
        "state": first.state.value,
        "result": _results(alike),
    }


def _results(alike: Sequence[BackfillWindow]) -> str:
    """Return what windows that stand alike have come to, in one text."""
    first = alike[0]
    if first.state is WindowState.DONE and not first.reason:
        counters: Counter[str] = Counter()
        for each in alike:
            counters.update(each.counters)
        return counters_text(counters)
    results = {_result(each) for each in alike}
    return results.pop() if len(results) == 1 else first.found


def _result(each: BackfillWindow) -> str:
    if each.reason:
        return each.reason
    return counters_text(each.counters) if each.state is WindowState.DONE else each.found
