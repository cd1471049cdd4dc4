"""`config`: the effective settings."""

from typing import Annotated

import typer

from mauntic_jobs.cli.documents.installation import SettingJson
from mauntic_jobs.cli.framework.command import ConfigFile, JsonOutput, command, new_app
from mauntic_jobs.cli.framework.output import log, print_json, print_table
from mauntic_jobs.settings.serialize import shown
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.settings.sources import load, variable

app = new_app("The settings: where each comes from, and what it is.")


@command(app, "show", example="mauntic-jobs config show", prints=list[SettingJson])
def show(
    *,
    config: ConfigFile = None,
    database_url: Annotated[str | None, typer.Option(metavar="URL", help="Postgres.")] = None,
    redis_url: Annotated[str | None, typer.Option(metavar="URL", help="Redis or Valkey.")] = None,
    embedded: Annotated[bool, typer.Option("--embedded", help="The development servers.")] = False,
    json: JsonOutput = False,
) -> None:
    """Print each effective setting with its origin: flag, environment, file or default. Secrets are masked."""
    flags = {"database_url": database_url, "redis_url": redis_url, "embedded": embedded}
    settings, origins = load({name: value for name, value in flags.items() if value}, config, log)
    rows: list[SettingJson] = [
        {
            "setting": name,
            "value": shown(settings, name),
            "origin": origins[name],
            "variable": variable(name),
            "meaning": field.description,
        }
        for name, field in Settings.model_fields.items()
    ]
    if json:
        print_json(rows)
    else:
        print_table(rows)
