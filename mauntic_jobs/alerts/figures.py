"""Alerts for recorded figures that differ from the raw events, until a look at the same days finds none."""

from mauntic_jobs.alerts.alert import Alert, Cause, Severity
from mauntic_jobs.timekeeping.window import Window
from mauntic_jobs.wording import plural


def figures_differ(job: str, groups: int, buckets: int, window: Window) -> Alert:
    """Return the alert that so many groups of so many days or months of a job differ, all of them within `window`."""
    what = f"{plural(groups, 'recorded group')} of {plural(buckets, 'day or month', 'days or months')}"
    start, end = str(window).split("/")
    return Alert(
        cause=Cause.FIGURES_DIFFER,
        key=job,
        severity=Severity.ERROR,
        summary=(
            f"{job}: {what} ({window}) differ from the raw events, and not because events came late. Rows were "
            "changed, removed or added by another program, or events were deleted."
        ),
        action=f"mauntic-jobs verify {job} --from {start} --to {end} --repair --alert",
        details={"groups": groups, "buckets": buckets, "window": str(window)},
    )
