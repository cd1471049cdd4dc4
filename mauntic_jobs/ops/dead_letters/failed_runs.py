"""The dead letters of the ledger: runs that failed, or were lost, for a window that nobody has covered since."""

from datetime import datetime

from mauntic_jobs.config import Settings
from mauntic_jobs.job import Row
from mauntic_jobs.jobs.registry import jobs
from mauntic_jobs.ops.dead_letters.fingerprints import fingerprint
from mauntic_jobs.ops.dead_letters.letter import RUNS, DeadLetter
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres import Limits, Session
from mauntic_jobs.window import Window

_LARGEST_ID = 2**63 - 1

_sql = statements("dead_letters")


def failed_runs(session: Session, settings: Settings, since: datetime | None, until: datetime) -> list[DeadLetter]:
    """Return the failed runs whose window is still to be covered, oldest first; those before `since` are left out."""
    return [as_letter(row) for row in _open_runs(session, settings, None, since, until)]


def find(session: Session, settings: Settings, run: str, until: datetime) -> DeadLetter | None:
    """Return a failed run, or None if there is none of this number that is still to be covered."""
    if not (run.isascii() and run.isdigit() and int(run) <= _LARGEST_ID):
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
    return [row for row in rows if not _covered(row, settings)]


def _covered(row: Row, settings: Settings) -> bool:
    """Whether a later run has rebuilt the window as part of a larger one."""
    job = jobs().get(row["job"])
    if job is None:
        return False
    for start, end in row["later"]:
        window = Window(datetime.fromisoformat(start), datetime.fromisoformat(end))
        covered = job.coverage(window, job.options(), settings)
        if covered.start <= row["window_start"] and row["window_end"] <= covered.end:
            return True
    return False
