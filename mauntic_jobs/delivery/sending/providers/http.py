"""One exchange with a provider over HTTP: a request goes out once, and it is known how far it came."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from mauntic_jobs import __version__
from mauntic_jobs.delivery import failpoints
from mauntic_jobs.delivery.sending.outcome import Outcome, Verdict
from mauntic_jobs.timekeeping import clock

_LARGEST_ANSWER = 256 * 1024
# Providers close what is idle for longer than a minute or so; a connection that is just being closed is a risk.
_IDLE_SECONDS = 15.0
_MAX_IDLE = 100
# How long an exchange waits for a place, as a share of the time that it has itself: both together end before the
# message's lease.
_WAIT_SHARE = 0.5
_ELSEWHERE, _FAULTS = range(300, 400), range(500, 600)
_AGENT = f"mauntic-jobs/{__version__}"


class ExchangeError(Exception):
    """There is no answer; the outcome says what is known of the message nevertheless."""

    def __init__(self, verdict: Verdict, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.outcome = Outcome(verdict, reason, retry_after=retry_after)


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What is asked of a provider. `url` is whole; `headers` hold credentials, and are not shown."""

    url: str
    headers: Mapping[str, str]
    content: bytes = b""
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class Answer:
    """A provider's answer. `headers` are by their names in lower case; `body` may be cut off."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_success(self) -> bool:
        """Whether it says that all is well."""
        return 200 <= self.status < 300  # noqa: PLR2004 - as RFC 9110 has it

    def fields(self) -> dict[str, Any]:
        """Return the JSON object in the body, an empty one if there is none."""
        with suppress(ValueError, RecursionError):
            value = json.loads(self.body)
            if isinstance(value, dict):
                return value
        return {}

    def retry_after(self, now: datetime) -> float | None:
        """Return for how many seconds it wants to be left alone, from either form of Retry-After."""
        text = self.headers.get("retry-after", "").strip()
        if text.isdecimal():
            return float(text)
        with suppress(ValueError):
            until = parsedate_to_datetime(text)
            return max(0.0, ((until if until.tzinfo else until.replace(tzinfo=UTC)) - now).total_seconds())
        return None


class HttpClient:
    """The connections of a process to all its providers over HTTP, kept and shared. It repeats nothing.

    Each provider may have `places` exchanges at once. All of them together have no limit but the concurrency: one
    provider that hangs takes nothing from the others.
    """

    def __init__(self, *, timeout: float, places: int = 100) -> None:
        self.timeout = timeout
        self.places = places
        self._wire: httpx2.AsyncClient | None = None

    @property
    def wire(self) -> httpx2.AsyncClient:
        """The client. It is made when the first provider over HTTP is, and reads the machine's certificates then."""
        if self._wire is None:
            limits = httpx2.Limits(
                max_connections=None,
                max_keepalive_connections=_MAX_IDLE,
                keepalive_expiry=_IDLE_SECONDS,
            )
            self._wire = httpx2.AsyncClient(timeout=None, limits=limits, follow_redirects=False)
        return self._wire

    async def close(self) -> None:
        """Close the connections."""
        if self._wire is not None:
            await self._wire.aclose()


class Exchanges:
    """The exchanges of one provider, each within `timeout` seconds in all; `abort` ends them.

    One that finds no place waits for half of that before its own time begins. Then it is put off, which says nothing of
    the provider's health.
    """

    def __init__(self, client: HttpClient) -> None:
        self._wire, self._timeout = client.wire, client.timeout
        self._places, self._count = asyncio.Semaphore(client.places), client.places
        self._tasks: set[asyncio.Task[Answer]] = set()
        self._aborted = False

    async def make(self, request: HttpRequest) -> Answer:
        """Return the answer. Raises ExchangeError."""
        exchange = _Exchange(self._wire, self._timeout, request)
        if self._aborted:
            raise ExchangeError(Verdict.TEMPORARY, "stopped")
        # A task of its own, so that it can be ended without ending the caller.
        task = asyncio.ensure_future(self._run(exchange))
        self._tasks.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            if not self._aborted:
                task.cancel()
                raise
            raise ExchangeError(exchange.verdict_if_stopped, "stopped") from None
        finally:
            self._tasks.discard(task)

    async def _run(self, exchange: "_Exchange") -> Answer:
        # A free place costs no timer.
        await (self._place() if self._places.locked() else self._places.acquire())
        try:
            return await exchange.run()
        finally:
            self._places.release()

    async def _place(self) -> bool:
        wait = self._timeout * _WAIT_SHARE
        try:
            async with asyncio.timeout(wait):
                return await self._places.acquire()
        except TimeoutError:
            reason = f"{self._count} exchanges with this provider are under way, and no place was free for {wait:g} s"
            raise ExchangeError(Verdict.RATE_LIMITED, reason, retry_after=wait) from None

    def abort(self) -> None:
        """End all exchanges now."""
        self._aborted = True
        for task in self._tasks:
            task.cancel()


class _Exchange:
    """A request on its way. The last byte is held back until all others are written, so that it marks the point."""

    def __init__(self, wire: httpx2.AsyncClient, timeout: float, request: HttpRequest) -> None:
        self._wire = wire
        self._timeout = timeout
        self._request = request
        self._verdict = Verdict.PROVIDER

    @property
    def verdict_if_stopped(self) -> Verdict:
        """What is known if it ends now, through no fault of the provider."""
        return Verdict.TEMPORARY if self._verdict is Verdict.PROVIDER else self._verdict

    async def run(self) -> Answer:
        host = httpx2.URL(self._request.url).host
        timeout = self._timeout
        try:
            async with asyncio.timeout(timeout):
                return await self._exchange()
        except TimeoutError:
            raise ExchangeError(self._verdict, f"{host}: no answer for {timeout:g} s") from None
        except httpx2.LocalProtocolError:
            raise ExchangeError(Verdict.PROVIDER, f"{host}: its credentials cannot be put into a request") from None
        except (httpx2.HTTPError, OSError) as error:
            problem = str(error) or type(error).__name__
            raise ExchangeError(self._verdict, f"{host}: {problem}") from None

    async def _exchange(self) -> Answer:
        request, headers = self._request, {"user-agent": _AGENT, **self._request.headers}
        content = None
        if request.content:
            headers["content-length"] = str(len(request.content))
            content = self._written(request.content)
        async with self._wire.stream(request.method, request.url, headers=headers, content=content) as response:
            body = b""
            # The status alone says enough for most.
            with suppress(httpx2.HTTPError):
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > _LARGEST_ANSWER:
                        break
            return Answer(response.status_code, {name.lower(): value for name, value in response.headers.items()}, body)

    async def _written(self, content: bytes) -> AsyncIterator[bytes]:
        self._verdict = Verdict.TEMPORARY
        yield content[:-1]
        failpoints.reach("before-content")
        self._verdict = Verdict.UNKNOWN
        yield content[-1:]
        failpoints.reach("after-content")


def accepted(answer: Answer, message_id: Any) -> Outcome:
    """Return what a success means: a provider that has a message has a name for it."""
    if isinstance(message_id, str) and message_id:
        return Outcome(Verdict.ACCEPTED, provider_message_id=message_id)
    return Outcome(Verdict.UNKNOWN, f"{answer.status} without the message's id")


def common_outcome(answer: Answer, said: str) -> Outcome | None:
    """Return what a status means with every provider; None for a success, and for what is about the message.

    By RFC 9110 and 6585. `said` is the provider's own explanation. After 503 nothing was sent; after other faults of
    a server that is unknown.
    """
    limit = answer.retry_after(clock.now())
    match answer.status:
        case 429:
            verdict = Verdict.RATE_LIMITED
        case 503 if limit is not None:
            verdict = Verdict.RATE_LIMITED
        case 401 | 403 | 407 | 503:
            verdict = Verdict.PROVIDER
        case 408 | 425:
            verdict = Verdict.TEMPORARY
        case status if status in _ELSEWHERE:
            verdict = Verdict.PROVIDER
        case status if status in _FAULTS:
            verdict = Verdict.UNKNOWN
        case _:
            return None
    return Outcome(verdict, f"{answer.status} {said}".strip(), retry_after=limit)
