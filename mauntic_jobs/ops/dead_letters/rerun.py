"""Second run of a failed run's window."""

from collections.abc import Callable

from pydantic import ValidationError

from mauntic_jobs.errors import MaunticJobsError
from mauntic_jobs.jobs.registry import find_job
from mauntic_jobs.ops.dead_letters.batch_action import ActionOutcome, Fate
from mauntic_jobs.ops.dead_letters.dead_letter import DeadLetter
from mauntic_jobs.ops.dead_letters.store import DeadLetters
from mauntic_jobs.runner.backfill import run_all, split
from mauntic_jobs.runner.history import show_run
from mauntic_jobs.runner.request import Launcher, Request
from mauntic_jobs.timekeeping.window import Window


def rerun(box: DeadLetters, letter: DeadLetter, log: Callable[[str], None]) -> ActionOutcome:
    """Run the job of a failed run for its window, with its options, and return whether that has succeeded."""
    try:
        request = _request(box, letter, log)
    except MaunticJobsError as error:
        return ActionOutcome(letter, Fate.REFUSED, str(error))
    except ValidationError:
        return ActionOutcome(letter, Fate.REFUSED, "the job no longer has the options that the run was given")
    for report in run_all(split(request)):
        if report.overlapped:
            return ActionOutcome(letter, Fate.REFUSED, str(report.error))
        if report.error is not None:
            return ActionOutcome(letter, Fate.FAILED, f"run {report.run_id} of {report.window}: {report.error}")
        log(f"{report.job} {report.window} {report.status.value} (run {report.run_id})")
    return ActionOutcome(letter, Fate.DONE)


def _request(box: DeadLetters, letter: DeadLetter, log: Callable[[str], None]) -> Request:
    job = find_job(letter.name).configured(box.settings)
    row = show_run(box.session, int(letter.id))
    window = Window(row["window_start"], row["window_end"])
    options = job.options.from_ledger(row["options"])
    return Request(
        job=job,
        window=window,
        coverage=job.coverage(window, options, box.settings),
        options=options,
        settings=box.settings,
        launcher=Launcher.BACKFILL,
        now=box.now,
        log=log,
    )
