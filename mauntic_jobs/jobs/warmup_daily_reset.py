"""`warmup-daily-reset`: the counters of sending domains that are being warmed up start the new UTC day.

A counter does not say what it counted today and what before. So a program that counts with `warmup_count.lua` keeps an
account of days beside it, and the reset sets the counter to what that says of the new day. The first reset of a day is
noted in the account; later ones leave the counter alone, because increments made since then all belong to the new day.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice

from mauntic_jobs.errors import UsageError
from mauntic_jobs.job import Context, Job, JobOptions, JobResult, Row, Scripts
from mauntic_jobs.jobs.options import OrganizationOptions, check_known
from mauntic_jobs.lua import script
from mauntic_jobs.sql import statements
from mauntic_jobs.timekeeping.catch_up import CatchUp, Which
from mauntic_jobs.timekeeping.window import Unit, Window, naive
from mauntic_jobs.warmup.keys import WARMUP, dates, is_countable, keys

# They take Redis half a millisecond, in which it does nothing else.
_DOMAINS_A_CALL = 50
# So many answers are held in memory.
_DOMAINS_AT_ONCE = 5_000

_sql = statements("sending_domains")


class WarmupDailyResetOptions(OrganizationOptions):
    """The options of `warmup-daily-reset`."""


def run(context: Context[WarmupDailyResetOptions], window: Window) -> JobResult:
    """Start the counters' day. Raises UsageError for a window of another day."""
    today = _day_that_starts(context, window)
    if context.options.org:
        sentence = "No organization {}: it has no sending domain. Check --org."
        wanted = {"organizations": context.options.org}
        check_known(context.transaction, _sql["unknown_organizations"], wanted, sentence)
    redis = _redis(context)
    domains = (each for each in _domains(context, today) if is_countable(each[1], in_cluster=redis.in_cluster))
    arguments = (*dates(today.date()), "0" if context.dry_run else "1")
    counters: Counter[str] = Counter()
    changes: list[Row] = []
    while chosen := list(islice(domains, _DOMAINS_AT_ONCE)):
        answers = redis.run(script("warmup_reset"), _calls(chosen, arguments, in_cluster=redis.in_cluster))
        for (organization, domain), (before, after) in zip(chosen, _pairs(answers), strict=True):
            counters[_outcome(before, after)] += 1
            if context.dry_run and after is not None and (_shown(before) or 0) != after:
                row = {"organization_id": organization, "domain": domain, "before": _shown(before), "after": after}
                changes.append(row)
    names = ("cleared", "kept", "already", "absent")
    return JobResult({"domains": counters.total(), **{name: counters[name] for name in names}}, changes)


def _day_that_starts(context: Context[JobOptions], window: Window) -> datetime:
    """Return the start of the UTC day of the run, the only one that the counters can start.

    The window of a slot is the day that ended at it, so its end is the start of the day that begins. A window that was
    asked for has to reach into that day: one that had ended before asks for a day that is over.
    """
    today = Unit.DAY.floor(context.now)
    if window.end < today or (context.slot is None and window.end == today):
        raise UsageError(
            f"The window {window} was over before today, {today.date()}, and the counters hold only what was sent "
            "today: no other day can be reset. Leave out --date, --window and --last."
        )
    return today


def _domains(context: Context[WarmupDailyResetOptions], today: datetime) -> Iterator[tuple[str, str]]:
    """Yield organization and domain, in lower case, of each domain whose counter is to start `today`.

    What a domain created today has sent, it has sent today.
    """
    created = {"start": naive(today - WARMUP), "end": naive(today), "organizations": context.options.org or None}
    for row in context.transaction.rows(_sql["warming_up"], created):
        for domain in dict.fromkeys(each.lower() for each in row["domains"]):
            yield row["organization_id"], domain


def _redis(context: Context[JobOptions]) -> Scripts:
    if context.redis is None:
        raise TypeError("the runner must supply Redis to a job that declares to need it")
    return context.redis


def _calls(
    domains: Sequence[tuple[str, str]], arguments: Sequence[str], *, in_cluster: bool
) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    # In a cluster each domain is on a node of its own.
    most = 1 if in_cluster else _DOMAINS_A_CALL
    for start in range(0, len(domains), most):
        chosen = domains[start : start + most]
        yield [key for domain in chosen for key in keys(*domain, in_cluster=in_cluster)], arguments


def _pairs(answers: Iterable[Sequence[object]]) -> Iterator[tuple[bytes | None, int | None]]:
    for answer in answers:
        yield from zip(answer[::2], answer[1::2], strict=True)


def _outcome(before: bytes | None, after: int | None) -> str:
    if after is None:
        return "already"
    if after:
        return "kept"
    return "absent" if before is None else "cleared"


def _shown(counter: bytes | None) -> int | str | None:
    """Return a counter as a number, or as what stands there instead of one."""
    if counter is None:
        return None
    return int(counter) if counter.isdigit() else counter.decode(errors="replace")


WARMUP_DAILY_RESET = Job(
    name="warmup-daily-reset",
    summary="Let the warm-up counters of sending domains start the new day.",
    description=(
        "Resets the number of messages sent today, in Redis, of every sending domain that is being warmed up. What was "
        "sent since midnight stays counted, however late or often the job runs. It runs for the present day only."
    ),
    cron="0 0 * * *",
    unit=Unit.DAY,
    bucket=None,
    options=WarmupDailyResetOptions,
    run=run,
    redis=True,
    catch_up=CatchUp(Which.LATEST, timedelta(hours=24)),
    queue="analytics:warmup-daily-reset",
)
