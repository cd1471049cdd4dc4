"""`generate-daily-reports`: each campaign's figures of a day, rebuilt from the raw events."""

from collections import Counter
from datetime import timedelta, tzinfo
from typing import Any
from uuid import UUID

from pydantic import Field

from mauntic_jobs.catch_up import CatchUp, Which
from mauntic_jobs.config import Settings
from mauntic_jobs.errors import UsageError
from mauntic_jobs.job import Context, Job, JobOptions, JobResult, Row
from mauntic_jobs.jobs.rebuild import Rebuild, rebuild
from mauntic_jobs.sql import statements
from mauntic_jobs.window import Unit, Window, naive

_sql = statements("campaign_daily_stats")


class GenerateDailyReportsOptions(JobOptions):
    """The options of `generate-daily-reports`."""

    campaign: list[UUID] = Field(
        [], description="Only this campaign; may be given more than once.", json_schema_extra={"metavar": "ID"}
    )
    org: list[UUID] = Field(
        [], description="Only this organization; may be given more than once.", json_schema_extra={"metavar": "ID"}
    )
    compare: bool = Field(False, description="Show old and new values of every figure that changes.")
    allow_shrink: bool = Field(False, description="Let figures go down, or away, where raw events are gone.")


def coverage(window: Window, _options: GenerateDailyReportsOptions, _settings: Settings) -> Window:
    """Return the whole UTC days to rebuild for `window`."""
    return window.aligned(Unit.DAY)


def run(context: Context[GenerateDailyReportsOptions], days: Window) -> JobResult:
    """Rebuild the figures of each day. Raises RefusedError if that would lower or remove one unasked."""
    _check_known(context, days)
    totals: Counter[str] = Counter()
    changes: list[Row] = []
    for day in days.split(Unit.DAY):
        summary, changed = rebuild(context, _work(context.options, day, context.settings.platform_zone))
        totals.update(summary)
        totals["days"] += 1
        changes += changed
    names = ("days", "events", "unattributed", "inserted", "updated", "removed", "unchanged")
    return JobResult({name: totals[name] for name in names}, changes)


def _work(options: GenerateDailyReportsOptions, day: Window, zone: tzinfo) -> Rebuild:
    return Rebuild(
        statements=_sql,
        parameters={**_parameters(options, day, zone), "date": day.start.date()},
        bucket=str(day.start.date()),
        compare=options.compare,
        allow_shrink=options.allow_shrink,
    )


def _parameters(options: GenerateDailyReportsOptions, window: Window, zone: tzinfo) -> dict[str, Any]:
    return {
        "start": naive(window.start, zone),
        "end": naive(window.end, zone),
        "organizations": options.org or None,
        "campaigns": options.campaign or None,
    }


def _check_known(context: Context[GenerateDailyReportsOptions], window: Window) -> None:
    checks = (("unknown_organizations", "organization", "org"), ("unknown_campaigns", "campaign", "campaign"))
    for query, noun, option in checks:
        unknown = context.transaction.rows(
            _sql[query], _parameters(context.options, window, context.settings.platform_zone)
        )
        if unknown:
            names = ", ".join(str(row["id"]) for row in unknown)
            raise UsageError(f"No {noun} {names}: it has neither events nor figures. Check --{option}.")


GENERATE_DAILY_REPORTS = Job(
    name="generate-daily-reports",
    summary="Rebuild yesterday's figures of every campaign.",
    description=(
        "Rebuilds analytics.campaign_daily_stats from the message events in analytics.contact_activity for every UTC "
        "day that the window touches. Running it again changes nothing."
    ),
    cron="0 2 * * *",
    unit=Unit.DAY,
    bucket=Unit.DAY,
    options=GenerateDailyReportsOptions,
    run=run,
    coverage=coverage,
    catch_up=CatchUp(Which.ALL, timedelta(days=7)),
    after=("aggregate-hourly",),
    queue="analytics:generate-daily-reports",
    measure="events",
)
