"""Base of every command: common options, settings, and the one place that prints errors."""

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mauntic_jobs.cli.framework.output import log
from mauntic_jobs.cli.framework.signals import stays, stop_on_signals
from mauntic_jobs.errors import Interrupted, MaunticJobsError
from mauntic_jobs.telemetry import logs

if TYPE_CHECKING:
    from mauntic_jobs.settings.settings import Settings

_CONNECTION = "Connection"
_COMPLETION = ("install_completion", "show_completion")

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar="MAUNTIC_CONFIG",
        metavar="FILE",
        help="Settings in TOML. Default: mauntic-jobs.toml here, or /etc/mauntic-jobs.toml.",
        rich_help_panel=_CONNECTION,
    ),
]
_SETTING_FLAGS: dict[str, object] = {
    "database_url": Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Postgres. Environment: DATABASE_URL, which keeps it out of the process list.",
            rich_help_panel=_CONNECTION,
        ),
    ],
    "redis_url": Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Redis or Valkey. Environment: REDIS_URL.",
            rich_help_panel=_CONNECTION,
        ),
    ],
    "embedded": Annotated[
        bool,
        typer.Option(
            "--embedded",
            help="Use the development servers on this machine. Environment: MAUNTIC_EMBEDDED=1.",
            rich_help_panel=_CONNECTION,
        ),
    ],
}

JsonOutput = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def new_app(
    help_text: str, *, completion: bool = False, default: str | None = None, **context_settings: object
) -> typer.Typer:
    """Return an empty group of commands; `default` is the one that is meant where none is named."""
    return typer.Typer(
        cls=_with_default(default) if default else _Group,
        no_args_is_help=default is None,
        add_completion=completion,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]} | context_settings,
        help=help_text,
    )


def _plain(parameters: list[Any]) -> list[object]:
    """Return parameters without a type in the help of flags; those of completion are no settings."""
    for each in parameters:
        if getattr(each, "is_flag", False):
            each.metavar = ""
        if each.name in _COMPLETION:
            each.show_envvar = each.allow_from_autoenv = False
    return parameters


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Let errors of command lines be said without words of the library that found them."""
    try:
        yield
    except typer.BadParameter as error:
        error.message = error.message.removeprefix("Value error, ")
        raise


class _Command(typer.core.TyperCommand):
    def get_params(self, ctx: Any) -> list[Any]:
        return _plain(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        with _plain_errors():
            return super().parse_args(ctx, args)


class _Group(typer.core.TyperGroup):
    def get_params(self, ctx: Any) -> list[Any]:
        return _plain(super().get_params(ctx))


def _with_default(name: str) -> type[typer.core.TyperGroup]:
    class Group(_Group):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            named = args and (not args[0].startswith("-") or args[0] in ("-h", "--help"))
            return super().parse_args(ctx, args if named else [name, *args])

    return Group


# The commands of the program itself that were imported; groups of commands have a Typer of their own.
root = typer.Typer()


def command(
    app: typer.Typer, name: str, *, example: str, prints: object = None, **options: Any
) -> Callable[[Callable[..., None]], None]:
    """Register a function as the command `name`.

    A function whose first parameter is `settings: Settings` gets the effective settings; the command then also has the
    options that they come from. `example` is a command line that its help shows. `prints` is the type of the command's
    JSON, or of each line if it prints several.
    """

    def register(function: Callable[..., None]) -> None:
        body = _with_settings(function) if "settings" in inspect.signature(function).parameters else function
        for parameter in inspect.signature(body, eval_str=True).parameters.values():
            _simplify(parameter)
        # Typer joins the lines of the first paragraph only.
        paragraphs = options.pop("help", inspect.getdoc(function) or "").split("\n\n")
        text = "\n\n".join(" ".join(each.split()) for each in paragraphs)
        registration = app.command(name, cls=_Command, help=text, epilog=f"Example: {example}", **options)
        printed = _with_errors_printed(body)
        printed.prints = prints  # type: ignore[attr-defined]
        registration(printed)

    return register


def set_signature(function: Callable[..., object], parameters: list[inspect.Parameter]) -> None:
    """Make `function` show these parameters, which is where Typer looks for a command's options."""
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}


def _simplify(parameter: inspect.Parameter) -> None:
    """Keep an option's line of help short: the variable follows from its name."""
    for option in getattr(parameter.annotation, "__metadata__", ()):
        if isinstance(option, typer.models.OptionInfo):
            option.show_envvar = False


def _with_errors_printed(function: Callable[..., None]) -> Callable[..., None]:
    @wraps(function)
    def run(*args: object, **kwargs: object) -> None:
        try:
            # One that stays has a handler from its first line on, until it takes signals itself.
            with nullcontext() if stays(sys.argv[1:]) else stop_on_signals():
                function(*args, **kwargs)
        except MaunticJobsError as error:
            log(f"mauntic-jobs: {error}", "error")
            raise typer.Exit(error.exit_code) from None
        except Interrupted as signal:
            log(f"mauntic-jobs: {signal}", "warning")
            raise typer.Exit(signal.exit_code) from None

    return run


def _with_settings(function: Callable[..., None]) -> Callable[..., None]:
    @wraps(function)
    def run(*, config: Path | None, **values: object) -> None:
        from mauntic_jobs.settings.sources import load

        given = {name: values.pop(name) for name in _SETTING_FLAGS}
        remarks: list[str] = []
        settings, _ = load({name: value for name, value in given.items() if value}, config, remarks.append)
        logs.configure(settings)
        for remark in remarks:
            log(f"mauntic-jobs: {remark}", "warning")
        with _servers(settings) as ready:
            function(ready, **values)

    own = [each for each in inspect.signature(function, eval_str=True).parameters.values() if each.name != "settings"]
    added = {**_SETTING_FLAGS, "config": ConfigFile}
    defaults: Mapping[str, object] = {"embedded": False}
    set_signature(
        run,
        [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
        + [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=defaults.get(name), annotation=annotation)
            for name, annotation in added.items()
        ],
    )
    return run


@contextmanager
def _servers(settings: "Settings") -> "Iterator[Settings]":
    """Yield the settings, with the development servers' addresses where those were asked for."""
    if not settings.embedded:
        yield settings
        return
    from mauntic_jobs.embedded.dev import running_or_started
    from mauntic_jobs.settings.settings import Settings

    with running_or_started() as servers:
        yield Settings(
            **{**settings.model_dump(), "database_url": servers.database_url, "redis_url": servers.redis_url}
        )
