"""Alerts that the end of a run raises or closes."""

from dataclasses import replace
from datetime import datetime, timedelta

from mauntic_jobs.alerts.alert import Alert, Cause, Severity
from mauntic_jobs.alerts.clock_skew import clock_skew, host_key
from mauntic_jobs.alerts.failures import failures
from mauntic_jobs.alerts.notify import record, send_due
from mauntic_jobs.alerts.withheld import groups_withheld
from mauntic_jobs.errors import (
    ClockSkewError,
    ExitCode,
    FencedError,
    MaunticJobsError,
    SlotClaimedError,
    UnavailableError,
)
from mauntic_jobs.installation import Installation
from mauntic_jobs.runner.request import Launcher, Report, Request, Status
from mauntic_jobs.stores.postgres.session import Session

_RUN_CAUSES = (Cause.JOB_FAILED, Cause.JOB_PARTIAL, Cause.RESULT_IMPLAUSIBLE, Cause.RUN_TOO_LONG)


def answers_slot(request: Request) -> bool:
    """Return whether a run answers a slot, so that its result is expected: others are made by hand, or for show."""
    return request.slot is not None and not request.dry_run and request.launcher is not Launcher.DEMO


def notify_end(installation: Installation, request: Request, report: Report) -> Report:
    """Raise and close the alerts of a run that has ended, and return its report with those that no channel took."""
    if not _needs_alerts(request, report):
        return report
    now = request.now + timedelta(seconds=report.seconds)
    try:
        session = installation.session
        if request.host_clock is not None or isinstance(report.error, ClockSkewError):
            now = _recorded_skew(session, request, report, now)
        found = failures(session, [request.job])
        if report.error is None and request.slot is not None:
            found += _doubts(request, report)
        # Manual runs raise no alerts; a success closes the alerts of earlier windows.
        until = None if request.slot is not None else request.window.end
        record(session, found, now, causes=_RUN_CAUSES, keys=[request.job.name], until=until)
        record(session, groups_withheld(session), now, causes=[Cause.GROUPS_WITHHELD])
        sent = send_due(session, request.settings, now)
    except MaunticJobsError as error:
        # The run has already reported that the database is down.
        if not isinstance(report.error, UnavailableError):
            request.log(f"{request.job.name}: no alerts: {error}")
        return report
    for channel, problem in sent.broken.items():
        request.log(f"{request.job.name}: alert channel {channel}: {problem}")
    return replace(report, untold=sent.untold)


def _recorded_skew(session: Session, request: Request, report: Report, now: datetime) -> datetime:
    """Write down whether this host's clock is wrong; return the present instant, by the clock that is right."""
    skew = report.error if isinstance(report.error, ClockSkewError) else None
    found = [] if skew is None else [clock_skew(skew, request.settings)]
    now = now if skew is None else skew.there
    record(session, found, now, causes=[Cause.CLOCK_SKEW], keys=[host_key(request.settings)])
    return now


def _needs_alerts(request: Request, report: Report) -> bool:
    if request.dry_run or request.launcher is Launcher.DEMO or report.overlapped or report.status is Status.STOPPED:
        return False
    if report.error is None:
        return True
    if isinstance(report.error, FencedError | SlotClaimedError) or request.slot is None:
        return False
    return not (request.launcher is Launcher.CLI and report.error.exit_code is ExitCode.USAGE)


def _doubts(request: Request, report: Report) -> list[Alert]:
    # Withheld groups have an alert of their own, which lasts until they are settled.
    causes = {Cause.JOB_PARTIAL: report.partial and not report.withheld, Cause.RESULT_IMPLAUSIBLE: report.implausible}
    what = {Cause.JOB_PARTIAL: "done in part", Cause.RESULT_IMPLAUSIBLE: "hardly possible"}
    return [
        Alert(
            cause=cause,
            key=request.job.name,
            severity=Severity.WARNING,
            summary=f"{request.job.name} {request.window} {what[cause]}: {'; '.join(report.problems)}",
            action=f"mauntic-jobs runs show {report.run_id}",
            details={"run": report.run_id, "host": request.host, "window_end": request.window.end.isoformat()},
        )
        for cause, found in causes.items()
        if found
    ]
