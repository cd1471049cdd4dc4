"""Verification of the recorded figures: every one beside what a rebuild would record, and repair of what differs.

Each bucket is a look of its own at one instant of the database, with the job's own statements, that is rolled back. A
repair is a run of the job for that bucket and the organizations that differ, and then a second look at those.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from mauntic_jobs.errors import ConfigurationError, MaunticJobsError, RefusedError, UnavailableError, UsageError
from mauntic_jobs.job import AnyJob, BucketFigures, Draw, FigureLook, JobOptions, Overlap
from mauntic_jobs.runner.request import Launcher, Report, Request, silent
from mauntic_jobs.runner.run import run
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Limits, Session
from mauntic_jobs.timekeeping.window import Window

# What all buckets would meet alike.
_OF_ALL = (UnavailableError, ConfigurationError, UsageError)


@dataclass(frozen=True)
class Verification:
    """What is verified: the figures of a job, with its options, of all organizations or of a `sample` of them.

    The sample draws organizations anew for each bucket. At most `limit` differences are listed in all. `log` shows a
    sentence to the user.
    """

    job: AnyJob
    options: JobOptions
    settings: Settings
    sample: Draw | None = None
    limit: int = 1_000
    log: Callable[[str], None] = silent


@dataclass(frozen=True)
class VerifiedBucket:
    """What was found of one bucket; `error` is why it could not be compared, and then there are no `figures`.

    After a repair `runs` are its runs, `problems` what they say, and `left` is how the bucket stands now.
    """

    bucket: Window
    figures: BucketFigures | None = None
    error: MaunticJobsError | None = None
    runs: Sequence[int] = ()
    problems: Sequence[str] = ()
    left: BucketFigures | None = None

    @property
    def wrong(self) -> bool:
        """Whether it differs, after a repair if there was one, or is not known."""
        standing = self.left or self.figures
        return standing is None or standing.differing > 0


def comparison_of(job: AnyJob) -> Callable[..., BucketFigures]:
    """Return what verifies the job's figures. Raises UsageError for a job that records none."""
    if job.verify is None:
        raise UsageError(f"{job.name} records no figures to verify.")
    return job.verify


def verify(
    session: Session,
    asked: Verification,
    buckets: Sequence[Window],
    *,
    repair_now: Callable[[], datetime] | None = None,
) -> Iterator[VerifiedBucket]:
    """Yield what is found of each bucket, in their order; with `repair_now`, which reads the clock, after its repair.

    A bucket that cannot be compared is told as such, and the next one follows. Raises UsageError for organizations that
    are unknown, and what all buckets would meet.
    """
    shown = 0
    for bucket in buckets:
        look = FigureLook(asked.limit - shown, _draw(asked.sample, bucket), ids_known=bucket != buckets[0])
        found = _look(session, asked, bucket, asked.options, look)
        if repair_now is not None and found.figures is not None and found.figures.differing:
            found = _repaired(session, asked, found.figures, bucket, look, repair_now)
        listed = found.left or found.figures
        shown += 0 if listed is None else len(listed.differences)
        yield found


def _look(
    session: Session, asked: Verification, bucket: Window, options: JobOptions, look: FigureLook
) -> VerifiedBucket:
    settings, compare = asked.settings, comparison_of(asked.job)
    limits = Limits("mauntic-jobs verify", settings.statement_timeout, work_mem=settings.work_mem)
    try:
        with session.look(limits):
            return VerifiedBucket(bucket, compare(session, options, settings, bucket, look))
    except _OF_ALL:
        raise
    except MaunticJobsError as error:
        return VerifiedBucket(bucket, error=error)


def _draw(sample: Draw | None, bucket: Window) -> Draw | None:
    """Return the draw of one bucket: of the next one, others are drawn."""
    if sample is None:
        return None
    digest = hashlib.sha256(f"{sample.seed}/{bucket}".encode()).digest()
    return Draw(sample.share, int.from_bytes(digest[:8], "big", signed=True))


def _repaired(
    session: Session,
    asked: Verification,
    figures: BucketFigures,
    bucket: Window,
    look: FigureLook,
    now: Callable[[], datetime],
) -> VerifiedBucket:
    reports = list(_rebuild(asked, bucket, figures.organizations, now))
    # An organization of which only a row too many was recorded is unknown now.
    whose, again = _limited(asked.options, figures.organizations), look._replace(ids_known=True)
    after = _look(session, asked, bucket, whose, again)
    problems = [problem for report in reports for problem in _problems(report)]
    return VerifiedBucket(
        bucket,
        figures,
        error=after.error,
        runs=[report.run_id for report in reports if report.run_id is not None],
        problems=list(dict.fromkeys(problems)),
        left=after.figures,
    )


def _rebuild(
    asked: Verification, bucket: Window, organizations: Sequence[UUID] | None, now: Callable[[], datetime]
) -> Iterator[Report]:
    """Rebuild a bucket for organizations; where that fails, for each half of them, so that one keeps no other back."""
    request = Request(
        job=asked.job,
        window=bucket,
        coverage=bucket,
        options=_limited(asked.options, organizations),
        settings=asked.settings,
        launcher=Launcher.CLI,
        now=now(),
        overlap=Overlap.WAIT,
        log=asked.log,
    )
    report = run(request)
    if isinstance(report.error, _OF_ALL):
        raise report.error
    yield report
    if report.error is None or isinstance(report.error, RefusedError) or organizations is None:
        return
    middle = len(organizations) // 2
    if middle:
        yield from _rebuild(asked, bucket, organizations[:middle], now)
        yield from _rebuild(asked, bucket, organizations[middle:], now)


def _limited(options: JobOptions, organizations: Sequence[UUID] | None) -> JobOptions:
    return options if organizations is None else options.model_copy(update={"org": list(organizations)})


def _problems(report: Report) -> Sequence[str]:
    return report.problems if report.error is None else [str(report.error)]
