"""Logs of commands: sentences for people, or one JSON object a line for log collectors.

Every line has what is bound around it, such as the run's number. Texts are without addresses and credentials; payloads
are never said at all.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mauntic_jobs.redaction.text import scrub
from mauntic_jobs.telemetry.stderr import write_line

if TYPE_CHECKING:
    from mauntic_jobs.settings.settings import Settings

_bound: ContextVar[Mapping[str, object]] = ContextVar("bound", default=MappingProxyType({}))


class _Format:
    """How this process speaks; threads and tasks all speak alike."""

    structured = False


def configure(settings: "Settings") -> None:
    """Speak as the settings want it. A command that ends speaks in sentences unless told otherwise: cron mails them."""
    _speak(structured=settings.log_format == "json")


def stay(settings: "Settings") -> "Settings":
    """Speak as a process that stays does: in JSON, unless a person watches. Return settings for its children."""
    _speak(structured=settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty()))
    return settings.model_copy(update={"log_format": "json"}) if _Format.structured else settings


def structured() -> bool:
    """Return whether lines are JSON."""
    return _Format.structured


@contextmanager
def bound(**context: object) -> Iterator[None]:
    """Give every line of the body this context, and whatever it binds itself."""
    token = _bound.set({**_bound.get(), **context})
    try:
        yield
    finally:
        _bound.reset(token)


def bind(**context: object) -> None:
    """Add to the context of the lines to come, until the body of the `bound` around it ends."""
    _bound.set({**_bound.get(), **context})


def emit(level: str, event: str, **details: object) -> None:
    """Write one line of JSON on stderr."""
    _logger().log(level, event, **{"pid": os.getpid(), **_bound.get(), **details})


def _speak(*, structured: bool) -> None:
    _Format.structured = structured
    if structured:
        # A process that is told to stop has no time to import it.
        _logger()


@cache
def _logger() -> Any:
    # It takes a fifth of a second to import, which a quiet line of a crontab need not wait for.
    import structlog

    class Logger(structlog.BoundLoggerBase):
        def log(self, level: str, event: str, **details: Any) -> None:
            self._proxy_to_logger("msg", event, level=level, **details)

    return structlog.wrap_logger(
        _Lines(),
        wrapper_class=Logger,
        processors=[
            structlog.processors.TimeStamper(fmt="iso"),
            _scrubbed,
            structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
        ],
    )


class _Lines:
    """What structlog writes to."""

    def msg(self, text: str) -> None:
        write_line(text)


def _scrubbed(_logger: Any, _method: str, event: Any) -> Any:
    return {
        name: scrub(value) if isinstance(value, str) and name != "timestamp" else value for name, value in event.items()
    }
