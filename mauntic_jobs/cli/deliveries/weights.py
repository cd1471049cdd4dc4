"""`deliveries weight` and `weights`: organizations that have more or fewer turns than others."""

from typing import Annotated
from uuid import UUID

import typer

from mauntic_jobs.cli.documents.deliveries import TurnWeightJson
from mauntic_jobs.cli.framework.command import JsonOutput, command
from mauntic_jobs.cli.framework.completion import organizations
from mauntic_jobs.cli.framework.options import Org, Why, Wide, checked_reason
from mauntic_jobs.cli.framework.output import log, print_json, print_line, print_table
from mauntic_jobs.ops.operator_name import operator_name
from mauntic_jobs.ops.turn_weights import check_weight, list_weights, set_weight
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.timekeeping import clock

Whose = Annotated[UUID, typer.Option("--org", metavar="UUID", help="Whose weight.", autocompletion=organizations)]


def register_weights(app: typer.Typer) -> None:
    """Add the commands to the group."""
    example = "mauntic-jobs deliveries weight 3 --org 7b0e1c2a-3d4e-4f60-8a7b-9c0d1e2f3a4b --why 'paid plan'"
    command(app, "weight", example=example)(weight)
    command(app, "weights", example="mauntic-jobs deliveries weights", prints=list[TurnWeightJson])(weights)


def weight(
    settings: Settings,
    number: Annotated[float, typer.Argument(metavar="WEIGHT", help="From 0.1 to 10; 1 is the usual one.")],
    *,
    org: Whose,
    why: Why,
) -> None:
    """Give an organization more or fewer turns than others: with 3 it has three for each one of theirs.

    It matters only while several organizations have messages on a queue. Every process knows within two seconds.
    """
    check_weight(number)
    reason = checked_reason(why)
    with connect(settings) as session:
        set_weight(session, org, number, why=reason, by=operator_name(), now=clock.now())
    print_line(f"organization {org}: weight {number:g}")


def weights(settings: Settings, *, org: Org = None, wide: Wide = False, json: JsonOutput = False) -> None:
    """Show the organizations whose weight is not 1, by whom it was set and why."""
    with connect(settings) as session:
        rows = list_weights(session, org)
    if json:
        print_json(rows)
        return
    if not rows:
        log("all organizations have the weight 1")
    columns = ("organization_id", "weight", "since", "set_by", "why")
    print_table([{name: row[name] for name in columns} for row in rows], wide=wide)
