"""Options that several commands share, named alike everywhere."""

from typing import Annotated
from uuid import UUID

import typer

from mauntic_jobs.cli.framework.completion import channels, organizations
from mauntic_jobs.delivery.channels import CHANNELS
from mauntic_jobs.errors import UsageError

Org = Annotated[
    UUID | None, typer.Option("--org", metavar="UUID", help="Only of this organization.", autocompletion=organizations)
]
Channel = Annotated[
    str | None, typer.Option("--channel", metavar="CHANNEL", help="email, sms or push.", autocompletion=channels)
]

Wide = Annotated[bool, typer.Option("--wide", help="Show ids and columns whole, however long the lines become.")]


def checked_channel(channel: str | None) -> str | None:
    """Return the channel. Raises UsageError if there is none of this name."""
    if channel is not None and channel not in CHANNELS:
        raise UsageError(f"There is no channel {channel}. The channels are: {', '.join(CHANNELS)}.")
    return channel
