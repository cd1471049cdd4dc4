"""`deliveries`: the delivery ledger."""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from typing import Annotated, Any
from uuid import UUID

import typer

from mauntic_jobs import clock
from mauntic_jobs.cli.command import JsonOutput, command, new_app
from mauntic_jobs.cli.job_output import progress
from mauntic_jobs.cli.output import plural, print_json, print_line, print_table
from mauntic_jobs.config import Settings
from mauntic_jobs.delivery import desk
from mauntic_jobs.delivery.channels import CHANNELS
from mauntic_jobs.delivery.ledger_entries import State
from mauntic_jobs.delivery.reconciliation import reconcile
from mauntic_jobs.delivery.resending import Failed, count_failed, failed_deliveries, resend
from mauntic_jobs.errors import UsageError
from mauntic_jobs.job import Row
from mauntic_jobs.ops.masking import masked
from mauntic_jobs.ops.pace import Pace, parse_rate
from mauntic_jobs.stores.postgres import connect
from mauntic_jobs.stores.redis import open_redis

app = new_app("The delivery ledger: what became of each message, and what a human has to decide.")

Delivery = Annotated[str, typer.Argument(metavar="ID", help="Its delivery id, from `deliveries list`.")]
Reveal = Annotated[bool, typer.Option("--reveal", help="Show addresses and contents as they are.")]
Organization = Annotated[UUID | None, typer.Option(metavar="UUID", help="Only of this organization.")]

_STATES = [state.value for state in State]
_COUNTS = ["channel", "state", "deliveries", "oldest", "latest"]
_COLUMNS = ["delivery_id", "channel", "state", "address", "attempts", "until", "updated_at", "blame", "reason"]


@command(app, "list", example="mauntic-jobs deliveries list --state ambiguous --state failed")
def list_deliveries(
    settings: Settings,
    *,
    state: Annotated[
        list[str] | None, typer.Option(metavar="STATE", help=f"{', '.join(_STATES)}; may be repeated.")
    ] = None,
    organization: Organization = None,
    channel: Annotated[str | None, typer.Option(metavar="CHANNEL", help="email, sms or push.")] = None,
    count: Annotated[
        bool, typer.Option("--count", help="Only how many there are of each channel and state; sent: in the last 24 h.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, metavar="N", help="At most this many.")] = 20,
    reveal: Reveal = False,
    json: JsonOutput = False,
) -> None:
    """List deliveries, those that were claimed last first."""
    unknown = [each for each in state or [] if each not in _STATES]
    if unknown:
        raise UsageError(f"There is no state {', '.join(unknown)}. It is one of {', '.join(_STATES)}.")
    if channel is not None and channel not in CHANNELS:
        raise UsageError(f"There is no channel {channel}. The channels are: {', '.join(CHANNELS)}.")
    with connect(settings) as session:
        if count:
            rows, columns = desk.count_deliveries(session, organization, clock.now()), _COUNTS
        else:
            rows, columns = desk.list_deliveries(session, state, organization, channel, limit, clock.now()), _COLUMNS
            rows = [_shown(row, reveal=reveal) for row in rows]
    if json:
        print_json(rows)
    else:
        print_table([{name: row[name] for name in columns} for row in rows], columns=columns)


@command(app, "show", example="mauntic-jobs deliveries show 7f3c2f --json")
def show_delivery(
    settings: Settings,
    delivery: Delivery,
    *,
    organization: Organization = None,
    reveal: Reveal = False,
    json: JsonOutput = False,
) -> None:
    """Show everything that is known of one delivery: its state, its attempts, and what the platform has heard of it."""
    with connect(settings) as session:
        row = _shown(desk.show_delivery(session, delivery, organization), reveal=reveal)
    if json:
        print_json(row)
        return
    trace: list[Row] = [
        {"field": name, "value": _text(value)} for name, value in row.items() if name not in ("attempts", "events")
    ]
    trace += _attempts(row["attempts"])
    trace += [{"field": "event", "value": _line(each)} for each in row["events"]]
    print_table(trace)


@command(app, "resolve", example="mauntic-jobs deliveries resolve 7f3c2f --sent")
def resolve_delivery(
    settings: Settings,
    delivery: Delivery,
    *,
    sent: Annotated[bool, typer.Option("--sent", help="It was sent: the provider has it.")] = False,
    resend: Annotated[bool, typer.Option("--resend", help="Send it, at the risk that it has been sent.")] = False,
    organization: Organization = None,
) -> None:
    """Decide about a delivery that is ambiguous, or send one again that has failed."""
    if sent == resend:
        raise UsageError("Say either --sent or --resend.")
    with connect(settings) as session:
        if sent:
            desk.resolve_sent(session, delivery, organization, record_activity=settings.record_activity)
            print_line(f"{delivery} is recorded as sent")
            return
        with closing(open_redis(settings)) as redis:
            desk.resolve_resend(session, redis, settings, delivery, organization, clock.now())
        print_line(f"{delivery} is on its queue again")


@command(app, "resend", example="mauntic-jobs deliveries resend --job 7b0e1c2a-3d4e-4f60-8a7b-9c0d1e2f3a4b --dry-run")
def resend_deliveries(
    settings: Settings,
    *,
    job: Annotated[UUID, typer.Option(metavar="UUID", help="The campaign: a row of delivery.delivery_jobs.")],
    state: Annotated[str, typer.Option(metavar="STATE", help="failed, and no other.")] = State.FAILED.value,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Only those whose reason contains it.")] = None,
    rate: Annotated[str, typer.Option(metavar="RATE", help="How fast they are queued: 5/s, 300/m.")] = "50/s",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show how many there are, by reason.")] = False,
    json: JsonOutput = False,
) -> None:
    """Send a campaign's failed messages again, and no others: what was sent stays sent, what is ambiguous is left."""
    if state != State.FAILED:
        raise UsageError(f"Only failed messages are sent again here; for one that is {state}: deliveries resolve.")
    which, pace = Failed(job, reason), Pace(parse_rate(rate))
    with connect(settings) as session, closing(open_redis(settings)) as redis:
        found = count_failed(session, which)
        total, gone = (sum(row[name] for row in found) for name in ("deliveries", "gone"))
        if dry_run:
            _print_resend(json, {"failed": total, "without_content": gone, "reasons": found})
            return
        fates: Counter[str | None] = Counter()
        with progress(total - gone, "resend", quiet=json or total == gone) as advance:
            for rows in failed_deliveries(session, which, pace.portion):
                pace.wait(len(rows))
                fates.update(resend(session, redis, settings, rows, clock.now()))
                for _ in rows:
                    advance()
    queued = fates.pop(None, 0)
    refusals = [{"reason": why, "deliveries": count} for why, count in fates.most_common()]
    _print_resend(json, {"queued": queued, "refused": fates.total(), "without_content": gone, "reasons": refusals})


def _print_resend(json: bool, result: Row) -> None:
    if json:
        print_json(result)
        return
    reasons = result.pop("reasons", [])
    print_line(", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in result.items()))
    if reasons:
        print_table(reasons)


@command(app, "reconcile", example="mauntic-jobs deliveries reconcile")
def reconcile_deliveries(settings: Settings, *, json: JsonOutput = False) -> None:
    """Put on the queues again what is owed and no job asks for, after Redis has lost data. Doubles nothing."""
    with connect(settings) as session, closing(open_redis(settings)) as redis:
        done = reconcile(session, redis, settings, clock.now())
    if json:
        print_json(asdict(done))
        return
    if done.recorded or done.refused:
        print_line(
            f"{plural(done.recorded + done.refused, 'result')} not recorded whole, {done.recorded:,} of them now"
        )
    if done.closed:
        print_line(f"{plural(done.closed, 'campaign')} closed: all messages were counted")
    print_line(f"{plural(done.owed, 'message')} owed, {done.queued:,} of them queued again")
    if done.lost:
        print_line(f"{plural(done.lost, 'message')} lost: given up, as only their producer knows what they say")
    if done.missing:
        print_line(
            "Campaigns of which neither the ledger nor a queue knows all messages; their producer must add them:"
        )
        print_table(done.missing)


def _attempts(attempts: Sequence[Row]) -> list[Row]:
    """Return the attempts of a delivery by their numbers, with how many the ledger has left out."""
    trace: list[Row] = []
    number = 1
    for each in attempts:
        if "omitted" in each:
            last = number + each["omitted"] - 1
            trace.append(
                {"field": f"attempts {number} to {last}", "value": "left out: only the first and the last are kept"}
            )
            number = last
        else:
            trace.append({"field": f"attempt {number}", "value": _line(each)})
        number += 1
    return trace


def _shown(row: Row, *, reveal: bool) -> Row:
    """Return a delivery as it may be shown: without what names a person, unless that was asked for."""
    named = {name: row[name] for name in ("address", "payload") if name in row}
    return {**row, **masked(named, reveal=reveal)}


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case dict():
            return _line(value)
        case _:
            return str(value)


def _line(value: Row) -> str:
    return ", ".join(f"{name}: {each}" for name, each in value.items() if each not in (None, ""))
