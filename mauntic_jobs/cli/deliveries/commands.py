"""`deliveries`: the delivery ledger."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from typing import Annotated

import typer

from mauntic_jobs.cli.deliveries.resend import register_resend
from mauntic_jobs.cli.deliveries.restrictions import register_restrictions
from mauntic_jobs.cli.deliveries.warmup import register_warmup
from mauntic_jobs.cli.deliveries.weights import register_weights
from mauntic_jobs.cli.documents.deliveries import (
    DeliveryCountJson,
    DeliveryDetailJson,
    DeliveryJson,
    ExplanationJson,
    ReconciledJson,
)
from mauntic_jobs.cli.framework.command import JsonOutput, command, new_app
from mauntic_jobs.cli.framework.completion import states
from mauntic_jobs.cli.framework.options import Channel, Limit, Org, Wide, checked_channel
from mauntic_jobs.cli.framework.output import print_fields, print_json, print_line, print_table
from mauntic_jobs.delivery.ledger import queries as desk
from mauntic_jobs.delivery.ledger.reconcile import reconcile
from mauntic_jobs.delivery.ledger.records import State
from mauntic_jobs.errors import UsageError
from mauntic_jobs.job import Row
from mauntic_jobs.ops.explain.explanation import explain
from mauntic_jobs.redaction.payloads import mask_payload, shorten
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.stores.redis.client import open_redis
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.wording import plural

app = new_app("The delivery ledger: what became of each message, and what a human has to decide.")

Delivery = Annotated[str, typer.Argument(metavar="ID", help="Its delivery id, from `deliveries list`.")]
Reveal = Annotated[bool, typer.Option("--reveal", help="Show addresses and contents as they are.")]

# The fields that `show` prints, in the order in which an operator asks for them; `--json` has all fields.
_SHOWN = (
    *("delivery_id", "organization_id", "channel", "state", "reason", "reject_reason", "until", "possible_duplicate"),
    *("address", "contact_id", "job_id", "created_at", "updated_at", "sending_at", "provider", "message_id"),
    *("provider_message_id", "resends", "queue_job", "unrecorded"),
)
# The HTML of a message would be pages.
_VALUE_LENGTH, _FOLDED_LENGTH = 200, 60
Field = tuple[str, object]

_STATES = [state.value for state in State]
_COUNTS = ["channel", "state", "deliveries", "oldest", "latest"]
_COLUMNS = ["delivery_id", "channel", "state", "address", "attempts", "until", "updated_at", "blame", "reason"]


@command(
    app,
    "list",
    example="mauntic-jobs deliveries list --state ambiguous --state failed",
    prints=list[DeliveryJson] | list[DeliveryCountJson],
)
def list_deliveries(
    settings: Settings,
    *,
    state: Annotated[
        list[str] | None,
        typer.Option(metavar="STATE", help=f"{', '.join(_STATES)}; may be repeated.", autocompletion=states),
    ] = None,
    org: Org = None,
    channel: Channel = None,
    count: Annotated[
        bool, typer.Option("--count", help="Only how many there are of each channel and state; sent: in the last 24 h.")
    ] = False,
    limit: Limit = 20,
    reveal: Reveal = False,
    wide: Wide = False,
    json: JsonOutput = False,
) -> None:
    """List deliveries, those that were claimed last first."""
    unknown = [each for each in state or [] if each not in _STATES]
    if unknown:
        raise UsageError(f"There is no state {', '.join(unknown)}. It is one of {', '.join(_STATES)}.")
    checked_channel(channel)
    with connect(settings) as session:
        if count:
            rows, columns = desk.count_deliveries(session, org, clock.now()), _COUNTS
        else:
            rows, columns = desk.list_deliveries(session, state, org, channel, limit, clock.now()), _COLUMNS
            rows = [_shown(row, reveal=reveal) for row in rows]
    if json:
        print_json(rows)
    else:
        print_table([{name: row[name] for name in columns} for row in rows], columns=columns, wide=wide)


@command(app, "show", example="mauntic-jobs deliveries show 7f3c2f --json", prints=DeliveryDetailJson)
def show_delivery(
    settings: Settings,
    delivery: Delivery,
    *,
    org: Org = None,
    reveal: Reveal = False,
    json: JsonOutput = False,
) -> None:
    """Show everything that is known of one delivery: its state, its attempts, and what the platform has heard of it."""
    with connect(settings) as session:
        row = _shown(desk.show_delivery(session, delivery, org), reveal=reveal)
    if json:
        print_json(row)
        return
    fields: list[Field] = [(name, row[name]) for name in _SHOWN if row.get(name) not in (None, "")]
    fields += [(f"payload.{name}", _folded(value)) for name, value in (row["payload"] or {}).items()]
    print_fields([*fields, *_attempts(row["attempts"]), *(("event", _line(each)) for each in row["events"])])


@command(app, "explain", example="mauntic-jobs deliveries explain 7f3c2f", prints=ExplanationJson)
def explain_delivery(
    settings: Settings,
    delivery: Annotated[str, typer.Argument(metavar="ID", help="Its delivery id, or the id of its BullMQ job.")],
    *,
    org: Org = None,
    json: JsonOutput = False,
) -> None:
    """Say why a delivery is where it is: what it waits for, since when or until when, and how many come before it."""
    with connect(settings) as session, closing(open_redis(settings)) as redis:
        found = explain(session, redis, settings, delivery, org, clock.now())
    if json:
        print_json(asdict(found))
        return
    print_fields((name, value) for name, value in asdict(found).items() if value is not None and name != "seconds")


@command(app, "resolve", example="mauntic-jobs deliveries resolve 7f3c2f --sent")
def resolve_delivery(
    settings: Settings,
    delivery: Delivery,
    *,
    sent: Annotated[bool, typer.Option("--sent", help="It was sent: the provider has it.")] = False,
    resend: Annotated[bool, typer.Option("--resend", help="Send it, at the risk that it has been sent.")] = False,
    org: Org = None,
) -> None:
    """Decide about a delivery that is ambiguous, or send one again that has failed or expired."""
    if sent == resend:
        raise UsageError("Say either --sent or --resend.")
    with connect(settings) as session:
        if sent:
            desk.resolve_sent(session, delivery, org, record_activity=settings.record_activity)
            print_line(f"{delivery} is recorded as sent")
            return
        with closing(open_redis(settings)) as redis:
            desk.resolve_resend(session, redis, settings, delivery, org, clock.now())
        print_line(f"{delivery} is on its queue again")


register_resend(app)
register_restrictions(app)
register_weights(app)
register_warmup(app)


@command(app, "reconcile", example="mauntic-jobs deliveries reconcile", prints=ReconciledJson)
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
    if done.interrupted:
        print_line(f"{plural(done.interrupted, 'message')} in the hands of a process that died: ambiguous now")
    if done.sending:
        print_line(f"{plural(done.sending, 'message')} being sent: if no deliver runs, run this again in a minute")
    if done.missing:
        print_line(
            "Campaigns of which neither the ledger nor a queue knows all messages; their producer must add them:"
        )
        print_table(done.missing)


def _attempts(attempts: Sequence[Row]) -> list[Field]:
    """Return the attempts of a delivery by their numbers, with how many the ledger has left out."""
    trace: list[Field] = []
    number = 1
    for each in attempts:
        if "omitted" in each:
            last = number + each["omitted"] - 1
            trace.append((f"attempts {number} to {last}", "left out: only the first and the last are kept"))
            number = last
        else:
            trace.append((f"attempt {number}", _line(each)))
        number += 1
    return trace


def _shown(row: Row, *, reveal: bool) -> Row:
    """Return a delivery as it may be shown: without what names a person, unless that was asked for."""
    named = {name: row[name] for name in ("address", "payload") if name in row}
    return {**row, **mask_payload(named, reveal=reveal)}


def _folded(value: object) -> str:
    """Return a value of a payload on one line; of a long one its beginning and its length."""
    text = shorten(value, 10 * _VALUE_LENGTH)
    if len(text) <= _VALUE_LENGTH:
        return text
    return f"{text[:_FOLDED_LENGTH]}… ({len(str(value)):,} characters, whole with --json)"


def _line(value: Row) -> str:
    return ", ".join(f"{name}: {each}" for name, each in value.items() if each not in (None, ""))
