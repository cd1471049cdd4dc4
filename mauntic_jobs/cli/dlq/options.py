"""Options that select dead letters."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated
from uuid import UUID

import typer

from mauntic_jobs.cli.framework.completion import organizations
from mauntic_jobs.ops.dead_letters.filter.parser import parse_where
from mauntic_jobs.ops.dead_letters.store import DeadLetters, Selection
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.timekeeping.window import parse_ago

_WHICH = "Which (all of these together)"

Queue = Annotated[
    list[str] | None,
    typer.Option(metavar="QUEUE", help="Such as delivery:send-email, or run; may be repeated.", rich_help_panel=_WHICH),
]
Since = Annotated[
    str | None, typer.Option(metavar="TIME", help="Such as 2h: failed no longer ago.", rich_help_panel=_WHICH)
]
Org = Annotated[
    UUID | None,
    typer.Option(
        "--org",
        metavar="UUID",
        help="Only of this organization.",
        rich_help_panel=_WHICH,
        autocompletion=organizations,
    ),
]
Where = Annotated[
    str | None,
    typer.Option(metavar="CONDITION", help="Such as \"error~'421' and age<2h\".", rich_help_panel=_WHICH),
]
Reveal = Annotated[bool, typer.Option("--reveal", help="Show addresses, phone numbers and tokens.")]


def selection(
    queue: list[str] | None, since: str | None, org: UUID | None, where: str | None, now: datetime
) -> Selection:
    """Return what the options mean. Raises UsageError for one that cannot be read."""
    return Selection(
        queues=queue or (),
        since=parse_ago(since, now) if since is not None else None,
        organization=org,
        where=parse_where(where) if where is not None else None,
    )


@contextmanager
def opened(settings: Settings, now: datetime) -> Iterator[DeadLetters]:
    """Yield the dead letters as they stand now. Raises UnavailableError if either store is away."""
    with DeadLetters(settings, now) as letters:
        yield letters.connect()
