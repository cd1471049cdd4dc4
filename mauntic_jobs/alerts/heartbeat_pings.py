"""Pings for services that call an operator when a job is silent: Healthchecks and its like, and Sentry's crons."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from queue import SimpleQueue
from threading import Thread
from urllib.parse import urlencode, urlsplit
from uuid import uuid4

from mauntic_jobs.alerts.http import HttpError, ask, get
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.settings.types import JobSettings

_PING_SECONDS = 3.0
# What a run waits for its last ping, whatever the service does.
_MAX_WAIT_SECONDS = 5.0

# Healthchecks answers pings that it does not record, such as those of a check that was deleted, like this.
_REMARK = re.compile(r"\s*OK \(([^)]{1,100})\)")

_Ping = Callable[[], None]


class Heartbeats:
    """The pings of one run, sent beside it; where the settings name no service for the job, none."""

    def __init__(self, settings: Settings, job: str) -> None:
        own = settings.jobs.get(job, JobSettings())
        self._run = uuid4()
        self._url = own.heartbeat_url.get_secret_value() if own.heartbeat_url else None
        self._sentry = _check_in_url(settings, own)
        self._pings: SimpleQueue[_Ping | None] = SimpleQueue()
        self._problems: list[str] = []
        self._thread: Thread | None = None

    def start(self) -> None:
        """Say that the run begins; returns at once."""
        if self._url is not None:
            self._send(partial(_ping, _with(self._url, "start", rid=self._run), b"", {}))
        if self._sentry is not None:
            self._send(partial(get, _check_in(self._sentry, self._run.hex, "in_progress"), _PING_SECONDS))

    def end(self, exit_status: int, summary: str) -> None:
        """Say how the run ended; returns at once. `summary` goes to the service."""
        if self._url is not None:
            address = _with(self._url, str(exit_status), rid=self._run)
            self._send(partial(_ping, address, summary.encode(), {"Content-Type": "text/plain"}))
        if self._sentry is not None:
            status = "error" if exit_status else "ok"
            self._send(partial(get, _check_in(self._sentry, self._run.hex, status), _PING_SECONDS))

    def wait(self) -> str | None:
        """Wait a little until all was sent, and return what went wrong first."""
        if self._thread is None:
            return None
        self._pings.put(None)
        began = time.monotonic()
        self._thread.join(_MAX_WAIT_SECONDS)
        if self._thread.is_alive():
            self._problems.append(f"no answer within {time.monotonic() - began:.1f} s")
        return next(iter(self._problems), None)

    def _send(self, ping: _Ping) -> None:
        self._pings.put(ping)
        if self._thread is None:
            self._thread = Thread(target=self._work, name="pings", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        for ping in iter(self._pings.get, None):
            try:
                ping()
            except HttpError as error:
                self._problems.append(str(error))
            except Exception as defect:  # noqa: BLE001 - a ping must not matter
                self._problems.append(type(defect).__name__)


def _ping(url: str, body: bytes, headers: Mapping[str, str]) -> None:
    """Send a ping. Raises HttpError if the service has not taken it, also where it answers so with status 200."""
    remark = _REMARK.match(ask(url, body, headers, _PING_SECONDS))
    if remark is not None:
        raise HttpError(f"answered 200, but not recorded: {remark[1]}. Check the address of the ping")


def _with(url: str, word: str, **parameters: object) -> str:
    parts = urlsplit(url)
    query: Sequence[str] = [parts.query] if parts.query else []
    return parts._replace(
        path=f"{parts.path.rstrip('/')}/{word}", query="&".join([*query, urlencode(parameters)])
    ).geturl()


def _check_in_url(settings: Settings, own: JobSettings) -> str | None:
    """Return where Sentry takes check-ins for the job's monitor, by the parts of the project's DSN."""
    if settings.sentry_dsn is None or own.sentry_monitor is None:
        return None
    dsn = urlsplit(settings.sentry_dsn.get_secret_value())
    prefix, _, project = dsn.path.rstrip("/").rpartition("/")
    host = dsn.netloc.rpartition("@")[2]
    return f"{dsn.scheme}://{host}{prefix}/api/{project}/cron/{own.sentry_monitor}/{dsn.username}/"


def _check_in(url: str, run: str, status: str) -> str:
    return f"{url}?{urlencode({'check_in_id': run, 'status': status})}"
