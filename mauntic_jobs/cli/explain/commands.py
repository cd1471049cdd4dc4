"""`explain`: how a figure came about, from its raw events to the row and the runs that wrote it."""

from dataclasses import asdict
from typing import Annotated
from uuid import UUID

import typer

from mauntic_jobs.cli.documents.explanations import CampaignExplanationJson, UsageExplanationJson
from mauntic_jobs.cli.explain.contact import register_contact
from mauntic_jobs.cli.framework.command import JsonOutput, command, new_app
from mauntic_jobs.cli.framework.completion import organizations
from mauntic_jobs.cli.framework.options import Limit, Org, Wide
from mauntic_jobs.cli.framework.output import print_json
from mauntic_jobs.cli.job.window import WindowOptions, window_of
from mauntic_jobs.cli.show.options import Date, Month, month_of
from mauntic_jobs.cli.show.output import canvas, print_drawing
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.jobs.generate_daily_reports import GENERATE_DAILY_REPORTS
from mauntic_jobs.jobs.monthly_usage_summary import MONTHLY_USAGE_SUMMARY
from mauntic_jobs.ops.figures.campaign_proof import CampaignExplanation, explain_campaign
from mauntic_jobs.ops.figures.known import check_organization
from mauntic_jobs.ops.figures.proof_drawing import campaign_lines, usage_lines
from mauntic_jobs.ops.figures.usage_proof import UsageExplanation, explain_usage
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.timekeeping import clock

app = new_app("How a figure came about, and why a contact is in a journey or not. Changes nothing.")


@command(
    app,
    "campaign",
    example="mauntic-jobs explain campaign 0d9f1c2a-3d4e-4f60-8a7b-9c0d1e2f3a4b --date 2026-10-19",
    prints=CampaignExplanationJson,
)
def explain_campaign_figures(
    settings: Settings,
    campaign: Annotated[UUID, typer.Argument(metavar="ID", help="The campaign's id.")],
    *,
    org: Org = None,
    date: Date = None,
    limit: Limit = 20,
    wide: Wide = False,
    json: JsonOutput = False,
) -> None:
    """Show which events a campaign's figures of a day were counted from, which were not attributed, and why.

    The default is the latest day that has figures. Exit 3 if a recount differs from what is recorded.
    """
    now = clock.now()
    day = None if date is None else window_of(GENERATE_DAILY_REPORTS, now, WindowOptions(date=date))[0]
    with connect(settings) as session:
        found = explain_campaign(session, settings, campaign, org, day, now)
    if json:
        print_json(_fields(found))
    else:
        print_drawing(campaign_lines(found, canvas(wide=wide), limit))
    raise typer.Exit(ExitCode.DONE if found.agrees else ExitCode.PARTIAL)


@command(
    app,
    "usage",
    example="mauntic-jobs explain usage --org 7b0e1c2a-3d4e-4f60-8a7b-9c0d1e2f3a4b --month 2026-10",
    prints=UsageExplanationJson,
)
def explain_usage_figures(
    settings: Settings,
    *,
    org: Annotated[UUID, typer.Option("--org", metavar="ID", help="The organization.", autocompletion=organizations)],
    month: Month = None,
    limit: Limit = 100,
    wide: Wide = False,
    json: JsonOutput = False,
) -> None:
    """Show an organization's usage of a month with its proof: the events by day, the runs, and a recount.

    The default is the last month. The same events give the same output each time. Exit 3 if the recount differs.
    """
    now = clock.now()
    chosen = month_of(MONTHLY_USAGE_SUMMARY, now, month)
    with connect(settings) as session:
        found = explain_usage(session, settings, org, chosen, now)
        if not found.types:
            check_organization(session, org)
    if json:
        print_json(_usage(found))
    else:
        print_drawing(usage_lines(found, canvas(wide=wide), limit))
    raise typer.Exit(ExitCode.DONE if found.agrees else ExitCode.PARTIAL)


register_contact(app)


def _usage(found: UsageExplanation) -> dict[str, object]:
    own = _fields(found)
    del own["month"]
    window = {"start": found.month.start, "end": found.month.end}
    return {**own, "window": window, "types": [{**asdict(each), "agrees": each.agrees} for each in found.types]}


def _fields(found: CampaignExplanation | UsageExplanation) -> dict[str, object]:
    """Return what both kinds of explanations say, with who wrote the figures as fields of their own."""
    own = asdict(found)
    del own["written"]
    runs = [{"run": run.id, "at": run.at, "changed": run.changed} for run in found.runs]
    changes = [change._asdict() for change in found.changes]
    return {**own, "agrees": found.agrees, "runs": runs, "changes": changes, **found.written._asdict()}
