"""`deliveries resend`: messages that failed or expired, sent after all."""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from typing import Annotated, NamedTuple
from uuid import UUID

import typer

from mauntic_jobs.cli.documents.deliveries import ResentJson, UnsentJson
from mauntic_jobs.cli.framework.command import JsonOutput, command
from mauntic_jobs.cli.framework.completion import states
from mauntic_jobs.cli.framework.options import Channel, Org, checked_channel
from mauntic_jobs.cli.framework.output import log, print_json, print_line, print_table
from mauntic_jobs.cli.job.output import progress
from mauntic_jobs.delivery.ledger.records import State
from mauntic_jobs.delivery.ledger.resend import UNSENT, Unsent, count_unsent, resend, unsent_deliveries
from mauntic_jobs.delivery.queues import base_of
from mauntic_jobs.errors import Interrupted, UsageError
from mauntic_jobs.job import Row
from mauntic_jobs.ops.dead_letters.error_fingerprint import fingerprint
from mauntic_jobs.ops.rate_limit import Pace, parse_rate
from mauntic_jobs.redaction.payloads import mask_text
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, connect
from mauntic_jobs.stores.redis.client import RedisScripts, open_redis
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.window import parse_ago
from mauntic_jobs.wording import plural


class _Kind(NamedTuple):
    """Messages whose reasons are the same but for numbers, ids and addresses; `without_content` cannot be sent."""

    deliveries: int
    without_content: int
    fingerprint: str
    reason: str


def register_resend(app: typer.Typer) -> None:
    """Add the command to the group."""
    example = "mauntic-jobs deliveries resend --state expired --since 24h --dry-run"
    command(app, "resend", example=example, prints=ResentJson | UnsentJson)(resend_deliveries)


def resend_deliveries(
    settings: Settings,
    *,
    state: Annotated[
        str, typer.Option(metavar="STATE", help="failed (of one campaign) or expired.", autocompletion=states)
    ] = State.FAILED.value,
    campaign: Annotated[
        UUID | None, typer.Option(metavar="UUID", help="Only of this row of delivery.delivery_jobs.")
    ] = None,
    org: Org = None,
    channel: Channel = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Such as 2h: failed or expired no longer ago.")
    ] = None,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Only those whose reason contains it.")] = None,
    rate: Annotated[str, typer.Option(metavar="RATE", help="How fast they are queued: 5/s, 300/m.")] = "50/s",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show how many there are, by kind of reason.")
    ] = False,
    json: JsonOutput = False,
) -> None:
    """Send messages that failed or expired, and no others: what was sent or is ambiguous stays as it is."""
    now = clock.now()
    least = parse_ago(since, now) if since is not None else None
    which = Unsent(_state(state, campaign), campaign, org, checked_channel(channel), least, reason)
    pace = Pace(parse_rate(rate))
    with connect(settings) as session, closing(open_redis(settings)) as redis:
        found = count_unsent(session, which)
        if dry_run:
            counts = {which.state.value: _sum(found, "deliveries"), "without_content": _sum(found, "gone")}
            _print(counts, [kind._asdict() for kind in _kinds(settings, found)], json=json)
            return
        fates = _resend(session, redis, settings, which, found, pace, quiet=json)
    queued = fates.pop(None, 0)
    refusals = [{"reason": why, "deliveries": count} for why, count in fates.most_common()]
    _print({"queued": queued, "refused": fates.total(), "without_content": _sum(found, "gone")}, refusals, json=json)


def _resend(
    session: Session,
    redis: RedisScripts,
    settings: Settings,
    which: Unsent,
    found: Sequence[Row],
    pace: Pace,
    *,
    quiet: bool,
) -> Counter[str | None]:
    """Put the messages on their queues again; count those that were, under None, and why others were not."""
    fates: Counter[str | None] = Counter()
    total = _sum(found, "deliveries") - _sum(found, "gone")
    organizations = sorted({row["organization_id"] for row in found})
    try:
        with progress(total, "resend", quiet=quiet or not total) as advance:
            for rows in unsent_deliveries(session, which, organizations, pace.portion):
                pace.wait(len(rows))
                fates.update(resend(session, redis, settings, which.state, rows, clock.now()))
                for _ in rows:
                    advance()
    except Interrupted as signal:
        log(f"resend: {signal} after {fates.total():,} of {total:,}. Run it again for the rest.", "warning")
        raise typer.Exit(signal.exit_code) from None
    return fates


def _sum(rows: Sequence[Row], name: str) -> int:
    return sum(row[name] for row in rows)


def _state(state: str, campaign: UUID | None) -> State:
    if state not in UNSENT:
        raise UsageError(
            f"--state is failed or expired, not {state}. About a message that is ambiguous you decide: "
            "mauntic-jobs deliveries resolve ID."
        )
    if state == State.FAILED and campaign is None:
        raise UsageError("Name the campaign whose failed messages are sent again: --campaign. For others: dlq retry.")
    return State(state)


def _kinds(settings: Settings, found: Sequence[Row]) -> list[_Kind]:
    """Return the reasons by the fingerprint that `dlq list` has too, the most common first, each with an example."""
    by_kind: dict[str, list[Row]] = {}
    for row in sorted(found, key=lambda row: -int(row["deliveries"])):
        by_kind.setdefault(fingerprint(_queue(settings, row["channel"]), row["reason"] or ""), []).append(row)
    kinds = [
        _Kind(
            _sum(rows, "deliveries"),
            _sum(rows, "gone"),
            kind,
            mask_text(rows[0]["reason"] or "", reveal=False),
        )
        for kind, rows in by_kind.items()
    ]
    return sorted(kinds, key=lambda kind: -kind.deliveries)


def _queue(settings: Settings, channel: str) -> str:
    return base_of(settings, channel).partition(":")[2]


def _print(counts: Row, reasons: Sequence[Row], *, json: bool) -> None:
    if json:
        print_json({**counts, "reasons": reasons})
        return
    print_line(", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items()))
    if len(reasons) > 1:
        print_line(f"{plural(len(reasons), 'kind')} of reasons:")
    if reasons:
        print_table(reasons)
