"""Connections that break, servers that answer nonsense, proxies and certificates: nothing is repeated or believed."""

import asyncio
import gzip
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from mauntic_jobs.delivery.sending.outcome import Verdict
from mauntic_jobs.delivery.sending.providers.http import Answer, ExchangeError, Exchanges, HttpClient, HttpRequest
from tests.delivery.authority import new_authority, server_context
from tests.delivery.raw_server import Link, ok, raw_server, saying
from tests.support import run_on_loop, wait_until

T = TypeVar("T")
LARGE = 30_000_000


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def ask(url: str, *, size: int = 5, times: int = 1, timeout: float = 20, method: str = "POST") -> list[Any]:
    """Make an exchange so many times, and return the answers and errors."""
    content = b"a" * size if method == "POST" else b""
    request = HttpRequest(f"{url}/send", {"content-type": "text/plain", "x-key": "secret"}, content, method)

    async def run(exchanges: Exchanges) -> list[Any]:
        return [await tried(exchanges, request) for _ in range(times)]

    return with_client(run, timeout)


def with_client(deed: Callable[[Exchanges], Coroutine[Any, Any, T]], timeout: float = 20) -> T:
    async def run() -> T:
        client = HttpClient(timeout=timeout)
        try:
            return await deed(Exchanges(client))
        finally:
            await client.close()

    return run_on_loop(run())


async def tried(exchanges: Exchanges, request: HttpRequest) -> Answer | ExchangeError:
    try:
        return await exchanges.make(request)
    except ExchangeError as error:
        return error


def failed(result: Any, verdict: Verdict) -> str:
    """Check that an exchange failed with this verdict, and return the reason, which tells no secrets."""
    assert isinstance(result, ExchangeError), result
    assert result.outcome.verdict is verdict
    assert "secret" not in result.outcome.reason
    return result.outcome.reason


@pytest.mark.parametrize(
    "answer",
    [
        b"secret nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 3_000_000 + b"\r\nContent-Length: 0\r\n\r\n",
        b"",
    ],
    ids=["nonsense", "half", "status", "two lengths", "length and chunks", "header", "nothing"],
)
def test_an_answer_that_is_none_leaves_open_what_was_sent(answer: bytes) -> None:
    with raw_server(saying(answer, then_close=True)) as server:
        (result,) = ask(server.url)
        failed(result, Verdict.UNKNOWN)
        assert server.whole == 1


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"a"', b'{"a"'),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", b"hello"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello", b""),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", b"hello"),
    ],
    ids=["length", "chunks", "compression", "no length"],
)
def test_a_body_that_is_cut_off_or_malformed_keeps_the_status(answer: bytes, body: bytes) -> None:
    with raw_server(saying(answer, then_close=True)) as server:
        (result,) = ask(server.url)
    assert (result.status, result.body) == (200, body)


def test_preliminary_answers_are_passed_over() -> None:
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    with raw_server(saying(early + ok(b"hello"))) as server:
        results = ask(server.url, times=2)
        assert [each.body for each in results] == [b"hello"] * 2
        assert server.connections == 1


@pytest.mark.parametrize(
    ("first", "drop"),
    [(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), (b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n", b"x")],
    ids=["100", "body"],
)
def test_an_answer_that_drips_ends_with_the_time_of_the_exchange(first: bytes, drop: bytes) -> None:
    async def drip(link: Link) -> None:
        await link.request()
        await link.say(first)
        while True:
            await link.say(drop)
            await asyncio.sleep(0.02)

    with raw_server(drip) as server:
        (result,) = ask(server.url, timeout=2)
        assert failed(result, Verdict.UNKNOWN) == "127.0.0.1: no answer for 2 s"
        wait_until(lambda: server.open == 0, "the end of the connection")


def test_of_an_endless_answer_the_beginning_is_read() -> None:
    async def endless(link: Link) -> None:
        await link.request()
        await link.say(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await link.say(b"x" * 65_536)

    with raw_server(endless) as server:
        (result,) = ask(server.url)
        assert 256 * 1024 < len(result.body) < 4 * 1024 * 1024
        wait_until(lambda: server.open == 0, "the end of the connection")


def test_a_compressed_answer_is_read_and_not_beyond_its_beginning() -> None:
    small, bomb = gzip.compress(b'{"MessageID":"x"}'), gzip.compress(bytes(100_000_000))
    for packed, fewest, most in ((small, 17, 17), (bomb, 256 * 1024, 4 * 1024 * 1024)):
        with raw_server(saying(ok(packed, b"Content-Encoding: gzip"))) as server:
            (result,) = ask(server.url)
        assert fewest <= len(result.body) <= most


def test_what_follows_an_answer_is_not_taken_for_the_next_one() -> None:
    with raw_server(saying(ok(b"mine") + ok(b"another's"))) as server:
        results = ask(server.url, times=3)
        assert [each.body for each in results] == [b"mine"] * 3
        assert server.connections == 3


@pytest.mark.parametrize("farewell", [b"", b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"])
def test_a_connection_that_ends_while_the_loop_is_busy_is_not_used_again(farewell: bytes) -> None:
    async def once(link: Link) -> None:
        await link.request()
        await link.say(ok(b"hello"))
        await asyncio.sleep(0.1)
        await link.say(farewell)

    async def run(exchanges: Exchanges) -> list[Any]:
        request = HttpRequest(f"{server.url}/send", {}, b"hello")
        first = await tried(exchanges, request)
        # The loop sees nothing of the end.
        deadline = time.monotonic() + 20
        while server.open and time.monotonic() < deadline:
            time.sleep(0.05)  # noqa: ASYNC251 - so that the loop is busy
        time.sleep(0.1)  # noqa: ASYNC251 - until the end is here
        return [first, await tried(exchanges, request)]

    with raw_server(once) as server:
        results = with_client(run)
        assert [each.status for each in results] == [200, 200]
        assert (server.connections, server.whole) == (2, 2)


@pytest.mark.parametrize(("method", "verdict"), [("POST", Verdict.UNKNOWN), ("GET", Verdict.PROVIDER)])
def test_nothing_is_sent_twice_over_a_connection_that_breaks(method: str, verdict: Verdict) -> None:
    async def reset(link: Link) -> None:
        await link.request()
        link.writer.transport.abort()

    with raw_server(reset) as server:
        (result,) = ask(server.url, method=method)
        failed(result, verdict)
        assert server.whole == 1


def test_a_kept_connection_that_breaks_with_the_request_on_it_leaves_open_what_was_sent() -> None:
    async def second_breaks(link: Link) -> None:
        await link.request()
        await link.say(ok())
        await link.request()
        link.writer.transport.abort()

    with raw_server(second_breaks) as server:
        results = ask(server.url, times=2)
        assert results[0].status == 200
        failed(results[1], Verdict.UNKNOWN)
        assert (server.connections, server.whole) == (1, 2)


def test_an_early_refusal_is_heard_and_its_connection_ends() -> None:
    async def refuse(link: Link) -> None:
        await link.head()
        await link.say(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await link.reader.read(10)
        await asyncio.Event().wait()  # it reads nothing more

    with raw_server(refuse) as server:
        results = ask(server.url, size=LARGE, times=2)
        assert [(each.status, each.body) for each in results] == [(413, b"no")] * 2
        # Nothing of the first body is taken for the second request.
        assert server.connections == 2


def test_a_body_that_nobody_reads_is_not_kept_beyond_its_time() -> None:
    came = 0

    async def deaf(link: Link) -> None:
        nonlocal came
        await link.head()
        await asyncio.sleep(3)
        while data := await link.reader.read(1 << 20):
            came += len(data)

    with raw_server(deaf) as server:

        async def run(exchanges: Exchanges) -> Any:
            result = await tried(exchanges, HttpRequest(f"{server.url}/send", {}, b"a" * LARGE))
            # The rest of the body is dropped, not sent in the background.
            await asyncio.to_thread(wait_until, lambda: server.open == 0, "the end of the connection")
            return result

        failed(with_client(run, 2), Verdict.TEMPORARY)
        # The network has some of it.
        assert came < LARGE / 2


def test_a_sender_that_gives_up_frees_its_place_and_its_connection() -> None:
    async def freeze(link: Link) -> None:
        await link.request()
        await link.reader.read()

    async def run() -> str:
        client = HttpClient(timeout=20, places=1)
        exchanges = Exchanges(client)
        request = HttpRequest(f"{server.url}/send", {}, b"hello")
        sending = asyncio.ensure_future(exchanges.make(request))
        await asyncio.to_thread(wait_until, lambda: server.whole == 1, "the request")
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await asyncio.to_thread(wait_until, lambda: server.open == 0, "the end of the connection")
        server.script = saying(ok(b"hello"))
        answer = await exchanges.make(request)
        await client.close()
        return answer.body.decode()

    with raw_server(freeze) as server:
        assert run_on_loop(run()) == "hello"


def test_cookies_are_not_kept() -> None:
    with raw_server(saying(ok(b"", b"Set-Cookie: a=1"))) as server:
        # By a name: clients keep no cookies of bare addresses.
        ask(f"http://localhost:{server.port}", times=2)
        assert len(server.heads) == 2
        assert not any("cookie" in head for head in server.heads)


def test_the_headers_of_an_answer_are_texts_whatever_they_hold() -> None:
    with raw_server(saying(ok(b"", b"X-Name: caf\xe9", b"X-Name: other"))) as server:
        (result,) = ask(server.url)
    assert result.headers["x-name"] == "caf\u00e9"


def test_the_request_has_no_headers_that_nobody_asked_for() -> None:
    with raw_server(saying(ok())) as server:
        ask(server.url)
        (head,) = server.heads
    names = {line.partition(":")[0] for line in head.split("\r\n")[1:] if line}
    assert names == {
        *("host", "user-agent", "accept", "accept-encoding", "content-length", "content-type", "x-key"),
    }
    assert "user-agent: mauntic-jobs/" in head


class TestTls:
    def test_a_certificate_of_an_unknown_authority_is_refused(self, tmp_path: Path) -> None:
        context = server_context(tmp_path, new_authority().issue())
        with raw_server(saying(ok()), tls=context) as server:
            (result,) = ask(f"https://127.0.0.1:{server.port}")
            assert "certificate" in failed(result, Verdict.PROVIDER).lower()
            assert server.heads == []

    @pytest.mark.parametrize(("host", "works"), [("127.0.0.1", True), ("127.0.0.2", False)])
    def test_a_certificate_is_for_its_host_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, works: bool
    ) -> None:
        authority = new_authority()
        (tmp_path / "ca.pem").write_text(authority.pem)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        context = server_context(tmp_path, authority.issue())
        with raw_server(saying(ok(b"hello")), host=host, tls=context) as server:
            (result,) = ask(f"https://{host}:{server.port}")
        if works:
            assert result.body == b"hello"
        else:
            failed(result, Verdict.PROVIDER)
        assert server.whole == int(works)

    def test_a_server_without_tls_gets_no_request(self) -> None:
        async def plain(link: Link) -> None:
            await link.say(b"220 hello\r\n")
            await link.reader.read()

        with raw_server(plain) as server:
            (result,) = ask(f"https://127.0.0.1:{server.port}")
            failed(result, Verdict.PROVIDER)


class TestProxy:
    """The environment's: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY."""

    @pytest.mark.parametrize("name", ["HTTPS_PROXY", "ALL_PROXY"])
    def test_tls_goes_through_the_proxy_whose_login_nobody_else_gets(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        authority = new_authority()
        (tmp_path / "ca.pem").write_text(authority.pem)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        with (
            raw_server(saying(ok(b"hello")), tls=server_context(tmp_path, authority.issue())) as server,
            raw_server(connect) as proxy,
        ):
            monkeypatch.setenv(name, f"http://me:secret@127.0.0.1:{proxy.port}")
            results = ask(f"https://127.0.0.1:{server.port}", times=2)
            assert [each.body for each in results] == [b"hello"] * 2
            assert proxy.heads[0].startswith(f"connect 127.0.0.1:{server.port} http/1.1\r\n")
            assert "proxy-authorization: basic bwu6c2vjcmv0" in proxy.heads[0]
            assert "x-key" not in proxy.heads[0]
            assert not any("authorization" in head for head in server.heads)
            assert proxy.connections == 1

    def test_a_host_of_no_proxy_is_reached_directly(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("NO_PROXY", "example.com,127.0.0.1")
        with raw_server(saying(ok(b"hello"))) as server:
            (result,) = ask(server.url)
        assert result.body == b"hello"

    def test_a_proxy_that_refuses_is_named_without_its_password(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with raw_server(saying(b"HTTP/1.1 407 secret\r\nContent-Length: 0\r\n\r\n", then_close=True)) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://me:secret@127.0.0.1:{proxy.port}")
            (result,) = ask("https://provider.test")
            assert failed(result, Verdict.PROVIDER) == "provider.test: the proxy answered 407"
        (result,) = ask("https://provider.test")
        assert failed(result, Verdict.PROVIDER).startswith("provider.test: the proxy: ")

    def test_a_proxy_of_another_kind_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTPS_PROXY", "socks5://me:secret@127.0.0.1:9")
        (result,) = ask("https://provider.test")
        assert "https_proxy" in failed(result, Verdict.PROVIDER)


async def connect(link: Link) -> None:
    """Be a proxy: pass bytes on, both ways."""
    place = (await link.head()).split(" ")[1]
    host, _, port = place.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    await link.say(b"HTTP/1.1 200 Connection established\r\n\r\n")
    await asyncio.gather(_pass_on(link.reader, writer), _pass_on(reader, link.writer))


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()


def test_who_sends_over_smtp_alone_does_not_load_the_client() -> None:
    code = (
        "import sys, mauntic_jobs.delivery.process.worker_process;"
        "from mauntic_jobs.delivery.sending.providers.registry import factories;"
        "print(*sys.modules)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(process.stdout.split())
    assert "mauntic_jobs.delivery.sending.providers.http" in loaded
    assert not loaded & {"aiohttp", "httpx2", "mauntic_jobs.delivery.sending.providers.wire"}
