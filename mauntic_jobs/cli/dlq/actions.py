"""`dlq retry` and `dlq discard`."""

from typing import Annotated

import typer

from mauntic_jobs.cli.dlq.confirm import Asked, carry_out
from mauntic_jobs.cli.dlq.options import Org, Queue, Since, Where, opened, selection
from mauntic_jobs.cli.documents.dead_letters import LettersChangedJson, LettersMeantJson
from mauntic_jobs.cli.framework.command import JsonOutput, command
from mauntic_jobs.cli.framework.output import log
from mauntic_jobs.ops.dead_letters.discard import discard
from mauntic_jobs.ops.dead_letters.retry import retry
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.timekeeping import clock

_Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="From `dlq list`, or conditions instead.")]
_Rate = Annotated[str, typer.Option(metavar="N/s", help="No faster than this, such as 5/s or 300/m.")]
_Limit = Annotated[int | None, typer.Option(min=1, metavar="N", help="At most this many, the oldest first.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing; say what is meant.")]
_Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

_PRINTED = LettersChangedJson | LettersMeantJson


def register_actions(app: typer.Typer) -> None:
    """Add the commands to the group."""
    example = "mauntic-jobs dlq retry --where \"error~'421'\" --rate 5/s --dry-run"
    command(app, "retry", example=example, prints=_PRINTED)(retry_letters)
    example = 'mauntic-jobs dlq discard --where "age>30d" --yes'
    command(app, "discard", example=example, prints=_PRINTED)(discard_letters)


def retry_letters(
    settings: Settings,
    ids: _Ids = None,
    *,
    queue: Queue = None,
    since: Since = None,
    org: Org = None,
    where: Where = None,
    rate: _Rate = "100/s",
    limit: _Limit = None,
    dry_run: _DryRun = False,
    yes: _Yes = False,
    json: JsonOutput = False,
) -> None:
    """Put dead letters back on their queues with all their attempts, and run failed runs again. Doubles nothing.

    A delivery passes suppression, warm-up and its ledger again; one that was sent, or may have been, is refused.
    """
    now = clock.now()
    chosen = selection(queue, since, org, where, now)
    asked = Asked("retry", "retried", ids or [], chosen, rate, limit, dry_run, yes, json)
    with opened(settings, now) as box:
        carry_out(box, asked, lambda letters: retry(box, letters, log))


def discard_letters(
    settings: Settings,
    ids: _Ids = None,
    *,
    queue: Queue = None,
    since: Since = None,
    org: Org = None,
    where: Where = None,
    rate: _Rate = "1000/s",
    limit: _Limit = None,
    dry_run: _DryRun = False,
    yes: _Yes = False,
    json: JsonOutput = False,
) -> None:
    """Remove dead letters, each once a copy of it is in mauntic_jobs.discarded."""
    now = clock.now()
    chosen = selection(queue, since, org, where, now)
    asked = Asked("discard", "discarded", ids or [], chosen, rate, limit, dry_run, yes, json)
    with opened(settings, now) as box:
        carry_out(box, asked, lambda letters: discard(box, letters))
