"""`aggregate-hourly`: the daily rollups of events, rebuilt from the raw events.

The job runs every hour but a rollup is a day, and distinct contacts of hours cannot be added up, so each run rebuilds
the whole day. The day before is rebuilt as well while events of it may still be coming in.
"""

from dataclasses import replace
from datetime import timedelta, tzinfo
from typing import Annotated

from pydantic import Field

from mauntic_jobs.job import (
    BucketCounts,
    BucketFigures,
    Context,
    Draw,
    FigureLook,
    Job,
    JobOptions,
    JobResult,
    Transaction,
)
from mauntic_jobs.jobs.event_counts import COUNT
from mauntic_jobs.jobs.options import RollupOptions, check_known
from mauntic_jobs.jobs.rollup import ChangeReason, Rebuild, Rebuilt, audit_bucket, drawn, rebuild, verify_bucket
from mauntic_jobs.jobs.second_writer import SecondWriter, is_as_recorded
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.settings.types import Duration
from mauntic_jobs.sql import statements
from mauntic_jobs.timekeeping.catch_up import CatchUp, Which
from mauntic_jobs.timekeeping.window import Unit, Window, naive

UNKNOWN = "No organization {}: it has neither events nor rollups. Check --org."

_sql = statements("event_aggregates")


class AggregateHourlyOptions(RollupOptions):
    """The options of `aggregate-hourly`."""

    grace: Annotated[Duration, Field(ge=timedelta())] | None = Field(
        None,
        json_schema_extra={"metavar": "TIME"},
        description="Rebuild yesterday too if the window starts this soon after midnight. Default: 2h.",
    )


def coverage(window: Window, options: AggregateHourlyOptions, settings: Settings) -> Window:
    """Return the whole UTC days to rebuild for `window`."""
    grace = settings.lateness_grace if options.grace is None else options.grace
    days = window.aligned(Unit.DAY)
    if window.start - days.start < grace:
        return Window(days.start - timedelta(days=1), days.end)
    return days


def run(context: Context[AggregateHourlyOptions], days: Window) -> JobResult:
    """Rebuild the rollups of each day. Groups that would lose something unasked are withheld."""
    if context.options.org:
        check_known(context.transaction, _sql["unknown_organizations"], {"organizations": context.options.org}, UNKNOWN)
    done = Rebuilt()
    for day in days.split(Unit.DAY):
        done.add(rebuild_day(context, context.options, day))
        done.totals["days"] += 1
    return done.result(("days", "events", "inserted", "updated", "removed", "unchanged"))


def rebuild_day(
    context: Context[JobOptions],
    options: AggregateHourlyOptions,
    day: Window,
    reason: ChangeReason = ChangeReason.REBUILD,
) -> Rebuilt:
    """Rebuild the rollups of one UTC day, and name another program that has changed them since the last time."""
    others = SecondWriter(context, day)
    zone = context.settings.platform_zone
    # What a plan says is done, and no more: the next run without one finds the other program's hours.
    by_plan = context.expects is not None and others.adds_hours
    allow_shrink = options.allow_shrink or (others.adds_hours and not by_plan)
    work = _rebuild(options, day, zone, allow_shrink=allow_shrink)
    done = rebuild(context, replace(work, reason=ChangeReason.OTHER_WRITER if others.problem else reason))
    if others.problem:
        done.problems.append(others.problem)
    if not (context.dry_run or by_plan):
        others.record()
    return done


def audit(transaction: Transaction, options: AggregateHourlyOptions, settings: Settings, day: Window) -> BucketCounts:
    """Compare the events of one UTC day with its rollups. Raises UsageError for an unknown organization."""
    if options.org:
        check_known(transaction, _sql["unknown_organizations"], {"organizations": options.org}, UNKNOWN)
    return audit_bucket(transaction, _rebuild(options, day, settings.platform_zone, allow_shrink=False))


def verify(
    transaction: Transaction,
    options: AggregateHourlyOptions,
    settings: Settings,
    day: Window,
    look: FigureLook,
) -> BucketFigures:
    """Compare each rollup of one UTC day with its events. Raises UsageError for an unknown organization."""
    if options.org and not look.ids_known:
        check_known(transaction, _sql["unknown_organizations"], {"organizations": options.org}, UNKNOWN)
    work = _rebuild(options, day, settings.platform_zone, allow_shrink=options.allow_shrink, draw=look.draw)
    return verify_bucket(transaction, work, look, lambda: is_as_recorded(transaction, day))


def _rebuild(
    options: AggregateHourlyOptions, day: Window, zone: tzinfo, *, allow_shrink: bool, draw: Draw | None = None
) -> Rebuild:
    return Rebuild(
        job=AGGREGATE_HOURLY.name,
        statements={**_sql, "count": COUNT},
        table="analytics.event_aggregates",
        columns=["event_type", "count", "unique_count"],
        parameters={
            "start": naive(day.start, zone),
            "end": naive(day.end, zone),
            "date": day.start.date(),
            "channel": None,
            "organizations": options.org or None,
            **drawn(draw),
        },
        bucket=str(day.start.date()),
        compare=options.compare,
        allow_shrink=allow_shrink,
    )


AGGREGATE_HOURLY = Job(
    name="aggregate-hourly",
    summary="Rebuild the daily event rollups of the hour's day.",
    description=(
        "Rebuilds analytics.event_aggregates from analytics.contact_activity for every UTC day that the window "
        "touches, and for the day before while late events may still arrive. Running it again changes nothing."
    ),
    cron="0 * * * *",
    unit=Unit.HOUR,
    bucket=Unit.DAY,
    options=AggregateHourlyOptions,
    run=run,
    coverage=coverage,
    catch_up=CatchUp(Which.ALL, timedelta(days=7)),
    queue="analytics:aggregate-hourly",
    measure="events",
    audit=audit,
    verify=verify,
)
