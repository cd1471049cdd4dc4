"""JSON Schema files of what commands print, and the check that a command printed what it declares.

python -m tests.schemas     writes docs/json anew
"""

import json
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import typer
from pydantic import TypeAdapter

from mauntic_jobs.cli.documents.runs import JobJson
from mauntic_jobs.cli.main import application

DIRECTORY = Path(__file__).parent.parent / "docs" / "json"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"

# Whole pairs as well: what a text says is not checked.
_HALVES = re.compile(r"\\ud[89a-f][0-9a-f]{2}", re.IGNORECASE)

Words = tuple[str, ...]


@cache
def printed() -> dict[Words, Any]:
    """Return the type of the JSON that each command prints, by the words of the command; None where it prints none."""
    return dict(_walk(application()))


@cache
def with_option() -> frozenset[Words]:
    """Return the commands that have the option --json."""
    return frozenset(
        words for words, command in _commands(typer.main.get_command(application())) if _takes_json(command)
    )


def file_of(words: Words) -> str:
    """Return the name of the schema's file of a command; all scheduled jobs share one."""
    return "job.json" if printed()[words] is JobJson else f"{'-'.join(words)}.json"


def schemas() -> dict[str, str]:
    """Return the content of each schema file, by its name."""
    return {file_of(words): _schema(words, kind) for words, kind in printed().items() if kind is not None}


def check_output(arguments: Sequence[str], output: str) -> None:
    """Fail unless each line that a command printed as JSON is of the type that it declares, and nothing more."""
    words = next((words for words in printed() if tuple(arguments[: len(words)]) == words), ())
    kind = printed().get(words)
    if kind is None or "--help" in arguments or (words in with_option() and "--json" not in arguments):
        return
    for line in output.splitlines():
        check(kind, line)


def check(kind: Any, line: str) -> None:
    """Fail unless a line is a JSON document of this type, without other fields, and with times in ISO 8601 and UTC."""
    # Bytes of others that are not UTF-8 are halves of surrogate pairs, which this parser refuses.
    text = _HALVES.sub("?", line)
    document = _adapter(kind).validate_json(text, strict=True, extra="forbid")
    _check_instants(document, json.loads(text))


def _check_instants(value: Any, written: Any) -> None:
    match value:
        case datetime():
            assert (value.utcoffset(), value.isoformat()) == (timedelta(), written)
        case dict():
            for name, each in value.items():
                _check_instants(each, written[name])
        case list():
            for pair in zip(value, written, strict=True):
                _check_instants(*pair)


def _walk(app: typer.Typer, before: Words = ()) -> Iterator[tuple[Words, Any]]:
    for command in app.registered_commands:
        assert command.name
        yield (*before, command.name), getattr(command.callback, "prints", None)
    for group in app.registered_groups:
        assert group.name
        assert group.typer_instance
        yield from _walk(group.typer_instance, (*before, group.name))


def _commands(group: Any, before: Words = ()) -> Iterator[tuple[Words, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, (*before, name))
        else:
            yield (*before, name), command


def _takes_json(command: Any) -> bool:
    return any("--json" in parameter.opts for parameter in command.params)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _schema(words: Words, kind: Any) -> str:
    command = "JOB" if kind is JobJson else " ".join(words)
    option = " --json" if words in with_option() else ""
    head = {"$schema": _DIALECT, "title": f"mauntic-jobs {command}{option}"}
    body = _without_titles(_adapter(kind).json_schema())
    return json.dumps({**head, **body}, indent=2, ensure_ascii=False) + "\n"


def _without_titles(schema: Any) -> Any:
    """Return a schema without the titles that only repeat the names of fields and types."""
    match schema:
        case dict():
            kept = {name: each for name, each in schema.items() if name != "title" or not isinstance(each, str)}
            return {name: _without_titles(each) for name, each in kept.items()}
        case list():
            return [_without_titles(each) for each in schema]
        case _:
            return schema


def main() -> None:
    """Write all files, and remove those of commands that are gone."""
    DIRECTORY.mkdir(exist_ok=True)
    contents = schemas()
    for path in DIRECTORY.glob("*.json"):
        if path.name not in contents:
            path.unlink()
    for name, content in contents.items():
        (DIRECTORY / name).write_text(content, "utf-8")


if __name__ == "__main__":
    main()
