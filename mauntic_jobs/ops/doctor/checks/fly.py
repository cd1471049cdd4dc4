"""The Fly files: whether they run what the registry wants, and let it end."""

import json
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from mauntic_jobs.errors import UsageError
from mauntic_jobs.ops.doctor.check import Check, Site
from mauntic_jobs.ops.doctor.finding import Finding, error, ok, warning
from mauntic_jobs.scheduler.exports.fly import COMMAND, KILL_TIMEOUT, fly
from mauntic_jobs.timekeeping.window import format_duration, parse_duration

_HERE = Path("fly")
_MACHINE = "hourly-schedule.json"
# What the commands that stay take, unless told otherwise.
_DRAIN = "25s"
_STAYING = ("work", "deliver", "schedule")
# Fly's own, where a file says nothing, and the longest that it allows.
_KILL, _LONGEST_KILL = 5, timedelta(seconds=300)
_SECRETS = ("DATABASE_URL", "REDIS_URL", "ENCRYPTION_KEY")


def _look(site: Site) -> Iterator[Finding]:
    directory = site.fly or _HERE
    files = sorted(directory.glob("*.toml")) + sorted(directory.glob(_MACHINE))
    if not files:
        nothing = f"there are no Fly files in {directory}"
        yield warning(nothing, f"{COMMAND} writes them") if site.fly else ok(nothing)
        return
    generated = {Path(name).name: text for name, text in fly(site.jobs).items()}
    found = [finding for file in files for finding in _file(file, generated.get(file.name, ""))]
    yield from found or [ok(f"{directory} runs what the jobs want, and lets it end")]


def _file(file: Path, generated: str) -> Iterator[Finding]:
    try:
        text = file.read_text("utf-8")
        if file.name == _MACHINE:
            yield from _machine(file, json.loads(text), json.loads(generated))
        else:
            yield from _app(file, text, generated)
    except (OSError, ValueError, TypeError, AttributeError) as problem:  # the last two: no table where one belongs
        yield error(f"{file} cannot be read: {type(problem).__name__}", f"{COMMAND} writes it anew")


def _machine(file: Path, machine: Mapping[str, object], wanted: Mapping[str, object]) -> Iterator[Finding]:
    for key in ("schedule", "init"):
        if machine.get(key) != wanted[key]:
            yield error(f"{file}: {key} is {machine.get(key)}, and should be {wanted[key]}", COMMAND)


def _app(file: Path, text: str, generated: str) -> Iterator[Finding]:
    app = tomllib.loads(text)
    processes, variables = app.get("processes", {}), app.get("env", {})
    staying = [command for command in processes.values() if command.split()[:1] and command.split()[0] in _STAYING]
    wanted = tomllib.loads(generated).get("processes", {})
    for name, command in processes.items():
        if command.startswith("work ") and _queues(wanted.get(name, command)) != _queues(command):
            yield error(f"{_line(file, text, name)}: it runs `{command}`, and the jobs want `{wanted[name]}`", COMMAND)
    for command in staying:
        yield from _ending(file, text, app, command)
    yield from _port(file, app, text)
    for name in _SECRETS:
        if name in variables:
            yield warning(f"{_line(file, text, name)}: {name} is in the open", f"fly secrets set {name}=...")


def _queues(command: str) -> set[str]:
    return {word for word in command.split() if ":" in word}


def _ending(file: Path, text: str, app: Mapping[str, Any], command: str) -> Iterator[Finding]:
    drain = _drain(command, app.get("env", {}))
    kill = min(_duration(app.get("kill_timeout", _KILL)), _LONGEST_KILL)
    if kill <= drain:
        yield error(
            f"{_line(file, text, 'kill_timeout')}: Fly ends `{command}` after {format_duration(kill)}, and it may take "
            f"{format_duration(drain)} to stop",
            f"kill_timeout = {KILL_TIMEOUT}",
        )


def _port(file: Path, app: Mapping[str, Any], text: str) -> Iterator[Finding]:
    served = app.get("env", {}).get("PORT")
    for check in app.get("checks", {}).values():
        if str(check.get("port")) != str(served):
            yield error(
                f"{_line(file, text, 'port')}: Fly checks port {check.get('port')}, and PORT is {served or 'not set'}",
                f'PORT = "{check.get("port")}" under [env]',
            )


def _drain(command: str, variables: Mapping[str, Any]) -> timedelta:
    words = shlex.split(command.replace("--drain-timeout=", "--drain-timeout "))
    if "--drain-timeout" in words[:-1]:
        return _duration(words[words.index("--drain-timeout") + 1])
    name = "_".join(words[: 2 if words[0] == "schedule" else 1]).upper()
    return _duration(variables.get(f"MAUNTIC_{name}_DRAIN_TIMEOUT", _DRAIN))


def _duration(value: object) -> timedelta:
    """Read what Fly or a command takes for a length of time; a number is in seconds."""
    text = str(value)
    try:
        return parse_duration(f"{text}s" if text.isdecimal() else text)
    except UsageError as problem:
        raise ValueError(str(problem)) from None


def _line(file: Path, text: str, key: str) -> str:
    """Return the file, and the line in which a key is set."""
    lines = [number for number, line in enumerate(text.splitlines(), 1) if line.split("=")[0].strip() == key]
    return f"{file}, line {lines[0]}" if lines else str(file)


CHECKS = (Check("fly", "files", _look),)
