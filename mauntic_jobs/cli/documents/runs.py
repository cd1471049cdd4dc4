"""JSON of the scheduled jobs and of the ledger of runs."""

from typing import NotRequired

from pydantic import AwareDatetime
from typing_extensions import TypedDict

from mauntic_jobs.runner.request import Launcher, Status


class WindowJson(TypedDict):
    """The data that a run covers: half-open, from `start` up to and without `end`."""

    start: AwareDatetime
    end: AwareDatetime


class ErrorJson(TypedDict):
    """Why a run did not succeed. A guard that refused adds `rows`, what it objects to; their columns are the job's."""

    message: str
    rows: NotRequired[list[dict[str, object]]]


class ReportJson(TypedDict):
    """How a run ended.

    `run_id` is its number in the ledger, null where nothing was written. `exit_code` is what this run alone would give
    the command. `counters` and the columns of `changes` are the job's. `untold` names alerts that no channel took, with
    the reason.
    """

    run_id: int | None
    window: WindowJson
    status: Status
    exit_code: int
    attempt: int
    seconds: float
    counters: dict[str, int]
    changes: list[dict[str, object]]
    problems: list[str]
    untold: dict[str, str]
    error: ErrorJson | None


class JobJson(TypedDict):
    """What a job's command did: one run for each part of the window, in order. Runs not begun are left out."""

    job: str
    window: WindowJson
    dry_run: bool
    exit_code: int
    runs: list[ReportJson]


class DueReportJson(ReportJson):
    """How a run of a slot ended."""

    job: str


class PassedOverJson(TypedDict):
    """A slot that is not going to be run, and why."""

    job: str
    slot: AwareDatetime
    status: Status
    reason: str


class RoundJson(TypedDict):
    """What was due and was run, or would be, and the slots that were passed over."""

    exit_code: int
    runs: list[DueReportJson]
    passed_over: list[PassedOverJson]


class RunJson(TypedDict):
    """A run, as the ledger has it.

    `slot` is the instant of the cron line that it answers, null for a run by hand; `claims_slot`: no other run may
    answer it. `options` and `counters` are the job's. `seconds` is how long it took, or has taken so far.
    """

    id: int
    job: str
    slot: AwareDatetime | None
    claims_slot: bool
    window_start: AwareDatetime
    window_end: AwareDatetime
    options: dict[str, object]
    launcher: Launcher
    launcher_id: str | None
    host: str
    pid: int
    version: str
    attempt: int
    status: Status
    started_at: AwareDatetime
    heartbeat_at: AwareDatetime
    finished_at: AwareDatetime | None
    counters: dict[str, int]
    error: str | None
    fencing_token: int
    seconds: float
