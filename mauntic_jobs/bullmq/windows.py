"""Windows of backfills that come by BullMQ: each is run in a process of its own."""

import subprocess
from collections.abc import Mapping

from mauntic_jobs.backfill.enqueue import window_of_job
from mauntic_jobs.errors import ExitCode, UsageError
from mauntic_jobs.runner.subprocesses import start_command
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.bullmq.job import UnrecoverableError

# How a window has ended that is in the ledger: the backfill, and not the queue, has it run again.
ENDED = {
    ExitCode.DONE: "done",
    ExitCode.PARTIAL: "done in part",
    ExitCode.FAILED: "failed",
    # Its plan is outdated, and the backfill is paused.
    ExitCode.REFUSED: "failed",
}


def start_window(data: Mapping[str, object], settings: Settings) -> subprocess.Popen[bytes]:
    """Start the run of the window that a job's data names. Raises UnrecoverableError for data that names none."""
    try:
        number, window, at_most = window_of_job(data)
    except (UsageError, ValueError) as error:
        raise UnrecoverableError(f"its window of a backfill cannot be read: {error}") from None
    words = ["backfill", "work", str(number), "--window", f"{window.start.isoformat()}/{window.end.isoformat()}"]
    words += [] if at_most is None else ["--at-most", str(at_most)]
    return start_command(words, settings, stdout=subprocess.PIPE)
