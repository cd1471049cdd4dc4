"""`verify`: recorded figures beside what the raw events say, and the repair of those that differ."""

import re
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import typer

from mauntic_jobs.alerts.notify import Notified, send_due
from mauntic_jobs.backfill.coverage import buckets
from mauntic_jobs.backfill.verify import Verification, comparison_of, verify
from mauntic_jobs.backfill.verify_alerts import record_findings
from mauntic_jobs.cli.backfill.options import From, Last, Orgs, RangeOptions, To, options_of, range_of
from mauntic_jobs.cli.documents.verify import VerifyJson
from mauntic_jobs.cli.framework.command import JsonOutput, command, root
from mauntic_jobs.cli.framework.completion import job_names
from mauntic_jobs.cli.framework.options import Limit
from mauntic_jobs.cli.framework.output import log, print_json
from mauntic_jobs.cli.job.options import Quiet
from mauntic_jobs.cli.job.output import progress
from mauntic_jobs.cli.verify.output import VerifiedJob, job_json, show
from mauntic_jobs.errors import ExitCode, UsageError
from mauntic_jobs.job import Draw
from mauntic_jobs.jobs.registry import find_job, jobs
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.timekeeping import clock

_LAST = "7d"
_MAX_SEED = 2**31
_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?) ?%")


@command(root, "verify", example="mauntic-jobs verify aggregate-hourly --last 30d", prints=VerifyJson)
def verify_figures(
    settings: Settings,
    job: Annotated[
        str | None,
        typer.Argument(metavar="JOB", help="The job. Default: all that record figures.", autocompletion=job_names),
    ] = None,
    *,
    start: From = None,
    end: To = None,
    last: Last = None,
    org: Orgs = None,
    sample: Annotated[
        str | None, typer.Option(metavar="SHARE", help="Only this share of organizations and days, such as 10%.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=_MAX_SEED, metavar="N", help="Draw the sample that this number has drawn before."),
    ] = None,
    limit: Limit = 1_000,
    repair: Annotated[bool, typer.Option("--repair", help="Rebuild what differs, and nothing else.")] = False,
    allow_shrink: Annotated[
        bool, typer.Option("--allow-shrink", help="With --repair: let values go down, or away.")
    ] = False,
    alert: Annotated[bool, typer.Option("--alert", help="Raise an alert for what differs, or end it.")] = False,
    json: JsonOutput = False,
    quiet: Quiet = False,
) -> None:
    """Compare each recorded figure with the raw events, and list those that differ.

    Days and months that are over, without a range those of the last 7 days. Exit 3 if one differs, or is left after
    --repair.
    """
    now, drawn = clock.now(), _draw(sample, seed)
    if alert and (org or drawn):
        raise UsageError("--alert looks at all organizations: leave out --org and --sample.")
    if allow_shrink and not repair:
        raise UsageError("--allow-shrink is for --repair: alone it changes nothing.")
    chosen = [find_job(job)] if job is not None else [each for each in jobs().values() if each.verify is not None]
    given = RangeOptions(start, end, last=_LAST if start is None and end is None and last is None else last)
    found = []
    for each in chosen:
        options = {"org": org, "allow_shrink": allow_shrink}
        comparison_of(each)
        asked = Verification(each, options_of(each, options), settings, drawn, limit, log)
        found.append(_verified(asked, given, now, repair=repair, quiet=quiet or json))
    told = _alert(settings, found, now) if alert else Notified()
    code = _exit_code(found, told)
    if json:
        _print_document(found, drawn, code, repair=repair)
    elif not quiet:
        _show(found, drawn, org or [], repair=repair)
    for title, problem in told.untold.items():
        log(f"no channel took the alert {title}: {problem}")
    raise typer.Exit(code)


def _draw(sample: str | None, seed: int | None) -> Draw | None:
    if sample is None:
        if seed is not None:
            raise UsageError("--seed draws a --sample: say of which share, such as --sample 10%.")
        return None
    match = _SHARE.fullmatch(sample.strip())
    percent = float(match[1]) if match else 0
    if not 0 < percent <= 100:  # noqa: PLR2004 - it is a percentage
        raise UsageError(f"Cannot read {sample!r} as a share: write it like 10%, more than 0% and up to 100%.")
    return Draw(percent / 100, secrets.randbelow(_MAX_SEED) if seed is None else seed)


def _verified(asked: Verification, given: RangeOptions, now: datetime, *, repair: bool, quiet: bool) -> VerifiedJob:
    over = [each for each in buckets(asked.job, range_of(asked.job, now, given)) if each.end <= now]
    found = []
    with connect(asked.settings) as session, progress(len(over), f"verify {asked.job.name}", quiet=quiet) as advance:
        for each in verify(session, asked, over, repair_now=clock.now if repair else None):
            found.append(each)
            advance()
    return VerifiedJob(asked.job, found)


def _alert(settings: Settings, found: Sequence[VerifiedJob], now: datetime) -> Notified:
    with connect(settings) as session:
        for each in found:
            record_findings(session, each.job.name, each.buckets, now)
        return send_due(session, settings, now)


def _exit_code(found: Sequence[VerifiedJob], told: Notified) -> ExitCode:
    if any(each.wrong for each in found):
        return ExitCode.PARTIAL
    errors = [each.error for one in found for each in one.buckets if each.error is not None]
    if errors:
        return errors[0].exit_code
    return ExitCode.ALERT_UNDELIVERABLE if told.untold else ExitCode.DONE


def _show(found: Sequence[VerifiedJob], drawn: Draw | None, org: Sequence[str], *, repair: bool) -> None:
    again = [word for each in org for word in ("--org", each)]
    if drawn is not None:
        again += ["--sample", f"{drawn.share:.6%}".rstrip("%").rstrip("0").rstrip(".") + "%", "--seed", str(drawn.seed)]
        log(f"sample: {' '.join(again[-4:])}")
    for each in found:
        show(each, repair=repair, again=again)


def _print_document(found: Sequence[VerifiedJob], drawn: Draw | None, code: ExitCode, *, repair: bool) -> None:
    document: VerifyJson = {
        "exit_code": code,
        "repair": repair,
        "sample": None if drawn is None else {"share": drawn.share, "seed": drawn.seed},
        "jobs": [job_json(each) for each in found],
    }
    print_json(document)
