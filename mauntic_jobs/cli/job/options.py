"""Options of a job's command: those that every job has, and its own, to and from the command line."""

import inspect
from collections.abc import Mapping
from typing import Annotated, get_origin

import typer
from pydantic import ValidationError

from mauntic_jobs.errors import UsageError
from mauntic_jobs.job import JobOptions, Overlap

_PANEL = "Window (at most one)"

Date = Annotated[str | None, typer.Option(metavar="DATE", help="A UTC day.", rich_help_panel=_PANEL)]
WindowRange = Annotated[
    str | None, typer.Option(metavar="START/END", help="Half-open, ISO 8601, UTC.", rich_help_panel=_PANEL)
]
Last = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Such as 6h or 3d, up to the last full hour.", rich_help_panel=_PANEL),
]
Month = Annotated[str | None, typer.Option(metavar="YYYY-MM", help="A UTC month.", rich_help_panel=_PANEL)]
Slot = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="A slot of the cron line, or `latest`; run once, however often it is asked for. For crontabs.",
        rich_help_panel=_PANEL,
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Write nothing; say what would change.")]
OverlapPolicy = Annotated[
    Overlap | None,
    typer.Option(
        help="What to do while another run is under way. Default: skip, or wait if the window is run in parts."
    ),
]
SkipOk = Annotated[bool, typer.Option("--skip-ok", help="Exit 0, not 75, when skipped.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]


def parameters(options: type[JobOptions]) -> list[inspect.Parameter]:
    """Return the parameters that a command needs so that Typer offers each field of `options`."""
    return [_parameter(name, options) for name in options.model_fields]


def validated(options: type[JobOptions], given: Mapping[str, object]) -> JobOptions:
    """Return the options that were given on the command line. Raises UsageError that names each bad one."""
    try:
        return options.model_validate({name: value for name, value in given.items() if value})
    except ValidationError as error:
        problems = [
            f"--{str(problem['loc'][0]).replace('_', '-')} {problem['input']}: "
            f"{problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors()
        ]
        raise UsageError("; ".join(problems)) from None


def _parameter(name: str, options: type[JobOptions]) -> inspect.Parameter:
    field = options.model_fields[name]
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    annotation: object
    default: object
    if field.annotation is bool:
        annotation, default, declaration = bool, False, [f"--{name.replace('_', '-')}"]
    elif get_origin(field.annotation) is list:
        annotation, default, declaration = list[str], [], []
    else:
        annotation, default, declaration = str | None, None, []
    metavar = None if annotation is bool else str(extra.get("metavar", "VALUE"))
    option = typer.Option(*declaration, help=field.description, metavar=metavar, show_default=False)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[annotation, option]
    )
