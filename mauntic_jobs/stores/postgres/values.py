"""Loaders for values that Postgres can hold and Python cannot.

Postgres stores times such as `infinity` or a year before Christ, and JSON with numbers of any length and of any depth.
psycopg raises an error for them, which loses the whole result: one tenant's row would stop the work of every other
tenant. Here such a value becomes `Unreadable`, and the rest of the result is read as usual.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import psycopg
from psycopg import adapters
from psycopg.abc import AdaptContext, Buffer, Loader as LoaderProtocol
from psycopg.adapt import AdaptersMap, Loader
from psycopg.pq import Format

_TYPES = ("date", "time", "timetz", "timestamp", "timestamptz", "interval", "json", "jsonb")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A value of a row that Python cannot hold. `reason` says why, without repeating the value."""

    reason: str


def unreadable(row: Mapping[str, object]) -> str | None:
    """Return which column of a row cannot be read and why, or None if all can."""
    problems = (f"{name} {value.reason}" for name, value in row.items() if isinstance(value, Unreadable))
    return next(problems, None)


def _tolerant(fast: type[LoaderProtocol], format_: Format) -> type[Loader]:
    """Return a loader that does what `fast` does, except that it returns Unreadable where that one raises."""

    class TolerantLoader(Loader):
        format = format_

        def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
            super().__init__(oid, context)
            # It is not a base class: psycopg calls what is compiled past any method that overrides it. Without the
            # connection it reads ISO and UTC, as each statement is set to answer, whatever the session is set to.
            self._fast = fast(oid)

        def load(self, data: Buffer) -> object:
            try:
                return self._fast.load(data)
            except (ValueError, OverflowError, RecursionError, psycopg.DataError) as error:
                return Unreadable(_reason(error))

    return TolerantLoader


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "is JSON that is nested too deep"
    if isinstance(error, psycopg.DataError):
        return "is a time outside the years 1 to 9999"
    return "holds a number that is too long" if "digits" in str(error) else "cannot be read"


def _adapters() -> AdaptersMap:
    tolerant = AdaptersMap(adapters)
    for name in _TYPES:
        oid = adapters.types[name].oid
        for format_ in (Format.TEXT, Format.BINARY):
            fast = adapters.get_loader(oid, format_)
            if fast is not None:
                tolerant.register_loader(oid, _tolerant(fast, format_))
    return tolerant


class TolerantContext:
    """What a connection is opened with, so that none of its results is lost for one value."""

    adapters = _adapters()
    connection = None
