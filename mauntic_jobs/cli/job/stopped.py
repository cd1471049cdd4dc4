"""Message about a run that an operator stopped: what is done, what is not, and the command that goes on."""

import shlex
from collections.abc import Sequence
from datetime import timedelta

from mauntic_jobs.errors import Interrupted
from mauntic_jobs.job import as_arguments
from mauntic_jobs.runner.request import Report, Request
from mauntic_jobs.timekeeping.window import Window, format_duration
from mauntic_jobs.wording import plural


def stopped_text(request: Request, signal: Interrupted, reports: Sequence[Report], left: Sequence[Request]) -> str:
    """Return what an operator needs to know after `signal`: `reports` are of the runs made, `left` those that were not.

    The run that the signal met is among those left: it was rolled back.
    """
    name = request.job.name
    if not left:
        return f"{name}: {signal} after its last run had ended."
    rest = Window(left[0].window.start, left[-1].window.end)
    done = "Nothing was written."
    if reports:
        windows = f"{len(reports):,} of {plural(len(reports) + len(left), 'window')}"
        end = str(reports[-1].window).partition("/")[2]
        done = f"{windows} {'is' if len(reports) == 1 else 'are'} done, up to {end}. Not done: {rest}."
    again = "" if not request.claim_slot else " Its slot is due again, and the clock runs it."
    return f"{name}: {signal}. {done}{again} To go on: {_command(request, rest)}"


def _command(request: Request, rest: Window) -> str:
    if request.claim_slot:
        return "mauntic-jobs schedule run"
    given = request.options.model_dump(exclude_defaults=True)
    texts = {name: format_duration(each) if isinstance(each, timedelta) else each for name, each in given.items()}
    options = as_arguments(texts)
    words = ["mauntic-jobs", request.job.name, "--window", str(rest), *options]
    return shlex.join([*words, *(["--dry-run"] if request.dry_run else [])])
