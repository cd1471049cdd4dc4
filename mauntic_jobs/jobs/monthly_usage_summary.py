"""`monthly-usage-summary`: each organization's events and distinct contacts of a month, rebuilt from the raw events.

Distinct contacts of days cannot be added up, so that the month is counted as a whole.
"""

from dataclasses import replace
from datetime import timedelta, tzinfo
from uuid import UUID

from mauntic_jobs.job import (
    BucketCounts,
    BucketFigures,
    Context,
    Draw,
    FigureLook,
    Job,
    JobOptions,
    JobResult,
    Row,
    Transaction,
)
from mauntic_jobs.jobs.aggregate_hourly import UNKNOWN
from mauntic_jobs.jobs.event_counts import COUNT
from mauntic_jobs.jobs.options import RollupOptions, check_known
from mauntic_jobs.jobs.rollup import (
    ChangeReason,
    Rebuild,
    Rebuilt,
    audit_bucket,
    drawn,
    rebuild,
    recount,
    verify_bucket,
)
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.timekeeping.catch_up import CatchUp, Which
from mauntic_jobs.timekeeping.window import Unit, Window, naive

_sql = statements("monthly_usage")
_rollups_sql = statements("event_aggregates")


class MonthlyUsageSummaryOptions(RollupOptions):
    """The options of `monthly-usage-summary`."""


def coverage(window: Window, _options: MonthlyUsageSummaryOptions, _settings: Settings) -> Window:
    """Return the whole UTC months to rebuild for `window`."""
    return window.aligned(Unit.MONTH)


def run(context: Context[MonthlyUsageSummaryOptions], months: Window) -> JobResult:
    """Rebuild the usage of each month. Groups that would lose something unasked, or do not fit, are withheld."""
    _check_known(context.transaction, context.options)
    done = Rebuilt()
    for month in months.split(Unit.MONTH):
        done.add(rebuild_month(context, context.options, month))
        done.totals["months"] += 1
    return done.result(("months", "events", "inserted", "updated", "removed", "unchanged"))


def rebuild_month(
    context: Context[JobOptions],
    options: MonthlyUsageSummaryOptions,
    month: Window,
    reason: ChangeReason = ChangeReason.REBUILD,
) -> Rebuilt:
    """Count one UTC month and rebuild it."""
    work = replace(_work(options, month, context.settings.platform_zone), reason=reason)
    _announce(context, work)
    return rebuild(context, work)


def audit(
    transaction: Transaction, options: MonthlyUsageSummaryOptions, settings: Settings, month: Window
) -> BucketCounts:
    """Compare the events of one UTC month with its usage. Raises UsageError for an unknown organization."""
    _check_known(transaction, options)
    return audit_bucket(transaction, _work(options, month, settings.platform_zone))


def verify(
    transaction: Transaction,
    options: MonthlyUsageSummaryOptions,
    settings: Settings,
    month: Window,
    look: FigureLook,
) -> BucketFigures:
    """Compare the usage of one UTC month with its events. Raises UsageError for an unknown organization."""
    if not look.ids_known:
        _check_known(transaction, options)
    return verify_bucket(transaction, _work(options, month, settings.platform_zone, look.draw), look, lambda: True)


def recount_usage(transaction: Transaction, settings: Settings, month: Window, organization: UUID) -> list[Row]:
    """Count an organization's events of one UTC month as a run would; for use in a rehearsal.

    Each row has a `kind`, the type as it is recorded, with `old_count` and `old_unique_count` as recorded and
    `new_count` and `new_unique_count` as counted, None for none; `withheld` is why a run would not write it.
    """
    options = MonthlyUsageSummaryOptions(org=[organization])
    return recount(transaction, _work(options, month, settings.platform_zone))


def _check_known(transaction: Transaction, options: MonthlyUsageSummaryOptions) -> None:
    if options.org:
        wanted = {"organizations": options.org}
        check_known(transaction, _rollups_sql["unknown_organizations"], wanted, UNKNOWN)


def _announce(context: Context[JobOptions], work: Rebuild) -> None:
    """Tell what begins, since counting a large table takes a while."""
    events = context.transaction.row(_sql["expected"])["events"]
    size = f"a table of some {events:,} events" if events > 0 else "the events"
    context.warn(f"{work.job}: counting {work.bucket} in {size}")


def _work(options: MonthlyUsageSummaryOptions, month: Window, zone: tzinfo, draw: Draw | None = None) -> Rebuild:
    return Rebuild(
        job=MONTHLY_USAGE_SUMMARY.name,
        statements={**_rollups_sql, **_sql, "count": COUNT},
        table="analytics.event_aggregates",
        columns=["event_type", "count", "unique_count"],
        parameters={
            "start": naive(month.start, zone),
            "end": naive(month.end, zone),
            "date": month.start.date(),
            "after": month.end.date(),
            "channel": "monthly_summary",
            "organizations": options.org or None,
            **drawn(draw),
        },
        bucket=f"{month.start:%Y-%m}",
        compare=options.compare,
        allow_shrink=options.allow_shrink,
    )


MONTHLY_USAGE_SUMMARY = Job(
    name="monthly-usage-summary",
    summary="Rebuild last month's usage of every organization.",
    description=(
        "Rebuilds the monthly rows of analytics.event_aggregates from analytics.contact_activity for every UTC month "
        "that the window touches. Running it again changes nothing."
    ),
    cron="0 3 1 * *",
    unit=Unit.MONTH,
    bucket=Unit.MONTH,
    options=MonthlyUsageSummaryOptions,
    run=run,
    coverage=coverage,
    catch_up=CatchUp(Which.ALL, timedelta(days=62)),
    queue="analytics:monthly-usage-summary",
    measure="events",
    audit=audit,
    verify=verify,
)
