"""`deliveries pause`, `limit`, `resume` and `restrictions`: messages that an operator holds back."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import typer

from mauntic_jobs.cli.documents.deliveries import RestrictionJson
from mauntic_jobs.cli.framework.command import JsonOutput, command
from mauntic_jobs.cli.framework.options import (
    Channel,
    For,
    Limit,
    Org,
    Until,
    Why,
    Wide,
    checked_channel,
    checked_reason,
    end_of,
)
from mauntic_jobs.cli.framework.output import log, print_json, print_line, print_table
from mauntic_jobs.errors import UsageError
from mauntic_jobs.job import Row
from mauntic_jobs.ops.operator_name import operator_name
from mauntic_jobs.ops.rate_limit import parse_rate
from mauntic_jobs.ops.restrictions import (
    RestrictedScope,
    effect_of,
    end_restrictions,
    end_words,
    list_restrictions,
    restrict,
    scope_of,
    with_organization,
)
from mauntic_jobs.ops.turn_weights import list_weights
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.timekeeping import clock

Provider = Annotated[UUID | None, typer.Option("--provider", metavar="UUID", help="Only over this provider.")]
Campaign = Annotated[
    str | None, typer.Option("--campaign", metavar="ID", help="Only of this campaign, or row of delivery_jobs.")
]
All = Annotated[bool, typer.Option("--all", help="The messages of all organizations.")]


def register_restrictions(app: typer.Typer) -> None:
    """Add the commands to the group."""
    organization = "--org 7b0e1c2a-3d4e-4f60-8a7b-9c0d1e2f3a4b"
    example = f"mauntic-jobs deliveries pause {organization} --for 2h --why complaints"
    command(app, "pause", example=example)(pause)
    example = f"mauntic-jobs deliveries limit {organization} --rate 600/m --why warm-up"
    command(app, "limit", example=example)(limit)
    command(app, "resume", example="mauntic-jobs deliveries resume 12")(resume)
    example = "mauntic-jobs deliveries restrictions --ended"
    command(app, "restrictions", example=example, prints=list[RestrictionJson])(restrictions)


def pause(
    settings: Settings,
    *,
    why: Why,
    org: Org = None,
    channel: Channel = None,
    provider: Provider = None,
    campaign: Campaign = None,
    everything: All = False,
    until: Until = None,
    lasts: For = None,
) -> None:
    """Hold messages back, until a time or until `resume`: within two seconds nothing more is taken in hand.

    What is in hand is sent. What waits is kept in its order and does not expire meanwhile. After the pause it is sent
    slowly at first.
    """
    scope = _scope(org, channel, provider, campaign, everything=everything)
    _restrict(settings, scope, 0.0, why, end_of(until, lasts))


def limit(
    settings: Settings,
    *,
    rate: Annotated[str, typer.Option(metavar="RATE", help="At most so many messages: 5/s, 300/m, 1000/h.")],
    why: Why,
    org: Org = None,
    channel: Channel = None,
    provider: Provider = None,
    everything: All = False,
    until: Until = None,
    lasts: For = None,
) -> None:
    """Let no more messages be sent than a rate allows, by all processes together, until a time or until `resume`.

    A rate counts for each channel by itself.
    """
    scope = _scope(org, channel, provider, None, everything=everything)
    _restrict(settings, scope, parse_rate(rate), why, end_of(until, lasts))


def resume(
    settings: Settings,
    numbers: Annotated[
        list[int] | None, typer.Argument(metavar="[ID]...", help="Their ids, from `deliveries restrictions`.")
    ] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="End all pauses and rates.")] = False,
) -> None:
    """End pauses and rates that were set by `pause` or `limit`, or by the monitor."""
    if bool(numbers) == everything:
        raise UsageError("Say which are to end by their ids, or --all.")
    with connect(settings) as session:
        ended = end_restrictions(session, numbers or None, operator_name(), clock.now())
    print_line(f"ended: {', '.join(map(str, ended)) or 'nothing'}")
    unknown = sorted({*(numbers or [])} - {*ended})
    if unknown:
        raise UsageError(
            f"Nothing holds under {', '.join(map(str, unknown))}: see `mauntic-jobs deliveries restrictions`."
        )


def restrictions(
    settings: Settings,
    *,
    org: Org = None,
    ended: Annotated[bool, typer.Option("--ended", help="Also those that have ended.")] = False,
    limit: Limit = 100,
    wide: Wide = False,
    json: JsonOutput = False,
) -> None:
    """Show what is held back: since when, until when, by whom and why; and the weights of organizations."""
    now = clock.now()
    with connect(settings) as session:
        rows = list_restrictions(session, now, org, ended=ended, limit=limit)
        weights = [] if json else list_weights(session, org)
    if json:
        print_json(rows)
        return
    if not rows:
        log("nothing is held back")
    print_table([_row(row) for row in rows], wide=wide)
    for row in weights[:limit]:
        print_line(f"organization {row['organization_id']}: weight {row['weight']:g}, by {row['set_by']}: {row['why']}")


def _row(row: Row) -> Row:
    end = row["ended_at"] or row["until"]
    return {
        "id": row["id"],
        "what": f"{scope_of(row)}: {effect_of(row['rate'])}",
        "since": row["since"],
        "until": end or "resumed",
        "by": row["set_by"],
        "why": row["why"],
        "ended by": row["ended_by"],
    }


def _scope(
    org: UUID | None, channel: str | None, provider: UUID | None, campaign: str | None, *, everything: bool
) -> RestrictedScope:
    if everything == any((org, channel, provider, campaign)):
        raise UsageError("Say whose messages: --org, --channel, --provider or --campaign, or --all for all.")
    if campaign is not None and org is None:
        raise UsageError("A campaign is one organization's: say whose with --org.")
    if campaign is not None and provider is not None:
        raise UsageError("Choose a campaign or a provider: a message is held back whichever provider would send it.")
    return RestrictedScope(org, checked_channel(channel), provider, _campaign(campaign))


def _campaign(text: str | None) -> str | None:
    """Return the id of a campaign as payloads write it."""
    if text is None:
        return None
    try:
        return str(UUID(text))
    except ValueError:
        return text


def _restrict(settings: Settings, scope: RestrictedScope, rate: float, why: str, until: datetime | None) -> None:
    with connect(settings) as session:
        scope = with_organization(session, scope)
        by = operator_name()
        number = restrict(session, scope, rate=rate, why=checked_reason(why), by=by, now=clock.now(), until=until)
    print_line(f"{scope}: {effect_of(rate)} {end_words(until)}")
    print_line(f"to end it: mauntic-jobs deliveries resume {number}")
