"""Settlement of jobs: the BullMQ calls that complete, retry, delay or fail them."""

import json
import random
from collections.abc import Callable, Mapping

from mauntic_jobs.delivery.job_outcome import Decision, Defer, Done, Fail, Retry
from mauntic_jobs.stores.bullmq import commands as scripts
from mauntic_jobs.stores.bullmq.commands import ScriptCall
from mauntic_jobs.stores.bullmq.job import ReceivedJob
from mauntic_jobs.stores.bullmq.stalls import FIELD as STALLS

_RETRY_JITTER = 0.2


def acknowledgement(
    base: str,
    token: str,
    name: str,
    job: ReceivedJob | None,
    decision: Decision,
    *,
    more: bool,
    stalls: int | None = None,
) -> Callable[[int], ScriptCall]:
    """Return what makes the call, at a time in milliseconds since 1970, that settles a job of this name.

    With `more` it takes the next job as well. `job` is None for one that could not be read. `stalls` are noted as
    accounted for, unless they are None or the job is given back, for which BullMQ's script writes nothing.
    """
    fields = {} if stalls is None else {STALLS: stalls}
    match decision:
        case Done(value):
            return lambda now: _finish(base, token, job, name, now, value=json.dumps(value), more=more)
        case Fail(reason):
            return lambda now: _finish(base, token, job, name, now, value=reason, more=more, fields=fields)
        case Retry(reason) if job is not None:
            wait = job.retry_delay().total_seconds() * random.uniform(1.0, 1.0 + _RETRY_JITTER)  # noqa: S311 - to spread
            return lambda now: scripts.delay(
                base, token, name, now, int(wait * 1000), reason, fields=fields, fetch_next=more
            )
        case Defer(seconds, reason):
            wait = int(seconds * 1000)
            return lambda now: scripts.delay(
                base, token, name, now, wait, reason, spend_attempt=False, fields=fields, fetch_next=more
            )
        case _:
            return lambda _: scripts.give_back(base, token, name)


def _finish(
    base: str,
    token: str,
    job: ReceivedJob | None,
    name: str,
    now: int,
    *,
    value: str,
    more: bool,
    fields: Mapping[str, int] | None = None,
) -> ScriptCall:
    """Return the call that completes a job or, with `fields` to write into its hash, fails it."""
    failed = fields is not None
    # A job that cannot be read is kept, like any that fails.
    keep = job.kept(failed=failed) if job is not None else {"count": -1}
    attempts = job.attempts if job is not None else 0
    return scripts.finish(
        *(base, token, name, now),
        failed=failed,
        value=value,
        keep=keep,
        attempts=attempts,
        fields=fields or {},
        fetch_next=more,
    )
