"""`deliveries warm-up`: the days of sending domains that are being warmed up, and what waits for them."""

from dataclasses import asdict
from typing import Annotated

import typer

from mauntic_jobs.cli.documents.deliveries import WarmupPlanJson
from mauntic_jobs.cli.framework.command import JsonOutput, command
from mauntic_jobs.cli.framework.options import Org, Wide
from mauntic_jobs.cli.framework.output import log, print_json, print_line, print_table
from mauntic_jobs.errors import UsageError
from mauntic_jobs.job import Row
from mauntic_jobs.ops.warmup import MAX_WAITING, WarmupPlan, warmup_plans
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.wording import plural

Domain = Annotated[str | None, typer.Option("--domain", metavar="NAME", help="Only this one, with each of its days.")]


def register_warmup(app: typer.Typer) -> None:
    """Add `warm-up` to the commands of the ledger."""

    @command(app, "warm-up", example="mauntic-jobs deliveries warm-up --domain acme.test", prints=list[WarmupPlanJson])
    def warm_up(
        settings: Settings, *, domain: Domain = None, org: Org = None, wide: Wide = False, json: JsonOutput = False
    ) -> None:
        """Show the domains that are being warmed up: their day, what they have sent of its limit, and what waits.

        What waits for a next day goes out after midnight, by UTC, as far as the limit goes; new messages come on top.
        """
        with connect(settings) as session:
            plans = warmup_plans(session, clock.now(), org, domain)
        if domain is not None and not plans:
            raise UsageError(f"No domain {domain} is being warmed up: `deliveries warm-up` lists those that are.")
        if json:
            print_json([_as_json(each) for each in plans])
            return
        if not plans:
            log("no domain is being warmed up")
        if domain is None:
            print_table([_line(each) for each in plans], wide=wide)
            return
        for plan in plans:
            print_line(_heading(plan))
            print_table([_day(plan, place) for place in range(len(plan.days))], wide=wide)


def _heading(plan: WarmupPlan) -> str:
    waits = plural(plan.waiting, "message")
    if plan.waiting >= MAX_WAITING:
        waits = f"more than {waits}"
    ends = f"; the last of {waits} that wait goes out on {plan.ends}" if plan.ends else ""
    return f"{plan.domain.name} of organization {plan.domain.organization}{ends}"


def _line(plan: WarmupPlan) -> Row:
    return {
        "domain": plan.domain.name,
        "organization": plan.domain.organization,
        "day": plan.days[0].number,
        "sent": plan.domain.sent,
        "limit": plan.domain.limit,
        "waiting": plan.waiting,
        "until": plan.ends,
    }


def _day(plan: WarmupPlan, place: int) -> Row:
    day = plan.days[place]
    sent = plan.domain.sent if place == 0 else None
    return {"date": day.day, "day": day.number, "limit": day.limit, "sent": sent, "goes out": day.goes_out or None}


def _as_json(plan: WarmupPlan) -> dict[str, object]:
    return {
        "domain": plan.domain.name,
        "organization": plan.domain.organization,
        "created": plan.domain.created,
        "sent": plan.domain.sent,
        "limit": plan.domain.limit,
        "waiting": plan.waiting,
        "ends": plan.ends,
        "days": [asdict(each) for each in plan.days],
    }
