"""Plausibility of a run's result, by the counts at the same time of other weeks."""

from dataclasses import replace
from datetime import timedelta
from statistics import median

from mauntic_jobs.job import JobResult
from mauntic_jobs.runner.request import Request
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.window import Unit

_MIN_RUNS = 4
_MAX_RUNS = 8
# Below these, chance alone makes such differences.
_MIN_USUAL_FOR_ZERO, _MIN_USUAL_FOR_HALF = 10, 40

_sql = statements("run_alerts")


def check_plausibility(session: Session, request: Request, result: JobResult) -> JobResult:
    """Return the result, marked as implausible if its measure is nothing, or less than half of what it usually is.

    Only runs that answer a slot are judged: others may cover anything.
    """
    job, slot = request.job, request.slot
    if job.measure is None or slot is None or request.options != job.options():
        return result
    weekly = job.unit is not Unit.MONTH
    asked = {
        "job": job.name,
        "measure": job.measure,
        "slot": slot,
        "since": slot - timedelta(days=70 if weekly else 400),
        "weekly": weekly,
        "history": _MAX_RUNS,
    }
    history = [row["measure"] for row in session.rows(_sql["usual"], asked)]
    counted = result.counters.get(job.measure, 0)
    if len(history) < _MIN_RUNS or not _is_doubtful(counted, history):
        return result
    problem = f"{counted:,} {job.measure}, where {median(history):,.0f} are usual at this time: is something missing?"
    return replace(result, implausible=True, problems=[*result.problems, problem])


def _is_doubtful(counted: float, history: list[float]) -> bool:
    usual = median(history)
    if counted == 0:
        return min(history) > 0 and usual >= _MIN_USUAL_FOR_ZERO
    return counted < usual / 2 and usual >= _MIN_USUAL_FOR_HALF
