"""The dead letters of the ledger: runs that failed, or were lost, for a window that no later run has covered."""

from collections.abc import Sequence
from datetime import datetime

from mauntic_jobs.job import Row
from mauntic_jobs.jobs.registry import jobs
from mauntic_jobs.ops.dead_letters.dead_letter import RUNS, DeadLetter
from mauntic_jobs.ops.dead_letters.error_fingerprint import fingerprint
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Limits, Session
from mauntic_jobs.timekeeping.window import Window

_MAX_ID = 2**63 - 1
_PAGE = 500
# The start and the end of a window, None where there is none.
_Span = tuple[datetime | None, datetime | None]

_sql = statements("dead_letters")


def failed_runs(session: Session, settings: Settings, since: datetime | None, until: datetime) -> list[DeadLetter]:
    """Return the failed runs whose window is still to be covered, oldest first; those before `since` are left out."""
    return [as_letter(row) for row in _open_runs(session, settings, None, since, until)]


def find(session: Session, settings: Settings, run: str, until: datetime) -> DeadLetter | None:
    """Return a failed run, or None if there is none of this number that is still to be covered."""
    if not (run.isascii() and run.isdigit() and int(run) <= _MAX_ID):
        return None
    return next((as_letter(row) for row in _open_runs(session, settings, int(run), None, until)), None)


def as_letter(row: Row) -> DeadLetter:
    """Return a failed run as a dead letter."""
    error = row["error"] or "(no reason was given)"
    window = Window(row["window_start"], row["window_end"])
    return DeadLetter(
        queue=RUNS,
        id=str(row["id"]),
        name=row["job"],
        error=error,
        fingerprint=fingerprint(f"{RUNS}/{row['job']}", error),
        attempts=row["attempt"],
        failed_at=row["finished_at"],
        added_at=row["started_at"],
        payload={"window": str(window), "options": row["options"]},
    )


def _open_runs(
    session: Session, settings: Settings, run: int | None, since: datetime | None, until: datetime
) -> list[Row]:
    present = [job.name for job in jobs().values() if job.bucket is None]
    parameters = {"id": run, "since": since, "until": until, "present": present}
    with session.transaction(Limits("mauntic-jobs dlq")):
        rows = session.rows(_sql["failed_runs"], parameters)
    left = [row for row in rows if not _covered(row, [(row["next_start"], row["next_end"])], settings)]
    later = _later_windows(session, left, settings)
    return [row for row in left if not _covered(row, later.get(row["id"], []), settings)]


def _later_windows(session: Session, rows: Sequence[Row], settings: Settings) -> dict[int, list[_Span]]:
    """Return the windows that have succeeded since each run, by its id, as far off as one that covers it can be."""
    asked = [(row["id"], reach) for row in rows if (reach := _reach(row, settings))]
    found: dict[int, list[_Span]] = {}
    for first in range(0, len(asked), _PAGE):
        page = asked[first : first + _PAGE]
        columns = {
            "ids": [run for run, _ in page],
            "starts": [reach.start for _, reach in page],
            "ends": [reach.end for _, reach in page],
        }
        with session.transaction(Limits("mauntic-jobs dlq")):
            answers = session.rows(_sql["later_windows"], columns)
        for row in answers:
            found[row["id"]] = [
                (datetime.fromisoformat(start), datetime.fromisoformat(end)) for start, end in row["windows"]
            ]
    return found


def _reach(row: Row, settings: Settings) -> Window | None:
    """Return from when until when windows can cover a run's, or None if its job is not known."""
    job = jobs().get(row["job"])
    if job is None:
        return None
    covered = job.coverage(Window(row["window_start"], row["window_end"]), job.options(), settings)
    # One unit for the window's own place in it, one for a job that rebuilds the unit before as well.
    longest = 2 * (covered.end - covered.start)
    return Window(row["window_start"] - longest, row["window_end"] + longest)


def _covered(row: Row, later: Sequence[_Span], settings: Settings) -> bool:
    """Whether a later run has rebuilt the window as part of a larger one."""
    job = jobs().get(row["job"])
    if job is None:
        return False
    for start, end in later:
        if start is None or end is None:
            continue
        covered = job.coverage(Window(start, end), job.options(), settings)
        if covered.start <= row["window_start"] and row["window_end"] <= covered.end:
            return True
    return False
