"""A job: a name, a cron line, a window, policies and one function. No I/O, no clock, no launcher."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from mauntic_jobs.errors import RefusedError
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.settings.types import LEDGER, JobSettings
from mauntic_jobs.timekeeping.catch_up import CatchUp, Which
from mauntic_jobs.timekeeping.window import Unit, Window

Row = dict[str, Any]


class Overlap(StrEnum):
    """What a run does when another run of the same job is under way."""

    SKIP = "skip"
    WAIT = "wait"
    FAIL = "fail"
    ALLOW = "allow"


class JobOptions(BaseModel):
    """The options a job has beyond those every job has. Subclass it; each field becomes an option of the command."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def from_ledger(cls, recorded: Mapping[str, object]) -> Self:
        """Return the options that the ledger of runs holds. Raises ValidationError if the job has others by now."""
        return cls.model_validate(recorded, context=LEDGER)


OptionsT_co = TypeVar("OptionsT_co", bound=JobOptions, covariant=True)
OptionsT = TypeVar("OptionsT", bound=JobOptions)


class Transaction(Protocol):
    """The open transaction that a job works in; the runner commits it together with the run's ledger row."""

    def execute(self, query: bytes, parameters: Mapping[str, Any] = ...) -> int:
        """Execute one statement with named parameters and return how many rows it affected."""

    def rows(self, query: bytes, parameters: Mapping[str, Any] = ...) -> list[Row]:
        """Execute one statement and return its rows, by column name."""

    def row(self, query: bytes, parameters: Mapping[str, Any] = ...) -> Row:
        """Execute a statement that returns exactly one row, and return it."""

    def gather(self, table: str, query: bytes, parameters: Mapping[str, Any] = ..., *, in_parts: bool = ...) -> None:
        """Put what a query finds of what others have committed in a temporary table, which ends with the transaction.

        A read replica may be asked. `in_parts`: each query of a UNION ALL is one process's work from end to end, as far
        as Postgres has processes.
        """

    def read(self, query: bytes, parameters: Mapping[str, Any] = ...) -> list[Row]:
        """Return the rows of a statement that only reads what others have committed; a read replica may be asked."""

    def savepoint(self) -> AbstractContextManager[None]:
        """Undo what the body did if it raises, and nothing else."""


class Scripts(Protocol):
    """Redis, as far as jobs may use it: atomic Lua scripts."""

    @property
    def in_cluster(self) -> bool:
        """Whether this is a cluster, where the keys of one call must be in one hash slot."""

    def run(self, script: bytes, calls: Iterable[tuple[Sequence[str], Sequence[str | int]]]) -> list[Any]:
        """Run a script once for each pair of keys and arguments, in batches, and return the results in order."""


class Fingerprint(NamedTuple):
    """Checksums of a bucket: of the figures that are to be recorded, `input`, and of those that are, `target`."""

    input: str
    target: str

    def difference(self, found: "Fingerprint") -> str:
        """Say what has changed since, as the beginning of a sentence; nothing if nothing has."""
        changed = {"the raw events": found.input != self.input, "the recorded rows": found.target != self.target}
        what = " and ".join(name for name, differs in changed.items() if differs)
        return what and f"{what} have changed"


@dataclass(frozen=True)
class Context(Generic[OptionsT_co]):
    """What the runner hands to a job's function.

    `now` is the instant the run was asked for, aware, in UTC. With `dry_run` the transaction is rolled back, and the
    job should only find out what it would do. `warn` tells the person at the terminal something that is no failure.
    `redis` is there for jobs that ask for it. `slot` is the cron slot that the run answers, if it was not asked for
    otherwise. `expects` is how the one bucket of the run must be found: it is part of a plan. `run` is its number in
    the ledger, None for a rehearsal.
    """

    transaction: Transaction
    options: OptionsT_co
    settings: Settings
    now: datetime
    dry_run: bool
    warn: Callable[[str], None]
    redis: Scripts | None = None
    slot: datetime | None = None
    expects: Fingerprint | None = None
    run: int | None = None


@dataclass(frozen=True)
class JobResult:
    """What a run did: counters for the ledger, and optionally the rows it changed, for display.

    `partial` means that some of the work was left undone; the command then exits 3, and the ledger keeps `problems`.
    `implausible` is the runner's to say: `Job.measure` is far from what it usually is. It exits 3 as well.

    `withheld` counts groups that a guard kept from being written; `problems` name them, and the job keeps a record of
    them until they are settled. `summary` has a row for each bucket and reason: `bucket`, `reason`, `groups`,
    `organizations`, `old_total`, `new_total`. A `refusal` means that there was nothing else: the run fails with it, and
    what the job wrote about it is committed nevertheless.
    """

    counters: Mapping[str, int]
    changes: Sequence[Row] = ()
    partial: bool = False
    problems: Sequence[str] = ()
    implausible: bool = False
    withheld: int = 0
    summary: Sequence[Row] = ()
    refusal: RefusedError | None = None


class BucketCounts(NamedTuple):
    """One bucket's raw events beside what a job has recorded of them, by counts.

    `events` were found; `groups` are recorded. `lacking` is how many events the recorded groups lack, `withheld` how
    many groups a rebuild would not write: their recorded values would fall, or they do not fit into their columns.
    """

    events: int
    groups: int
    lacking: int
    withheld: int


class Draw(NamedTuple):
    """Organizations drawn for a look at one bucket: about `share` of them (0 to 1), always the same by `seed`."""

    share: float
    seed: int


class FigureLook(NamedTuple):
    """How the figures of a bucket are verified: of all organizations or of a `draw`, with a list of up to `limit`.

    `ids_known`: the ids that the options name are not to be looked for again. With `preview`, what a rebuild with the
    same options would do is told as well.
    """

    limit: int
    draw: Draw | None = None
    ids_known: bool = False
    preview: bool = False


class BucketPreview(NamedTuple):
    """What a rebuild of a bucket would do.

    `events` were counted. `present` are the events that all recorded groups add up to, `future` what they would add up
    to. `withheld` groups would stay as they are: they have `withheld_old` events, and `withheld_new` were counted.
    `largest` are the groups that change most: `organization_id`, `kind`, `old_total`, `new_total`, `withheld`.
    """

    events: int
    present: int
    future: int
    withheld: int
    withheld_old: int
    withheld_new: int
    fingerprint: Fingerprint
    largest: Sequence[Row]


class BucketFigures(NamedTuple):
    """One bucket's recorded groups beside what a rebuild would record, figure by figure.

    `groups` were compared; `differing` of them differ, `late` of those only lack events that came after the bucket was
    recorded, and `known` are withheld already. `organizations` are those that differ, None for more than a run can be
    limited to. `differences` are the first figures that differ: `organization_id`, `kind`, `figure`, `stands`,
    `should_be`, `withheld`.
    """

    groups: int
    differing: int
    late: int
    known: int
    organizations: Sequence[UUID] | None
    differences: Sequence[Row]
    preview: BucketPreview | None = None

    @property
    def unexplained(self) -> int:
        """How many groups differ for no reason that is known."""
        return self.differing - self.late - self.known


_LATEST_OF_A_DAY = CatchUp(Which.LATEST, timedelta(days=1))


def _same(window: Window, _options: JobOptions, _settings: Settings) -> Window:
    return window


@dataclass(frozen=True)
class Job(Generic[OptionsT]):
    """A scheduled job.

    `unit` is what one slot covers: the run at slot 10:00 of an hourly job covers [09:00, 10:00). `bucket` is what the
    job rebuilds as a whole: a longer window is run bucket by bucket, unless it is None, for a job that looks at the
    present. `coverage` widens a window to the buckets that it calls for. `run` gets that coverage, works in one
    transaction, and must leave the same rows however often it runs. `redis`: whether the job needs Redis. `publishes`:
    whether it writes to the outbox, which is then published once its transaction is committed.

    `catch_up` says what becomes of slots that no clock ran at their time. `after` names jobs that should have covered
    the window before. `queue` is the BullMQ queue that may launch the job, without its prefix; by default `jobs:` and
    the name. `measure` names the counter that tells whether a result is plausible: what is usual is known from other
    weeks. `audit` compares the raw events of a bucket with what is recorded, and writes nothing; without it the ledger
    of runs alone tells which buckets are recorded. `verify` compares every figure of a bucket with what a rebuild would
    record; what it writes is rolled back.
    """

    name: str
    summary: str
    description: str
    cron: str
    unit: Unit
    bucket: Unit | None
    options: type[OptionsT]
    run: Callable[[Context[OptionsT], Window], JobResult]
    coverage: Callable[[Window, OptionsT, Settings], Window] = field(default=_same)
    critical: bool = True
    redis: bool = False
    publishes: bool = False
    catch_up: CatchUp = _LATEST_OF_A_DAY
    after: Sequence[str] = ()
    queue: str = ""
    measure: str | None = None
    audit: Callable[[Transaction, OptionsT, Settings, Window], BucketCounts] | None = None
    verify: Callable[[Transaction, OptionsT, Settings, Window, FigureLook], BucketFigures] | None = None

    def __post_init__(self) -> None:
        if not self.queue:
            object.__setattr__(self, "queue", f"jobs:{self.name}")

    def configured(self, settings: Settings) -> Self:
        """Return the job as the settings want it scheduled."""
        own = settings.jobs.get(self.name, JobSettings())
        return replace(self, cron=own.cron or self.cron, catch_up=own.catch_up or self.catch_up)


# A job whatever its options are.
AnyJob = Job[Any]


def as_arguments(options: Mapping[str, Any]) -> list[str]:
    """Return a job's options, by their field names, as arguments of its command; one that is false is left out."""
    arguments: list[str] = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            arguments.append(flag)
        elif value is not False:
            arguments += [f"{flag}={each}" for each in (value if isinstance(value, list) else [value])]
    return arguments
