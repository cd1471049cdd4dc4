"""`show`: the figures that the jobs recorded, and which run wrote them."""

import shlex
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from mauntic_jobs.cli.documents.figures import (
    CampaignFigureJson,
    FigureChangeJson,
    JourneyFigureJson,
    RollupFigureJson,
    UsageFigureJson,
)
from mauntic_jobs.cli.framework.command import JsonOutput, command, new_app
from mauntic_jobs.cli.framework.options import Limit, Org, Wide
from mauntic_jobs.cli.job.window import WindowOptions
from mauntic_jobs.cli.show.options import Csv, Date, History, Last, Month, days_of, month_of
from mauntic_jobs.cli.show.output import Missing, canvas, figure_format, print_changes, print_figures
from mauntic_jobs.errors import UsageError
from mauntic_jobs.jobs.aggregate_hourly import AGGREGATE_HOURLY
from mauntic_jobs.jobs.generate_daily_reports import GENERATE_DAILY_REPORTS
from mauntic_jobs.jobs.monthly_usage_summary import MONTHLY_USAGE_SUMMARY
from mauntic_jobs.jobs.segment_trigger_eval import SEGMENT_TRIGGER_EVAL
from mauntic_jobs.ops.figures.campaigns import campaigns_table, read_campaigns
from mauntic_jobs.ops.figures.history import read_changes
from mauntic_jobs.ops.figures.journeys import journeys_table, read_journeys
from mauntic_jobs.ops.figures.known import check_campaign, check_journey, check_organization
from mauntic_jobs.ops.figures.rollup_drawing import overview, plot, sums_table
from mauntic_jobs.ops.figures.rollups import By, read_rollups
from mauntic_jobs.ops.figures.usage import organizations_table, read_usage, types_table
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.window import Window

if TYPE_CHECKING:
    from rich.text import Text

app = new_app("The figures that the jobs recorded, and which run wrote them.")

Plot = Annotated[bool, typer.Option("--plot", help="Draw bars by day.")]
ByOption = Annotated[
    By | None, typer.Option("--by", metavar="WHAT", help="Sum up by day, type or channel.", show_default=False)
]


@command(
    app,
    "rollups",
    example="mauntic-jobs show rollups --last 7d --by channel",
    prints=list[RollupFigureJson] | list[FigureChangeJson],
)
def show_rollups(
    settings: Settings,
    *,
    org: Org = None,
    date: Date = None,
    last: Last = None,
    month: Month = None,
    by: ByOption = None,
    plot_days: Plot = False,
    history: History = False,
    limit: Limit = 100,
    wide: Wide = False,
    as_csv: Csv = False,
    json: JsonOutput = False,
) -> None:
    """Show the daily rollups of events: by organization, of one organization by day, or sums.

    The default is the last 30 days. CSV and JSON have each rollup, or with --by each sum.
    """
    wanted = figure_format(csv=as_csv, json=json, org=org, history=history)
    if plot_days and (by not in (None, By.DAY) or wanted.for_programs):
        raise UsageError("--plot draws bars by day: leave out --by, --csv and --json.")
    now = clock.now()
    given = WindowOptions(date=date, last=last, month=month)
    days = days_of(AGGREGATE_HOURLY, now, given, WindowOptions(last="30d"))
    with connect(settings) as session:
        if history:
            print_changes(read_changes(session, AGGREGATE_HOURLY, days, org), wanted, limit)
            return
        rollups = read_rollups(session, AGGREGATE_HOURLY, settings, days, org)
        if not rollups.rows:
            check_organization(session, org)
    rows = rollups.rows if by is None else rollups.summed(by, org)

    def draw() -> "Sequence[Text]":
        if plot_days:
            return plot(rollups, canvas(wide=wide))
        if by is None and org is None:
            return overview(rollups, canvas(wide=wide), now.date(), limit)
        return sums_table(rollups, by or By.DAY, org, limit)

    missing = Missing(f"rollups of {days}", _refill(AGGREGATE_HOURLY.name, days, org))
    print_figures(rows, RollupFigureJson, wanted, draw, missing)


@command(
    app,
    "campaign",
    example="mauntic-jobs show campaign --date yesterday --limit 5",
    prints=list[CampaignFigureJson] | list[FigureChangeJson],
)
def show_campaign(
    settings: Settings,
    *,
    campaign: Annotated[UUID | None, typer.Option(metavar="ID", help="Only this campaign.")] = None,
    org: Org = None,
    date: Date = None,
    last: Last = None,
    month: Month = None,
    history: History = False,
    limit: Limit = 100,
    wide: Wide = False,
    as_csv: Csv = False,
    json: JsonOutput = False,
) -> None:
    """Show the daily figures of campaigns, the busiest first.

    The default is yesterday, and the last 30 days of one campaign.
    """
    wanted = figure_format(csv=as_csv, json=json, org=org, history=history)
    default = WindowOptions(date="yesterday") if campaign is None else WindowOptions(last="30d")
    given = WindowOptions(date=date, last=last, month=month)
    days = days_of(GENERATE_DAILY_REPORTS, clock.now(), given, default)
    with connect(settings) as session:
        if history:
            kind = None if campaign is None else str(campaign)
            print_changes(read_changes(session, GENERATE_DAILY_REPORTS, days, org, kind), wanted, limit)
            return
        rows = read_campaigns(session, GENERATE_DAILY_REPORTS, settings, days, org, campaign)
        if not rows:
            check_organization(session, org)
            check_campaign(session, campaign, days, settings.platform_zone)
    missing = Missing(f"figures of campaigns of {days}", _refill(GENERATE_DAILY_REPORTS.name, days, org, campaign))
    print_figures(rows, CampaignFigureJson, wanted, lambda: campaigns_table(rows, canvas(wide=wide), limit), missing)


@command(
    app,
    "usage",
    example="mauntic-jobs show usage --month 2026-10 --csv",
    prints=list[UsageFigureJson] | list[FigureChangeJson],
)
def show_usage(
    settings: Settings,
    *,
    org: Org = None,
    month: Month = None,
    history: History = False,
    limit: Limit = 100,
    wide: Wide = False,
    as_csv: Csv = False,
    json: JsonOutput = False,
) -> None:
    """Show the monthly usage of organizations, or of one by event type. The default is the last month."""
    wanted = figure_format(csv=as_csv, json=json, org=org, history=history)
    chosen = month_of(MONTHLY_USAGE_SUMMARY, clock.now(), month)
    with connect(settings) as session:
        if history:
            print_changes(read_changes(session, MONTHLY_USAGE_SUMMARY, chosen, org), wanted, limit)
            return
        rows = read_usage(session, MONTHLY_USAGE_SUMMARY, settings, chosen, org)
        if not rows:
            check_organization(session, org)

    def draw() -> "Sequence[Text]":
        return types_table(rows, limit) if org else organizations_table(rows, canvas(wide=wide), limit)

    words = ["mauntic-jobs", MONTHLY_USAGE_SUMMARY.name, "--month", f"{chosen.start:%Y-%m}", *_option("org", org)]
    missing = Missing(f"usage of {chosen.start:%Y-%m}", shlex.join(words))
    print_figures(rows, UsageFigureJson, wanted, draw, missing)


@command(app, "journey", example="mauntic-jobs show journey --date today", prints=list[JourneyFigureJson])
def show_journey(
    settings: Settings,
    *,
    journey: Annotated[UUID | None, typer.Option(metavar="ID", help="Only this journey.")] = None,
    org: Org = None,
    date: Date = None,
    last: Last = None,
    month: Month = None,
    limit: Limit = 100,
    wide: Wide = False,
    as_csv: Csv = False,
    json: JsonOutput = False,
) -> None:
    """Show how many contacts entered journeys, and how their executions stand. The default is the last 7 days."""
    wanted = figure_format(csv=as_csv, json=json)
    given = WindowOptions(date=date, last=last, month=month)
    days = days_of(SEGMENT_TRIGGER_EVAL, clock.now(), given, WindowOptions(last="7d"))
    with connect(settings) as session:
        rows = read_journeys(session, SEGMENT_TRIGGER_EVAL, settings, days, org, journey)
        if not rows:
            check_journey(session, journey, org)
    words = ["mauntic-jobs", SEGMENT_TRIGGER_EVAL.name, *_option("org", org), *_option("journey", journey)]
    missing = Missing(f"executions of journeys that began in {days}", shlex.join(words))
    print_figures(rows, JourneyFigureJson, wanted, lambda: journeys_table(rows, canvas(wide=wide), limit), missing)


def _refill(job: str, days: Window, org: UUID | None, campaign: UUID | None = None) -> str:
    """Return the command that records whole days."""
    one = days.end - days.start == timedelta(days=1)
    window = ["--date", str(days.start.date())] if one else ["--window", str(days)]
    return shlex.join(["mauntic-jobs", job, *window, *_option("org", org), *_option("campaign", campaign)])


def _option(name: str, value: UUID | None) -> list[str]:
    return [] if value is None else [f"--{name}", str(value)]
