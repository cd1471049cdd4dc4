"""Recovery after Redis lost its data: what Postgres owes is put back, and what only Redis knew is named.

Everything can be done again at any time: a job that is on its queue is not added a second time, and what has been sent
or has moved since is not wanted any more.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from mauntic_jobs.bullmq.queue import queue_of
from mauntic_jobs.bullmq.schedules import Registration, ScheduledJob, register_scheduled_jobs
from mauntic_jobs.delivery.ledger.reconcile import reconcile
from mauntic_jobs.job import AnyJob, Row
from mauntic_jobs.ops.queues import EXECUTE_STEP
from mauntic_jobs.recovery.marker import Loss, close_loss, mark
from mauntic_jobs.runner.outbox import publish
from mauntic_jobs.runner.request import Launcher
from mauntic_jobs.runner.schedule_settings import as_stored, read_stored
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.stores.redis.client import RedisScripts

_PAGE = 500

_sql, _outbox = statements("recovery"), statements("outbox")


@dataclass
class Recovery:
    """What was put back, or would be.

    `loss` is what was noticed. `messages` and `executions` count those put on their queues, of `owed` and `unmoved`
    ones; of `lost` messages only the producer has the content; `sending` are in the hands of a process, which may have
    died less than a minute ago. `schedulers` names jobs whose BullMQ scheduler was gone.
    `campaigns` and `journeys` are rows of what only Redis knew: campaigns with messages that no process had claimed,
    and journeys with executions that had moved.
    """

    loss: Loss | None
    owed: int = 0
    messages: int = 0
    lost: int = 0
    sending: int = 0
    unmoved: int = 0
    executions: int = 0
    schedulers: list[str] = field(default_factory=list)
    campaigns: list[Row] = field(default_factory=list)
    journeys: list[Row] = field(default_factory=list)


def recover(
    session: Session,
    redis: RedisScripts,
    settings: Settings,
    jobs: Sequence[AnyJob],
    now: datetime,
    *,
    dry_run: bool,
) -> Recovery:
    """Put back what Postgres knows of, and close the loss; with `dry_run` only count."""
    done = Recovery(mark(session, redis, settings, now))
    messages = reconcile(session, redis, settings, now, dry_run=dry_run)
    done.owed, done.messages, done.lost = messages.owed, messages.queued, messages.lost
    done.sending = messages.sending
    done.campaigns = messages.missing
    for page in _unmoved(session):
        exist = redis.commands(("EXISTS", _step_key(settings, row)) for row in page)
        lost = [row["id"] for row, exists in zip(page, exist, strict=True) if not exists]
        done.unmoved += len(page)
        done.executions += len(lost)
        if not dry_run:
            session.execute(_outbox["unpublish"], {"ids": lost})
    if not dry_run:
        publish(session, redis, settings, now)
    done.schedulers = _schedulers(session, settings, jobs, now, dry_run=dry_run)
    done.journeys = session.rows(_sql["under_way"])
    if not dry_run:
        close_loss(session, settings, now)
    return done


def _unmoved(session: Session) -> Iterator[list[Row]]:
    after = 0
    while page := session.rows(_outbox["unmoved"], {"after": after, "limit": _PAGE}):
        yield page
        after = page[-1]["id"]


def _step_key(settings: Settings, row: Row) -> str:
    return f"{settings.queue_prefix}:{EXECUTE_STEP}:{row['job_id']}"


def _schedulers(
    session: Session, settings: Settings, jobs: Sequence[AnyJob], now: datetime, *, dry_run: bool
) -> list[str]:
    """Register the schedulers of the jobs that BullMQ launched last, where none is there; return their names."""
    rows = session.rows(_sql["launchers"], {"jobs": [job.name for job in jobs]})
    launched = {row["job"] for row in rows if row["launcher"] == Launcher.BULLMQ}
    added = []
    stored = read_stored(session)
    for job in (as_stored(job, stored.get(job.name)) for job in jobs if job.name in launched):
        wanted = ScheduledJob(job.name, job.cron)
        found = register_scheduled_jobs(queue_of(job, settings), [wanted], now=now, dry_run=dry_run, exclusive=True)
        if found[job.name] in (Registration.ADDED, Registration.RESTARTED):
            added.append(job.name)
    return added
