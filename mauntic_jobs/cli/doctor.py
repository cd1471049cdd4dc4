"""`doctor`: what is wrong with an installation, and what to do about it."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Annotated, Any

import typer

from mauntic_jobs import clock
from mauntic_jobs.cli.command import JsonOutput, command
from mauntic_jobs.cli.output import plural, print_json, print_line, print_table
from mauntic_jobs.config import Settings
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.job import Row
from mauntic_jobs.jobs.registry import jobs
from mauntic_jobs.ops.doctor.finding import Finding, Severity

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOT_CHECKED: "dim", Severity.OK: "green"}


def register_doctor(app: typer.Typer) -> None:
    """Add the command to the application."""
    command(app, "doctor", example="mauntic-jobs doctor --verbose")(doctor)


def doctor(
    settings: Settings,
    *,
    crontab: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The crontab to compare. Default: ./crontab, and this user's own."),
    ] = None,
    fly: Annotated[
        Path | None, typer.Option(metavar="DIRECTORY", help="Where the Fly files to compare are. Default: ./fly.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also show what is as it should be.")] = False,
    json: JsonOutput = False,
) -> None:
    """Check the whole installation, and say for each finding what to do. Changes nothing.

    Exits 1 if there is an error, 0 if there are warnings only.
    """
    from mauntic_jobs.ops.doctor.check import Site
    from mauntic_jobs.ops.doctor.examine import examine

    scheduled = [job.configured(settings) for job in jobs().values()]
    findings = list(examine(Site(settings, scheduled, clock.now, crontab, fly)))
    counts = Counter(finding.severity for finding in findings)
    if json:
        print_json(_as_json(findings, counts))
    else:
        _print(sorted(findings, key=_rank), verbose=verbose)
        print_line(_counted(counts))
    if counts[Severity.ERROR]:
        raise typer.Exit(ExitCode.FAILED)


def _as_json(findings: list[Finding], counts: Counter[Severity]) -> Row:
    numbers: dict[str, Any] = {severity.value: counts[severity] for severity in Severity}
    order = ("area", "check", "severity", "what", "to_do")
    return {**numbers, "findings": [{name: getattr(finding, name) for name in order} for finding in findings]}


def _print(findings: list[Finding], *, verbose: bool) -> None:
    from rich.text import Text

    shown = findings if verbose else _shortened(findings)
    rows = [
        {
            "finding": Text(finding.severity.replace("_", " "), _STYLES[finding.severity]),
            "area": finding.area,
            "what_and_what_to_do": Text.assemble(
                f"{finding.check.replace('_', ' ')}: {finding.what}",
                *([("\n→ " + finding.to_do, "bold")] if finding.to_do else []),
            ),
        }
        for finding in shown
    ]
    if rows:
        print_table(rows, unbroken=("finding", "area"))


def _shortened(findings: list[Finding]) -> list[Finding]:
    """Return what somebody should look at; checks that were not made for one and the same reason are one line."""
    alike: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        if finding.severity is Severity.NOT_CHECKED:
            alike[finding.what, finding.to_do].append(finding)
    return [
        *(each for each in findings if each.severity in (Severity.ERROR, Severity.WARNING)),
        *(
            each[0] if len(each) == 1 else each[0]._replace(area="", check=plural(len(each), "check"))
            for each in alike.values()
        ),
    ]


def _rank(finding: Finding) -> int:
    return list(Severity).index(finding.severity)


def _counted(counts: Counter[Severity]) -> str:
    return (
        f"{plural(counts[Severity.ERROR], 'error')}, {plural(counts[Severity.WARNING], 'warning')}, "
        f"{counts[Severity.NOT_CHECKED]:,} not checked, {counts[Severity.OK]:,} ok"
    )
