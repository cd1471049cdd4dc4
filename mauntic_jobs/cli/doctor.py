"""`doctor`: faults of an installation, each with its remedy."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mauntic_jobs.cli.documents.installation import DoctorJson
from mauntic_jobs.cli.framework.command import JsonOutput, command, root
from mauntic_jobs.cli.framework.output import print_json, print_line, print_rich, terminal_width
from mauntic_jobs.cli.framework.table_layout import wrapped
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.job import Row
from mauntic_jobs.jobs.registry import jobs
from mauntic_jobs.ops.doctor.finding import Finding, FindingSeverity
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.wording import plural

if TYPE_CHECKING:
    from rich.text import Text

_WHAT = "what and what to do"
_STYLES = {
    FindingSeverity.ERROR: "bold red",
    FindingSeverity.WARNING: "magenta",
    FindingSeverity.NOT_CHECKED: "dim",
    FindingSeverity.OK: "green",
}


@command(root, "doctor", example="mauntic-jobs doctor --verbose", prints=DoctorJson)
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
    from mauntic_jobs.ops.doctor.run_checks import examine

    scheduled = [job.configured(settings) for job in jobs().values()]
    findings = list(examine(Site(settings, scheduled, clock.now, crontab, fly)))
    counts = Counter(finding.severity for finding in findings)
    if json:
        print_json(_as_json(findings, counts))
    else:
        _print(sorted(findings, key=_rank), verbose=verbose)
        print_line(_counted(counts))
    if counts[FindingSeverity.ERROR]:
        raise typer.Exit(ExitCode.FAILED)


def _as_json(findings: list[Finding], counts: Counter[FindingSeverity]) -> Row:
    numbers: dict[str, object] = {severity.value: counts[severity] for severity in FindingSeverity}
    order = ("area", "check", "severity", "what", "to_do")
    return {**numbers, "findings": [{name: getattr(finding, name) for name in order} for finding in findings]}


def _print(findings: list[Finding], *, verbose: bool) -> None:
    from rich.console import Group

    shown = findings if verbose else _shortened(findings)
    if not shown:
        return
    columns = [max(len(title), *(len(text) for text in texts)) + 2 for title, texts in _heads(shown).items()]
    lines = [_line("".join(f"{title:<{size}}" for title, size in zip(_heads(shown), columns, strict=True)) + _WHAT)]
    lines[0].stylize("bold")
    indent, width = " " * sum(columns), terminal_width()
    for number, finding in enumerate(shown):
        severity, area = (texts[number] for texts in _heads(shown).values())
        text = f"{finding.check.replace('_', ' ')}: {finding.what}"
        parts = wrapped(text, width, indent, indent)
        head = f"{severity:<{columns[0]}}{area:<{columns[1]}}"
        lines += [_line(head + parts[0][len(indent) :]), *map(_line, parts[1:])]
        lines[-len(parts)].stylize(_STYLES[finding.severity], 0, len(severity))
        if finding.to_do:
            lines += _to_do(finding, indent, width)
    print_rich(Group(*lines))


def _heads(findings: Sequence[Finding]) -> dict[str, list[str]]:
    return {
        "finding": [finding.severity.replace("_", " ") for finding in findings],
        "area": [finding.area for finding in findings],
    }


def _to_do(finding: Finding, indent: str, width: int) -> "list[Text]":
    """Return the lines that say what to do; a command stays on one line, so that it can be copied."""
    text = f"→ {finding.to_do}"
    parts = [indent + text]
    if not finding.to_do.startswith("mauntic-jobs "):
        parts = wrapped(text, width, indent, indent)
    return [_line(part, "bold") for part in parts]


def _line(text: str, style: str = "") -> "Text":
    from rich.text import Text

    return Text(text, style, no_wrap=True, overflow="ignore")


def _shortened(findings: list[Finding]) -> list[Finding]:
    """Return what needs a look; checks that were not made for one and the same reason are one line."""
    alike: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        if finding.severity is FindingSeverity.NOT_CHECKED:
            alike[finding.what, finding.to_do].append(finding)
    return [
        *(each for each in findings if each.severity in (FindingSeverity.ERROR, FindingSeverity.WARNING)),
        *(
            each[0] if len(each) == 1 else each[0]._replace(area="", check=plural(len(each), "check"))
            for each in alike.values()
        ),
    ]


def _rank(finding: Finding) -> int:
    return list(FindingSeverity).index(finding.severity)


def _counted(counts: Counter[FindingSeverity]) -> str:
    return (
        f"{plural(counts[FindingSeverity.ERROR], 'error')}, {plural(counts[FindingSeverity.WARNING], 'warning')}, "
        f"{counts[FindingSeverity.NOT_CHECKED]:,} not checked, {counts[FindingSeverity.OK]:,} ok"
    )
