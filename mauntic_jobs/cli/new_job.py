"""`new-job`: a package with one job, to start from."""

from pathlib import Path
from typing import Annotated

import typer

from mauntic_jobs.cli.framework.command import command, root
from mauntic_jobs.cli.framework.output import log_done, print_line
from mauntic_jobs.errors import ConfigurationError, RefusedError
from mauntic_jobs.jobs.new_package import new_package

_NAME = typer.Argument(metavar="NAME", help="The name of the job, like send-digest.")


@command(root, "new-job", example="mauntic-jobs new-job send-digest --into ~/src")
def new_job(
    name: Annotated[str, _NAME],
    *,
    into: Annotated[Path, typer.Option(metavar="DIR", help="Where its directory belongs. Default: here.")] = Path(),
) -> None:
    """Write a package with one job and its test, to install beside mauntic-jobs.

    It is a directory of the job's name. A file or directory of this name is left as it is, with exit code 4.
    """
    package = new_package(name)
    directory = into / name
    try:
        directory.mkdir(parents=True)
        for path, text in package.items():
            file = directory / path
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, "utf-8")
            print_line(f"wrote {file}")
    except FileExistsError as error:
        raise RefusedError(
            f"{error.filename} exists already, and nothing was written. Choose another name, or another --into."
        ) from None
    except OSError as error:
        raise ConfigurationError(f"Cannot write {error.filename}: {error.strerror}.") from None
    log_done(f"Next: {directory / 'README.md'} says how to test and install it.")
