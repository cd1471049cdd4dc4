"""The examination: every check is made, whatever the others find, and none takes for ever."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from mauntic_jobs.errors import MaunticJobsError, StatementTimeoutError, UnavailableError
from mauntic_jobs.ops.doctor.check import Check, Service, Site
from mauntic_jobs.ops.doctor.checks import (
    alerts,
    clocks,
    crontab,
    database,
    encryption as secrecy,
    files,
    fly,
    jobs,
    messages,
    platform,
    postgres,
    program,
    providers,
    queues,
    redis,
)
from mauntic_jobs.ops.doctor.checks.grants import unreadable
from mauntic_jobs.ops.doctor.deadline import within
from mauntic_jobs.ops.doctor.finding import Finding, error, not_checked, several
from mauntic_jobs.redaction.text import scrub
from mauntic_jobs.stores.postgres.session import Limits

CHECKS: tuple[Check, ...] = (
    postgres.CONNECTION,
    *postgres.CHECKS,
    secrecy.POSTGRES,
    *database.CHECKS,
    redis.CONNECTION,
    *redis.CHECKS,
    secrecy.REDIS,
    *queues.CHECKS,
    *clocks.CHECKS,
    *platform.CHECKS,
    *providers.CHECKS,
    *messages.CHECKS,
    *jobs.CHECKS,
    *alerts.CHECKS,
    *crontab.CHECKS,
    *files.CHECKS,
    *program.CHECKS,
    *fly.CHECKS,
)

# For one check, the connecting ones included; a statement has less.
_SECONDS = 15.0
_LIMITS = Limits("mauntic-jobs doctor", statement_timeout=timedelta(seconds=10))


def examine(site: Site, checks: Sequence[Check] = CHECKS, seconds: float = _SECONDS) -> Iterator[Finding]:
    """Yield what each check finds, in order. A check whose service was not reached is yielded as not checked."""
    lost: set[Service] = set()
    for check in checks:
        if check.needs in lost:
            found = [not_checked(f"{check.needs} was not reached")]
        else:
            found, service_lost = _look(check, site, seconds)
            if service_lost and check.needs is not None:
                lost.add(check.needs)
        for finding in found:
            # Names and lines of files may hold anything.
            yield finding._replace(what=scrub(finding.what), area=check.area, check=check.name)
    # One that is lost may still be in use by a check that was given up.
    if Service.POSTGRES not in lost and hasattr(site, "session"):
        site.session.close()
    if Service.REDIS not in lost and hasattr(site, "redis"):
        site.redis.close()


def _look(check: Check, site: Site, seconds: float) -> tuple[list[Finding], bool]:
    """Return what a check finds, and whether its service is lost."""
    connects = check in (postgres.CONNECTION, redis.CONNECTION)
    try:
        return within(seconds, lambda: _findings(check, site)), False
    except TimeoutError:
        late = f"no answer within {seconds:g} s"
        if check.needs is None:
            return [not_checked(late)], False
        return [error(f"{check.needs} gave {late}", f"Look at the load and the log of {check.needs}")], True
    except StatementTimeoutError:
        return [not_checked(f"Postgres took longer than {_LIMITS.statement_timeout.seconds} s")], False
    except MaunticJobsError as problem:
        return [error(*_advice(problem))], connects or isinstance(problem, UnavailableError)
    except Exception as problem:  # noqa: BLE001 - a check that fails must not keep the others from being made
        return [not_checked(f"the check failed: {type(problem).__name__}")], False


def _findings(check: Check, site: Site) -> list[Finding]:
    if check.needs is not Service.POSTGRES or check is postgres.CONNECTION:
        return list(check.look(site))
    with site.session.transaction(_LIMITS):
        refused = _refused(check, site)
        return [refused] if refused else list(check.look(site))


def _refused(check: Check, site: Site) -> Finding | None:
    closed, absent = unreadable(site.session, check.reads)
    if closed:
        tables = ", ".join(closed)
        return not_checked(f"the role may not read {several(closed)}", f"GRANT SELECT ON {tables} to the role")
    if absent:
        return not_checked(f"not there: {several(absent)}")
    return None


def _advice(problem: MaunticJobsError) -> tuple[str, str]:
    """Return what is wrong and what to do, which an error says in its last sentence."""
    what, _, to_do = str(problem).rstrip(".").rpartition(". ")
    return (what, to_do) if what else (to_do, "")
