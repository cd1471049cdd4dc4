"""Exchanges over HTTP/1.1 with aiohttp. It is imported with the first exchange: it takes 10 MB, and a moment."""

import asyncio
import os
import select
import ssl
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass
from weakref import WeakSet

from aiohttp import (
    ClientConnectionResetError,
    ClientConnectorError,
    ClientError,
    ClientHandlerType,
    ClientHttpProxyError,
    ClientOSError,
    ClientProxyConnectionError,
    ClientRequest,
    ClientResponse,
    ClientResponseError,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    ServerDisconnectedError,
    StreamReader,
    TCPConnector,
    ThreadedResolver,
)
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.payload import Payload
from aiohttp.tracing import Trace

from mauntic_jobs import __version__
from mauntic_jobs.delivery import failpoints
from mauntic_jobs.delivery.sending.outcome import Verdict
from mauntic_jobs.delivery.sending.providers.http import Answer, ExchangeError, HttpRequest, Progress

_LARGEST_ANSWER = 256 * 1024
_LARGEST_HEADER = 64 * 1024
# Providers close what is idle for longer than a minute or so; a connection that is just being closed is a risk.
_IDLE_SECONDS = 15.0
# A larger body may stop on its way: the last byte is held back until the others have left this process.
_WRITTEN_AT_ONCE = 32 * 1024
# Answers are short, and are worth no compression.
_HEADERS = {"user-agent": f"mauntic-jobs/{__version__}", "accept-encoding": "identity"}


class AiohttpWire:
    """The connections of a process, to be made within a running event loop.

    Requests go where the URL says, or over the proxy that the environment names for it (HTTPS_PROXY, HTTP_PROXY,
    ALL_PROXY, NO_PROXY). There are no redirects, no cookies, and no request is repeated once a byte of it is out.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        context.set_alpn_protocols(["http/1.1"])
        connector = _Connector(
            limit=0, ssl=context, keepalive_timeout=_IDLE_SECONDS, resolver=ThreadedResolver(), ttl_dns_cache=10
        )
        self._proxies = getproxies()
        self._session = ClientSession(
            connector=connector,
            cookie_jar=DummyCookieJar(),
            headers=_HEADERS,
            max_field_size=_LARGEST_HEADER,
            max_line_size=_LARGEST_HEADER,
            skip_auto_headers=("content-type",),
            timeout=ClientTimeout(),
        )

    async def exchange(self, request: HttpRequest, progress: Progress) -> Answer:
        """Return the answer; `progress` says all the time how far it has come. Raises ExchangeError."""
        scheme, host = _place(request.url)
        content = _Content(request.content, progress) if request.content else None
        try:
            response = await self._session.request(
                request.method,
                request.url,
                headers=request.headers,
                data=content,
                allow_redirects=False,
                proxy=self._proxy(scheme, host),
                middlewares=_ONCE if content is None else (),
            )
            try:
                return Answer(response.status, _by_name(response.headers), await _beginning(response.content))
            finally:
                # What has not been read whole is closed.
                response.release()
        except (ClientError, OSError) as error:
            raise ExchangeError(progress.verdict, f"{host}: {_problem(error)}") from None
        except ValueError:
            raise ExchangeError(Verdict.PROVIDER, f"{host}: its credentials cannot be put into a request") from None
        finally:
            if content is not None:
                content.end()

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    def _proxy(self, scheme: str, host: str) -> str | None:
        if not self._proxies:
            return None
        proxy = self._proxies.get(scheme) or self._proxies.get("all")
        if not proxy or proxy_bypass(host):
            return None
        proxy = proxy if "://" in proxy else f"http://{proxy}"
        if not proxy.startswith(("http://", "https://")):
            reason = f"{host}: the proxy that the environment names is none over HTTP: set {scheme}_proxy"
            raise ExchangeError(Verdict.PROVIDER, reason)
        return proxy


class _BrokenError(ClientError):
    """A connection broke. aiohttp would repeat a request without a body for what it raises itself."""


async def _once(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    try:
        return await handler(request)
    except (ClientOSError, ServerDisconnectedError) as error:
        raise _BrokenError(_problem(error)) from error


_ONCE = (_once,)


class _Connector(TCPConnector):
    """The pool. A kept connection that its server has closed, or has said something on, is not used again.

    The loop may not have noticed yet: it was busy, and the end is still in the socket.
    """

    def __init__(self, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self._used: WeakSet[ResponseHandler] = WeakSet()

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> Connection:  # noqa: ASYNC109 - aiohttp's own
        """Return a connection, as aiohttp wants it."""
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            if protocol is None or protocol not in self._used:
                break
            if not _is_readable(protocol.transport):
                return connection
            connection.close()
        if protocol is not None:
            self._used.add(protocol)
        return connection


class _Content(Payload):
    """The body of a request. It notes what may have been sent before it gives it to the connection."""

    _autoclose = True

    def __init__(self, content: bytes, progress: Progress) -> None:
        super().__init__(content)
        self._size = len(content)
        self._progress = progress
        self._transport: asyncio.WriteTransport | None = None

    def end(self) -> None:
        """Cut the connection if the body is not out: closing it would wait for a server that does not read."""
        if self._transport is not None and self._transport.get_write_buffer_size():
            self._transport.abort()

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return it as text."""
        return bytes(self._value).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write it whole."""
        content = memoryview(self._value)
        self._transport = transport = writer.transport
        self._progress.verdict = Verdict.TEMPORARY
        if len(content) > _WRITTEN_AT_ONCE:
            await writer.write(content[:-1])
            content = content[-1:]
        failpoints.reach("before-content")
        if transport is None or transport.is_closing():
            raise ClientConnectionResetError("the connection was closed before the request was written")
        self._progress.verdict = Verdict.UNKNOWN
        await writer.write(content)
        failpoints.reach("after-content")


@lru_cache(maxsize=1024)
def _place(url: str) -> tuple[str, str]:
    """Return the scheme and the host of a URL."""
    place = urlsplit(url)
    return place.scheme, place.hostname or ""


def _is_readable(transport: asyncio.BaseTransport | None) -> bool:
    """Whether there is something to be read, the end included, though nothing was asked."""
    socket = transport and transport.get_extra_info("socket")
    if not socket:
        return True
    poll = select.poll()
    poll.register(socket.fileno(), select.POLLIN)
    return bool(poll.poll(0))


async def _beginning(content: StreamReader) -> bytes:
    """Return an answer's body, or what there is of it: the status alone says enough for most."""
    body = b""
    try:
        while len(body) <= _LARGEST_ANSWER and (chunk := await content.readany()):
            body += chunk
    except (ClientError, OSError):
        pass
    return body


def _by_name(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return headers by their names in lower case, the first of each name; what is not UTF-8 is taken as Latin-1."""
    found: dict[str, str] = {}
    for name, value in headers.items():
        text = value if value.isascii() else value.encode(errors="surrogateescape").decode("latin-1")
        found.setdefault(name.lower(), text)
    return found


def _problem(error: Exception) -> str:
    """Return what is in the way, without what the server wrote or what was sent to it."""
    match error:
        case ClientHttpProxyError():
            return f"the proxy answered {error.status}"
        case ClientConnectorError():
            through = "the proxy: " if isinstance(error, ClientProxyConnectionError) else ""
            return f"{through}{error.os_error.strerror or error.os_error}"
        case ClientResponseError():
            return "what it answered is not HTTP"
        case ServerDisconnectedError():
            return "it closed the connection without an answer"
        case OSError() if error.errno is not None:
            return os.strerror(error.errno)
        case _:
            return str(error) or type(error).__name__
