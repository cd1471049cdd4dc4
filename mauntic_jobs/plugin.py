"""Public interface for jobs of other packages.

Only this module and `mauntic_jobs.testing` are public: their names stay as they are within a major version. All other
modules may change with any release.
"""

from mauntic_jobs.errors import JobFailedError
from mauntic_jobs.job import (
    BucketCounts,
    BucketFigures,
    Context,
    Draw,
    FigureLook,
    Job,
    JobOptions,
    JobResult,
    Row,
    Transaction,
)
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.settings.types import Duration
from mauntic_jobs.timekeeping.catch_up import CatchUp, Which
from mauntic_jobs.timekeeping.window import Unit, Window, naive

__all__ = [
    "BucketCounts",
    "BucketFigures",
    "CatchUp",
    "Context",
    "Draw",
    "Duration",
    "FigureLook",
    "Job",
    "JobFailedError",
    "JobOptions",
    "JobResult",
    "Row",
    "Settings",
    "Transaction",
    "Unit",
    "Which",
    "Window",
    "naive",
]
