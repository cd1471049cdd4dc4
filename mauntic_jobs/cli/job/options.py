"""A job's own options as options of its command, and back."""

import inspect
from collections.abc import Mapping
from typing import Annotated, Any, get_origin

import typer
from pydantic import ValidationError

from mauntic_jobs.errors import UsageError
from mauntic_jobs.job import JobOptions


def parameters(options: type[JobOptions]) -> list[inspect.Parameter]:
    """Return the parameters that a command needs so that Typer offers each field of `options`."""
    return [_parameter(name, options) for name in options.model_fields]


def validated(options: type[JobOptions], given: Mapping[str, Any]) -> JobOptions:
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
    annotation: Any
    default: Any
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
