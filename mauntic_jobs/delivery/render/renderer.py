"""Interface of a channel's writer: makes what a provider sends from a message."""

from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from mauntic_jobs.delivery.payload import Message
from mauntic_jobs.errors import JobFailedError


class WritingError(JobFailedError):
    """A message lacks something that it cannot be sent without."""


class ContentError(JobFailedError):
    """A message cannot be sent as it is, by any provider of its kind."""


_ContentT = TypeVar("_ContentT")


@dataclass(frozen=True, slots=True)
class Draft(Generic[_ContentT]):
    """A message ready to be sent, except for its id. `domain` is the one whose warm-up it counts for.

    `address` is in the channel's one form, by which it is suppressed; `written` is how it was given, if otherwise.
    `unknown_fields` are those of its template that neither the message nor the contact has.
    """

    address: str
    content: _ContentT
    message_id: str | None = None
    domain: str | None = None
    written: str | None = None
    unknown_fields: tuple[str, ...] = ()


class Renderer(Protocol[_ContentT]):
    """Writes the messages of one channel."""

    async def write(self, message: Message, sender: str | None) -> Draft[_ContentT]:
        """Return the draft; `sender` is whom it is from if it does not say. Raises JobFailedError, with the reason."""
        ...

    def signed(self, draft: Draft[_ContentT], message_id: str | None) -> _ContentT:
        """Return the draft's content with the id that the ledger has for it."""
        ...


# Those of whichever channel.
AnyDraft = Draft[Any]
AnyRenderer = Renderer[Any]
