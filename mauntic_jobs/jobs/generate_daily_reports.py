"""`generate-daily-reports`: each campaign's figures of a day, rebuilt from the raw events."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta, tzinfo
from functools import partial
from uuid import UUID

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
    Row,
    Transaction,
)
from mauntic_jobs.jobs.buckets import lock_bucket
from mauntic_jobs.jobs.late_events import record_reported, reported_messages, with_late_events
from mauntic_jobs.jobs.options import check_known, only
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
from mauntic_jobs.settings.types import CampaignChannels
from mauntic_jobs.sql import statements
from mauntic_jobs.timekeeping.catch_up import CatchUp, Which
from mauntic_jobs.timekeeping.window import Unit, Window, naive

# The figures of a campaign, in the order of the table's columns.
FIGURES = [
    "sent",
    "delivered",
    "opened",
    "unique_opened",
    "clicked",
    "unique_clicked",
    "bounced",
    "complained",
    "unsubscribed",
]

_GROUPS = ("inserted", "updated", "removed", "unchanged")

_sql = statements("campaign_daily_stats")


class GenerateDailyReportsOptions(JobOptions):
    """The options of `generate-daily-reports`."""

    campaign: list[UUID] = only("campaign")
    org: list[UUID] = only("organization")
    compare: bool = Field(False, description="Show old and new values of every figure that changes.")
    allow_shrink: bool = Field(False, description="Let figures go down, or away, where raw events are gone.")


def coverage(window: Window, _options: GenerateDailyReportsOptions, _settings: Settings) -> Window:
    """Return the whole UTC days to rebuild for `window`."""
    return window.aligned(Unit.DAY)


def run(context: Context[GenerateDailyReportsOptions], days: Window) -> JobResult:
    """Rebuild the figures of each day, and look for events of earlier days that came late, if it is a slot's run.

    Campaigns of which a figure would fall unasked are withheld.
    """
    _check_known(context.transaction, context.options, context.settings, days)
    done = Rebuilt()
    for day in days.split(Unit.DAY):
        rebuilt = rebuild(context, _day_rebuild(context.options, context.settings, day))
        done.add(rebuilt)
        done.totals["days"] += 1
        if not (context.dry_run or context.options.org or context.options.campaign):
            record_reported(context, {day.start.date(): _messages(rebuilt.totals)})
    counters = ("days", "events", *_channels(context, done), "unattributed", *_GROUPS)
    result = done.result(counters)
    options = context.options
    if context.slot is None or options.org or options.campaign or result.refusal is not None:
        return result
    return with_late_events(context, result, days.start, partial(_rebuild_late, context))


def _rebuild_late(context: Context[GenerateDailyReportsOptions], organizations: Sequence[UUID], day: Window) -> Rebuilt:
    lock_bucket(context.transaction, GENERATE_DAILY_REPORTS.name, day)
    options = GenerateDailyReportsOptions(org=list(organizations))
    return rebuild(context, replace(_day_rebuild(options, context.settings, day), reason=ChangeReason.LATE_EVENTS))


def _channels(context: Context[JobOptions], done: Rebuilt) -> Sequence[str]:
    """Return the counter that tells in the ledger which channels the figures count."""
    if context.settings.campaign_channels is CampaignChannels.ALL:
        done.totals["all_channels"] = done.totals["events"]
        return ("all_channels",)
    return ("other_channels",)


def audit(
    transaction: Transaction, options: GenerateDailyReportsOptions, settings: Settings, day: Window
) -> BucketCounts:
    """Compare the message events of one UTC day with its figures. Raises UsageError for unknown ids."""
    _check_known(transaction, options, settings, day)
    return audit_bucket(transaction, _day_rebuild(options, settings, day))


def verify(
    transaction: Transaction,
    options: GenerateDailyReportsOptions,
    settings: Settings,
    day: Window,
    look: FigureLook,
) -> BucketFigures:
    """Compare each figure of one UTC day with its message events. Raises UsageError for unknown ids."""
    if not look.ids_known:
        _check_known(transaction, options, settings, day)

    def came_late() -> bool:
        reported = reported_messages(transaction, day.start.date())
        # How many messages there are is not known where only some of them were counted.
        if look.draw is not None or options.org or options.campaign or reported is None:
            return False
        return _messages(transaction.row(_sql["summary"])) > reported

    return verify_bucket(transaction, _day_rebuild(options, settings, day, look.draw), look, came_late)


def recount_campaign(
    transaction: Transaction, settings: Settings, day: Window, organization: UUID, campaign: UUID
) -> Row | None:
    """Count a campaign's events of one UTC day as a run would; None if it has neither events nor figures.

    `old` is recorded and `new` was counted, both as figures by name, or None. `left_out` are its events on other
    channels, `withheld` is why a run would not write it. For use in a rehearsal.
    """
    options = GenerateDailyReportsOptions(org=[organization], campaign=[campaign])
    for row in recount(transaction, _day_rebuild(options, settings, day)):
        named = {name: row[name] and dict(zip(FIGURES, row[name], strict=True)) for name in ("old", "new")}
        return {**row, **named}
    return None


def _messages(totals: Row) -> int:
    return sum(totals[name] for name in ("events", "other_channels", "unattributed"))


def _day_rebuild(
    options: GenerateDailyReportsOptions, settings: Settings, day: Window, draw: Draw | None = None
) -> Rebuild:
    return Rebuild(
        job=GENERATE_DAILY_REPORTS.name,
        statements=_sql,
        table="analytics.campaign_daily_stats",
        columns=FIGURES,
        parameters={
            **_parameters(options, day, settings.platform_zone),
            "date": day.start.date(),
            "figures": FIGURES,
            "all_channels": settings.campaign_channels is CampaignChannels.ALL,
            **drawn(draw),
        },
        bucket=str(day.start.date()),
        compare=options.compare,
        allow_shrink=options.allow_shrink,
        kinds=[str(campaign) for campaign in options.campaign] or None,
    )


def _parameters(options: GenerateDailyReportsOptions, window: Window, zone: tzinfo) -> dict[str, object]:
    return {
        "start": naive(window.start, zone),
        "end": naive(window.end, zone),
        "organizations": options.org or None,
        "campaigns": options.campaign or None,
    }


def _check_known(
    transaction: Transaction, options: GenerateDailyReportsOptions, settings: Settings, window: Window
) -> None:
    checks = (("unknown_organizations", "organization", "org"), ("unknown_campaigns", "campaign", "campaign"))
    for query, noun, option in checks:
        sentence = f"No {noun} {{}}: it has neither events nor figures. Check --{option}."
        check_known(transaction, _sql[query], _parameters(options, window, settings.platform_zone), sentence)


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
    audit=audit,
    verify=verify,
)
