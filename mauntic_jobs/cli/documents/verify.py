"""JSON of the verification of figures."""

from uuid import UUID

from typing_extensions import TypedDict

from mauntic_jobs.cli.documents.runs import WindowJson


class SampleJson(TypedDict):
    """A sample: `share` of the organizations of each day or month, from 0 to 1, drawn by `seed`."""

    share: float
    seed: int


class FigureJson(TypedDict):
    """A figure that differs. `type` is an event type, or a campaign's id; `should_be` is what a rebuild would record.

    `stands` is null where there is no row, `should_be` where there should be none. `withheld` is why a rebuild would
    not write it.
    """

    window: WindowJson
    organization_id: UUID
    type: str
    figure: str
    stands: int | None
    should_be: int | None
    withheld: str | None


class VerifiedBucketJson(TypedDict):
    """One day or month: how many `groups` were compared, how many of them differ, and for which reason that is known.

    `late` ones only lack events that came after the last rebuild, `known` ones were withheld by an earlier run. With
    `--repair`, `left` still differ after the `runs`, which said `problems`. `error` is why it could not be compared.
    """

    window: WindowJson
    groups: int
    differing: int
    late: int
    known: int
    error: str | None
    runs: list[int]
    problems: list[str]
    left: int | None


class VerifiedJobJson(TypedDict):
    """The figures of one job. `differences` has the first of them; `buckets` has the numbers of all, oldest first."""

    job: str
    buckets: list[VerifiedBucketJson]
    differences: list[FigureJson]


class VerifyJson(TypedDict):
    """What `verify` has found. Without a sample all organizations were compared."""

    exit_code: int
    repair: bool
    sample: SampleJson | None
    jobs: list[VerifiedJobJson]
