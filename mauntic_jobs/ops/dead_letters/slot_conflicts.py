"""The slot that a scheduled job's dead letter answers: its failed run holds it, and would answer the retry as well."""

from datetime import UTC, datetime

from mauntic_jobs.ops.dead_letters.dead_letter import DeadLetter
from mauntic_jobs.ops.dead_letters.store import DeadLetters
from mauntic_jobs.runner.request import Status
from mauntic_jobs.runner.schedule_settings import as_stored, read_stored
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.bullmq.job import slot_of
from mauntic_jobs.timekeeping.cron import latest_slot
from mauntic_jobs.timekeeping.window import Window

_sql = statements("dead_letters")
_MIN_INSTANT = datetime(1970, 1, 2, tzinfo=UTC)


def free_slot(box: DeadLetters, letter: DeadLetter) -> str | None:
    """Let the slot of a letter be claimed again if its run has failed; return why it must not be, or None."""
    job = next((job for job in box.queue(letter.queue).jobs if job.name == letter.name), None)
    due = slot_of(letter.id) or letter.added_at
    if job is None or due < _MIN_INSTANT:
        return None
    slot = latest_slot(as_stored(job, read_stored(box.session).get(job.name)).cron, due)
    holder = next(iter(box.session.rows(_sql["slot_holder"], {"job": job.name, "slot": slot})), None)
    if holder is None:
        return None
    if holder["status"] == Status.FAILED:
        box.session.execute(_sql["free_slot"], {"id": holder["id"]})
        return None
    if holder["status"] == Status.RUNNING:
        return f"run {holder['id']} is at its slot: look again when it has ended"
    return (
        f"run {holder['id']} has answered its slot ({holder['status']}): discard it, or run the window again with "
        f"`mauntic-jobs {job.name} --window {Window.before(slot, job.unit)}`"
    )
