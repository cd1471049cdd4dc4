"""`schedule export`: the files that have other clocks launch the jobs, made from the registry."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from mauntic_jobs.cli.framework.command import command, new_app
from mauntic_jobs.cli.framework.output import print_line
from mauntic_jobs.cli.framework.scheduled_jobs import jobs_as_stored
from mauntic_jobs.errors import ConfigurationError, RefusedError
from mauntic_jobs.scheduler.exports.crontab import crontab
from mauntic_jobs.scheduler.exports.fly import fly
from mauntic_jobs.scheduler.exports.systemd import systemd
from mauntic_jobs.settings.settings import Settings

app = new_app("Files for other clocks, made from the jobs, their settings, and the database if one is configured.")

Output = Annotated[Path, typer.Option(metavar="DIRECTORY", help="Where the files belong. Default: here.")]
Check = Annotated[bool, typer.Option("--check", help="Write nothing; exit 4 if a file is not as it should be.")]


@command(app, "crontab", example="mauntic-jobs schedule export crontab")
def export_crontab(settings: Settings, *, output: Output = Path(), check: Check = False) -> None:
    """Write `crontab`: a line for each job, for Vixie cron and supercronic."""
    _export({"crontab": crontab(list(jobs_as_stored(settings).values()))}, output, check=check)


@command(app, "fly", example="mauntic-jobs schedule export fly --check")
def export_fly(settings: Settings, *, output: Output = Path(), check: Check = False) -> None:
    """Write `fly/`, with an app for each service and the hourly machine, and `scripts/fly-machines`."""
    _export(fly(list(jobs_as_stored(settings).values())), output, check=check)


@command(app, "systemd", example="mauntic-jobs schedule export systemd --check")
def export_systemd(*, output: Output = Path(), check: Check = False) -> None:
    """Write `systemd/`: a service for each process of an installation, and a target that starts them all."""
    _export(systemd(), output, check=check)


def _export(files: Mapping[str, str], directory: Path, *, check: bool) -> None:
    try:
        differing = [name for name, text in files.items() if _read(directory / name) != text]
        if check and differing:
            raise RefusedError(
                f"Not as the jobs and settings want it: {', '.join(differing)}. Export again without --check."
            )
        for name in differing:
            _write(directory / name, files[name])
            print_line(f"wrote {directory / name}")
    except OSError as error:
        raise ConfigurationError(f"Cannot write {error.filename}: {error.strerror}.") from None


def _read(file: Path) -> str | None:
    return file.read_text("utf-8") if file.is_file() else None


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")
    if text.startswith("#!"):
        file.chmod(0o755)
