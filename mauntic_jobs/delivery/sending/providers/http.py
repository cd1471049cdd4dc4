"""One exchange with a provider over HTTP: a request goes out once, and it is known how far it came."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property, partial
from typing import Protocol
from urllib.parse import urlsplit

from pydantic_core import to_json

from mauntic_jobs.delivery.sending.outcome import Outcome, Verdict
from mauntic_jobs.settings.certificates import machine_trust
from mauntic_jobs.timekeeping import clock

# How long an exchange waits for a place, as a share of the time that it has itself: both together end before the
# message's lease.
_WAIT_SHARE = 0.5
_ELSEWHERE, _FAULTS = range(300, 400), range(500, 600)


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


@dataclass(frozen=True)
class Answer:
    """A provider's answer. `headers` are by their names in lower case; `body` may be cut off."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_success(self) -> bool:
        """Whether it says that all is well."""
        return 200 <= self.status < 300  # noqa: PLR2004 - as RFC 9110 has it

    def fields(self) -> Mapping[str, object]:
        """Return the JSON object in the body, an empty one if there is none."""
        return self._fields

    @cached_property
    def _fields(self) -> Mapping[str, object]:
        # A verdict looks at them several times.
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


@dataclass(slots=True)
class Progress:
    """How far an exchange has come: `verdict` is what is known of the message if no answer follows."""

    verdict: Verdict = Verdict.PROVIDER

    @property
    def verdict_if_stopped(self) -> Verdict:
        """What is known if it ends now, through no fault of the provider."""
        return Verdict.TEMPORARY if self.verdict is Verdict.PROVIDER else self.verdict


class HttpWire(Protocol):
    """What exchanges go over. It repeats nothing."""

    async def exchange(self, request: HttpRequest, progress: Progress) -> Answer:
        """Return the answer; `progress` says all the time how far it has come. Raises ExchangeError."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class HttpClient:
    """The connections of a process to all its providers over HTTP, kept and shared.

    Each provider may have `places` exchanges at once. All of them together have no limit but the concurrency: one
    provider that hangs takes nothing from the others.
    """

    def __init__(self, *, timeout: float, places: int = 100) -> None:
        self.timeout = timeout
        self.places = places
        self._wire: HttpWire | None = None
        self._loading = asyncio.Lock()

    async def wire(self) -> HttpWire:
        """Return the connections. The first exchange loads the client and the machine's certificates, in a thread."""
        if self._wire is None:
            async with self._loading:
                return await self._load()
        return self._wire

    async def _load(self) -> HttpWire:
        if self._wire is None:
            self._wire = (await asyncio.to_thread(_loaded))()
        return self._wire

    async def close(self) -> None:
        """Close the connections."""
        if self._wire is not None:
            await self._wire.close()


class Exchanges:
    """The exchanges of one provider, each within `timeout` seconds in all; `abort` ends them.

    One that finds no place waits for half of that before its own time begins. Then it is put off, which says nothing of
    the provider's health.
    """

    def __init__(self, client: HttpClient) -> None:
        self._client, self._timeout = client, client.timeout
        self._places, self._count = asyncio.Semaphore(client.places), client.places
        self._deadlines: set[asyncio.Timeout] = set()
        self._aborted = False

    async def make(self, request: HttpRequest) -> Answer:
        """Return the answer. Raises ExchangeError."""
        # Loading the client takes nothing from the time of the first exchange.
        wire = await self._client.wire()
        if self._aborted:
            raise ExchangeError(Verdict.TEMPORARY, "stopped")
        # A free place costs no timer.
        await (self._place() if self._places.locked() else self._places.acquire())
        progress, timeout = Progress(), self._timeout
        try:
            # Not over `_within`: a generator for each exchange costs more than the timer.
            async with asyncio.timeout(timeout) as deadline:
                self._deadlines.add(deadline)
                try:
                    return await wire.exchange(request, progress)
                finally:
                    self._deadlines.discard(deadline)
        except TimeoutError:
            if self._aborted:
                raise ExchangeError(progress.verdict_if_stopped, "stopped") from None
            host = urlsplit(request.url).hostname
            raise ExchangeError(progress.verdict, f"{host}: no answer for {timeout:g} s") from None
        finally:
            self._places.release()

    async def _place(self) -> None:
        wait = self._timeout * _WAIT_SHARE
        try:
            async with self._within(wait):
                await self._places.acquire()
        except TimeoutError:
            if self._aborted:
                raise ExchangeError(Verdict.TEMPORARY, "stopped") from None
            reason = f"{self._count} exchanges with this provider are under way, and no place was free for {wait:g} s"
            raise ExchangeError(Verdict.RATE_LIMITED, reason, retry_after=wait) from None

    @asynccontextmanager
    async def _within(self, seconds: float) -> AsyncIterator[None]:
        """Raise TimeoutError after so many seconds, or as soon as all is aborted."""
        async with asyncio.timeout(seconds) as deadline:
            self._deadlines.add(deadline)
            try:
                yield
            finally:
                self._deadlines.discard(deadline)

    def abort(self) -> None:
        """End all exchanges now."""
        self._aborted = True
        now = asyncio.get_running_loop().time() if self._deadlines else 0.0
        for deadline in self._deadlines:
            if not deadline.expired():
                deadline.reschedule(now)


def _loaded() -> Callable[[], HttpWire]:
    """Return what makes the connections, within an event loop."""
    from mauntic_jobs.delivery.sending.providers.wire import AiohttpWire

    return partial(AiohttpWire, machine_trust())


def json_body(fields: Mapping[str, object]) -> bytes:
    """Return fields as a JSON object in UTF-8; half of a surrogate pair, which UTF-8 has no place for, is escaped."""
    try:
        return to_json(fields)
    except ValueError:
        return json.dumps(fields).encode()


def accepted(answer: Answer, message_id: object) -> Outcome:
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
