"""The reason why a delivery is where it is: what the ledger, its queue, limits and pauses say of it."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from mauntic_jobs.delivery.admission.lanes import lane_of, scores_of
from mauntic_jobs.delivery.admission.restrictions import restriction_name
from mauntic_jobs.delivery.ledger.queries import find_deliveries
from mauntic_jobs.delivery.ledger.records import State
from mauntic_jobs.errors import UsageError
from mauntic_jobs.job import Row
from mauntic_jobs.ops.explain.queued_job import MAX_SEARCHED, QueuedJob, find_job, search_job
from mauntic_jobs.ops.providers.limits import ProviderLimit, read_limits
from mauntic_jobs.ops.restrictions import effect_of, end_words, list_restrictions, scope_of
from mauntic_jobs.ops.turn_weights import list_weights
from mauntic_jobs.ops.warmup import waiting_domain, warmup_plans
from mauntic_jobs.redaction.payloads import mask_text
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.bullmq.job import due_of
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.stores.redis.client import RedisScripts
from mauntic_jobs.timekeeping.window import format_duration
from mauntic_jobs.wording import plural

_pauses_sql = statements("pauses")

_ENDED = (State.SENT, State.FAILED, State.SUPPRESSED, State.EXPIRED)
_MAX_RESTRICTIONS = 100_000


@dataclass(frozen=True)
class Explanation:
    """Where a delivery is and why. `before` messages of its organization go out first, which takes about `seconds`.

    `state` is the ledger's, or says where its job stands: `in hand`, `waiting` for its turn, `held` by a limit or a
    pause, `delayed`, `dead letter` or `done`. `command` shows more, or puts it right.
    """

    delivery: str
    organization: UUID | None
    channel: str
    state: str
    because: str
    queue_job: str | None = None
    before: int | None = None
    seconds: float | None = None
    until: datetime | None = None
    command: str | None = None


def explain(
    session: Session, redis: RedisScripts, settings: Settings, name: str, organization: UUID | None, now: datetime
) -> Explanation:
    """Return why a delivery, by its id or by the id of its job, is where it is.

    Raises UsageError if neither the ledger nor a queue knows it, or several organizations have it.
    """
    rows = find_deliveries(session, name, organization)
    if len(rows) > 1:
        raise UsageError(f"{len(rows)} organizations have a delivery {name}: say which with --org.")
    if not rows:
        job = find_job(redis, settings, [name]) or search_job(redis, settings, name, organization)
        if job is None:
            raise UsageError(
                f"Neither the ledger nor a queue knows {name}. Of a long queue {MAX_SEARCHED:,} jobs are searched; "
                "the id of its job finds it at once."
            )
        return _QueuedDelivery(session, redis, settings, job, None, now).explanation(name)
    (row,) = rows
    if row["state"] in _ENDED:
        over = f" over {row['provider']}" if row["provider"] and row["state"] == State.SENT else ""
        because = f"{row['state']}{over} at {_time(row['updated_at'])}{_reason(row)}"
        return _known(row, because, f"mauntic-jobs deliveries show {row['delivery_id']}")
    job = find_job(redis, settings, [row["queue_job"], name])
    if job is None:
        because = f"{row['state']}, and no job asks for it{_reason(row)}"
        return _known(row, because, "mauntic-jobs deliveries reconcile")
    return _QueuedDelivery(session, redis, settings, job, row, now).explanation(name)


def _known(row: Row, because: str, command: str) -> Explanation:
    return Explanation(
        *(row["delivery_id"], row["organization_id"], row["channel"], row["state"], because, row["queue_job"]),
        command=command,
    )


def _reason(row: Row) -> str:
    return f": {mask_text(row['reason'])}" if row["reason"] else ""


def _time(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


@dataclass(frozen=True)
class _QueuedDelivery:
    """A delivery with a job on a queue; `row` is what the ledger knows of it."""

    session: Session
    redis: RedisScripts
    settings: Settings
    job: QueuedJob
    row: Row | None
    now: datetime

    def explanation(self, name: str) -> Explanation:
        """Return where the job is and why."""
        base, job = self.job.base, self.job.id
        *scores, paused, place = self.redis.commands(
            [
                *(["ZSCORE", f"{base}:{key}", job] for key in ("prioritized", "delayed", "failed", "completed")),
                ["HEXISTS", f"{base}:meta", "paused"],
                ["LPOS", f"{base}:active", job],
            ]
        )
        parked, delayed, failed, completed = (None if each is None else float(each) for each in scores)
        delivery = name if self.row is None else self.row["delivery_id"]
        deliver = f"mauntic-jobs deliver {self.job.channel}"
        if failed is not None or completed is not None:
            ended = {"done": "its job is done, and the ledger does not know it", "dead letter": self.job.error}
            state = "done" if failed is None else "dead letter"
            return self._answer(delivery, state, ended[state], command="mauntic-jobs dlq list")
        if place is not None:
            since = f" since {_time(self.job.taken_at)}" if self.job.taken_at else ""
            return self._answer(delivery, "in hand", f"a process has it in hand{since}")
        if delayed is not None:
            return self._delayed(delivery, datetime.fromtimestamp(due_of(delayed), UTC))
        if paused:
            return self._answer(delivery, "held", "the platform has paused the queue, and resumes it")
        if parked is None or parked >= 0:
            because = "no process of deliver has sorted it yet: does one run?"
            return self._answer(delivery, "waiting", because, command=deliver)
        return self._parked(delivery, parked, deliver)

    def _delayed(self, delivery: str, until: datetime) -> Explanation:
        """Return what a job waits for that comes back at a time."""
        if (domain := waiting_domain(self.row["reason"] if self.row is not None else None)) is not None:
            return self._warming_up(delivery, domain, until)
        reason = _reason(self.row) if self.row is not None else f": {self.job.error}" if self.job.error else ""
        return self._answer(delivery, "delayed", f"it is tried again at {_time(until)}{reason}", until=until)

    def _warming_up(self, delivery: str, name: str, until: datetime) -> Explanation:
        """Return what a message waits for that found its domain's limit of the day used up."""
        plan = next(iter(warmup_plans(self.session, self.now, self.job.organization, name)), None)
        if plan is None:
            because = f"its domain {name} is not warmed up any more, and it is tried again at {_time(until)}"
            return self._answer(delivery, "held", because, until=until)
        used = f"{plan.domain.sent:,} of {plan.domain.limit:,} messages today"
        because = f"warm-up of {name}: {used}, until {_time(until)}; {plural(plan.waiting, 'message')} of it wait"
        command = f"mauntic-jobs deliveries warm-up --org {self.job.organization} --domain {name}"
        return self._answer(delivery, "held", because, until=until, command=command)

    def _parked(self, delivery: str, score: float, deliver: str) -> Explanation:
        """Return what a sorted job waits for: a restriction, a rate limit, or its turn."""
        lane = lane_of(score)
        first, _ = scores_of(lane)
        # Messages of the same moment have the same score.
        blocker, rank, others = self.redis.commands(
            [
                ["HGET", f"{self.job.base}:adm:where", lane],
                ["ZRANK", f"{self.job.base}:prioritized", self.job.id],
                ["ZCOUNT", f"{self.job.base}:prioritized", "-inf", f"({first}"],
            ]
        )
        before = max(0, (rank or 0) - others)
        if blocker is None:
            because = f"its turn comes with those of the other organizations{self._weight()}"
            return self._answer(delivery, "waiting", because, before=before, command=deliver)
        if blocker.startswith(b"~"):
            because = "messages of its organization take long or fail: as many of them as may be at once are in hand"
            return self._answer(delivery, "waiting", because, before=before)
        held_by = blocker.decode(errors="replace").removeprefix("!")
        row = self._restriction(held_by)
        if row is not None:
            held = f"{effect_of(row['rate'])} {end_words(row['until'])} ({scope_of(row)})"
            return self._answer(
                *(delivery, "held", f"{held}, by {row['set_by']}: {row['why']}"),
                before=before,
                seconds=before / row["rate"] if row["rate"] else None,
                until=row["until"],
                command=f"mauntic-jobs deliveries resume {row['id']}",
            )
        if blocker.startswith(b"!"):
            because = "a pause has just ended, and messages go out slowly at first"
            return self._answer(delivery, "held", because, before=before)
        return self._limited(delivery, held_by, before)

    def _limited(self, delivery: str, provider: str, before: int) -> Explanation:
        if (pause := self._failing(provider)) is not None:
            tries = plural(pause["tries"], "try", "tries")
            return self._answer(
                *(
                    delivery,
                    "held",
                    f"{pause['provider']} fails since {_time(pause['since'])} ({tries}){_reason(pause)}",
                ),
                before=before,
                until=pause["until"],
                command=f"mauntic-jobs providers check --org {self.job.organization} --retry-now",
            )
        limits = read_limits(self.redis, self.settings, self.now, self.job.organization)
        mine = (each for each in limits if each.channel == self.job.channel and str(each.provider) == provider)
        limit: ProviderLimit | None = next(mine, None)
        because, seconds, until = f"provider {provider} was limited a moment ago", None, None
        if limit is not None and limit.paused_until is not None:
            until = limit.paused_until
            because = f"provider {provider} asks to be left alone until {_time(until)}"
        elif limit is not None and limit.full_until is not None:
            until = limit.full_until
            allowed = f" of {limit.daily:,} messages" if limit.daily is not None else ""
            because = f"provider {provider} has used up its day{allowed}: room, or asked again, at {_time(until)}"
        elif limit is not None and limit.rate:
            because = f"provider {provider} takes {limit.rate:.3g}/s ({limit.rate_source})"
            seconds = before / limit.rate
        command = f"mauntic-jobs providers limits --org {self.job.organization}"
        return self._answer(delivery, "held", because, before=before, seconds=seconds, until=until, command=command)

    def _weight(self) -> str:
        organization = self.job.organization
        rows = list_weights(self.session, organization) if organization else []
        return f", of which it has {rows[0]['weight']:g} for each one of theirs" if rows else ""

    def _failing(self, provider: str) -> Row | None:
        """Return the pause of a provider that fails, if it is one and has not ended."""
        rows = self.session.rows(_pauses_sql["list"])
        return next((row for row in rows if str(row["provider_id"]) == provider and row["until"] > self.now), None)

    def _restriction(self, name: str) -> Row | None:
        """Return the restriction that admission knows by a name; of several about the same the strictest."""
        rows = list_restrictions(self.session, self.now, limit=_MAX_RESTRICTIONS)
        found = [
            row
            for row in rows
            if restriction_name(row["organization_id"], row["provider_id"], row["campaign_id"]) == name
            and row["channel"] in (None, self.job.channel)
        ]
        return min(found, key=lambda row: float(row["rate"]), default=None)

    def _answer(
        self,
        delivery: str,
        state: str,
        because: str,
        *,
        before: int | None = None,
        seconds: float | None = None,
        until: datetime | None = None,
        command: str | None = None,
    ) -> Explanation:
        if before:
            because += f"; {plural(before, 'message')} of its organization before it"
        if seconds and seconds >= 1:
            because += f", about {format_duration(timedelta(seconds=round(seconds)))}"
        return Explanation(
            *(delivery, self.job.organization, self.job.channel, state, because, self.job.id),
            before=before,
            seconds=seconds,
            until=until,
            command=command,
        )
