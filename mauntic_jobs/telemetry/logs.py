"""Logs of processes that stay: one JSON object a line, on stderr."""

import sys
from typing import Any

from mauntic_jobs.telemetry.scrub import scrub


def json_logger(**context: Any) -> Any:
    """Return a structlog logger; every line has its `context`, and texts are without addresses and credentials."""
    import structlog

    return structlog.wrap_logger(
        structlog.WriteLogger(sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            _scrubbed,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
    ).bind(**context)


def _scrubbed(_logger: Any, _method: str, event: Any) -> Any:
    return {
        name: scrub(value) if isinstance(value, str) and name != "timestamp" else value for name, value in event.items()
    }
