"""JSON of dead letters."""

from pydantic import AwareDatetime
from typing_extensions import TypedDict

from mauntic_jobs.cli.documents.deliveries import DeliveryDetailJson
from mauntic_jobs.cli.documents.runs import RunJson
from mauntic_jobs.ops.dead_letters.batch_action import Fate


class LetterGroupJson(TypedDict):
    """Dead letters of a queue whose errors are the same but for numbers, ids and addresses; `example` is the id of one.

    The queue `run` is the ledger of runs. `first` and `last` are when the earliest and the latest of them failed.
    """

    queue: str
    fingerprint: str
    count: int
    first: AwareDatetime
    last: AwareDatetime
    error: str
    example: str


class _Letter(TypedDict):
    id: str
    queue: str
    name: str
    fingerprint: str
    error: str
    attempts: int
    added_at: AwareDatetime
    failed_at: AwareDatetime
    organization: str | None
    channel: str | None


class LetterJson(_Letter):
    """A dead letter. Addresses and secrets are masked unless --reveal is given."""

    payload: dict[str, object] | None


class LetterDetailJson(_Letter):
    """A dead letter with all that is known about it.

    `payload` is a text where the job's data is not a JSON object. `options` are BullMQ's of the job, `traces` the
    errors of its attempts. `delivery` and `run` are what the ledgers hold of it, null where they hold nothing.
    """

    payload: dict[str, object] | str | None
    options: object
    traces: list[str]
    delivery: DeliveryDetailJson | None
    run: RunJson | None


class LettersMeantJson(TypedDict):
    """The dead letters that a command would change, with --dry-run."""

    dry_run: bool
    matched: int
    groups: list[LetterGroupJson]


class KeptLetterJson(TypedDict):
    """A dead letter that is still one, or was changed by another process, and why."""

    id: str
    fate: Fate
    reason: str


class LettersChangedJson(TypedDict):
    """How many dead letters were changed, refused, gone before, or failed again.

    `kept` names the first 20 that were not changed.
    """

    done: int
    refused: int
    gone: int
    failed: int
    kept: list[KeptLetterJson]
