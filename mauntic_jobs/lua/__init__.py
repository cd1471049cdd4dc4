"""Lua scripts for Redis, kept in the .lua files beside this one; each file's header is its contract."""

from functools import cache
from importlib.resources import files


@cache
def script(name: str) -> bytes:
    """Return the script `<name>.lua`."""
    return (files(__package__) / f"{name}.lua").read_bytes()
