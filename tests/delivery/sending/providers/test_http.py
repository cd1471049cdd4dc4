"""Exchanges over HTTP: how far each came is known, whatever becomes of the connection."""

import asyncio
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest

from mauntic_jobs.delivery.sending.outcome import Verdict
from mauntic_jobs.delivery.sending.providers.http import (
    Answer,
    ExchangeError,
    Exchanges,
    HttpClient,
    HttpRequest,
    common_outcome,
)
from tests.delivery.fake_api import FakeApi, Fault, Reply, Taken, running_api
from tests.delivery.proxy import running_proxy
from tests.support import run_on_loop

NOW = datetime(2026, 10, 1, 12, tzinfo=UTC)


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with running_api(lambda taken: Reply(body=taken.body)) as running:
        yield running


def ask(*requests: HttpRequest, timeout: float = 5) -> list[Answer | ExchangeError]:
    async def run() -> list[Answer | ExchangeError]:
        client = HttpClient(timeout=timeout)
        exchanges = Exchanges(client)
        answers: list[Answer | ExchangeError] = []
        for request in requests:
            try:
                answers.append(await exchanges.make(request))
            except ExchangeError as error:
                answers.append(error)
        await client.close()
        return answers

    return run_on_loop(run())


def failure(answer: Answer | ExchangeError) -> ExchangeError:
    assert isinstance(answer, ExchangeError)
    return answer


def request(api: FakeApi, content: bytes = b"hello") -> HttpRequest:
    return HttpRequest(f"{api.url}/send", {"x-key": "k"}, content)


@pytest.mark.parametrize("content", [b"x", b"hello", b"a" * 1_000_000])
def test_a_request_comes_whole_and_over_a_kept_connection(api: FakeApi, content: bytes) -> None:
    api.answer = lambda taken: Reply(body=str(len(taken.body)).encode())
    answers = ask(request(api, content), request(api, content))
    assert [answer.body for answer in answers if isinstance(answer, Answer)] == [str(len(content)).encode()] * 2
    assert [taken.body for taken in api.taken] == [content] * 2
    assert api.taken[0].headers["content-length"] == str(len(content))
    assert api.connections == 1


def test_a_kept_connection_that_the_server_has_closed_spends_no_request(api: FakeApi) -> None:
    place = urlsplit(api.url)
    assert place.hostname
    assert place.port
    with running_proxy(place.hostname, place.port) as proxy:

        async def run() -> list[int]:
            client = HttpClient(timeout=5)
            exchanges = Exchanges(client)
            sent = HttpRequest(f"http://127.0.0.1:{proxy.port}/send", {}, b"hello")
            statuses = [(await exchanges.make(sent)).status]
            for end in (proxy.reset_all, proxy.reset_all):
                await asyncio.to_thread(end)
                await asyncio.sleep(0.05)
                statuses.append((await exchanges.make(sent)).status)
            await client.close()
            return statuses

        assert run_on_loop(run()) == [200, 200, 200]
    assert len(api.taken) == 3


@pytest.mark.parametrize("size", [5, 5_000_000])
def test_what_breaks_before_the_body_was_whole_is_not_sent(api: FakeApi, size: int) -> None:
    api.early = lambda _: Fault.RESET_BEFORE_BODY
    api.answer = lambda _: Reply(500)
    (answer,) = ask(request(api, b"a" * size))
    # A small body is in the network's buffers before anybody can know.
    assert failure(answer).outcome.verdict is (Verdict.UNKNOWN if size == 5 else Verdict.TEMPORARY)
    assert api.taken == []


@pytest.mark.parametrize(("size", "verdict"), [(5, Verdict.UNKNOWN), (40_000_000, Verdict.TEMPORARY)])
def test_a_server_that_accepts_and_never_reads_holds_nothing_up(size: int, verdict: Verdict) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/send"
        (answer,) = ask(HttpRequest(url, {}, b"a" * size), timeout=2)
    # A small body is in the network's buffers, as if it had been read.
    assert failure(answer).outcome.verdict is verdict
    assert failure(answer).outcome.reason == "127.0.0.1: no answer for 2 s"


@pytest.mark.parametrize("fault", [Fault.RESET_AFTER_BODY, Fault.FREEZE])
def test_what_breaks_after_the_body_is_unknown(api: FakeApi, fault: Fault) -> None:
    api.answer = lambda _: fault
    (answer,) = ask(request(api), timeout=0.5)
    assert failure(answer).outcome.verdict is Verdict.UNKNOWN
    assert len(api.taken) == 1


def test_an_answer_that_is_cut_off_keeps_its_status(api: FakeApi) -> None:
    api.answer = lambda _: Fault.CUT_ANSWER
    (answer,) = ask(request(api))
    assert isinstance(answer, Answer)
    assert (answer.status, answer.fields()) == (200, {})


def test_a_server_that_is_not_there_or_not_who_it_says_is_of_no_use() -> None:
    (answer,) = ask(HttpRequest("http://127.0.0.1:9/", {}, b"x"))
    assert failure(answer).outcome.verdict is Verdict.PROVIDER


def test_nothing_is_repeated_and_no_redirection_is_followed(api: FakeApi) -> None:
    api.answer = lambda _: Reply(307, headers={"location": f"{api.url}/elsewhere"})
    (answer,) = ask(request(api))
    assert isinstance(answer, Answer)
    outcome = common_outcome(answer, "")
    assert outcome is not None
    assert outcome.verdict is Verdict.PROVIDER
    assert len(api.taken) == 1


def test_an_exchange_that_is_aborted_says_how_far_it_came(api: FakeApi) -> None:
    async def run() -> Verdict:
        loop, taken = asyncio.get_running_loop(), asyncio.Event()

        def answer(_: Taken) -> Fault:
            loop.call_soon_threadsafe(taken.set)
            return Fault.FREEZE

        api.answer = answer
        client = HttpClient(timeout=5)
        exchanges = Exchanges(client)
        asked = asyncio.ensure_future(exchanges.make(request(api)))
        await taken.wait()
        exchanges.abort()
        with pytest.raises(ExchangeError) as raised:
            await asked
        with pytest.raises(ExchangeError):
            await exchanges.make(request(api))
        await client.close()
        return raised.value.outcome.verdict

    assert run_on_loop(run()) is Verdict.UNKNOWN
    assert len(api.taken) == 1


def test_a_hundred_exchanges_that_hang_take_no_place_from_another_provider(api: FakeApi) -> None:
    with running_api(lambda taken: Reply(body=taken.body)) as healthy:
        api.answer = lambda _: Fault.FREEZE

        async def run() -> int:
            client = HttpClient(timeout=60)
            hung, well = Exchanges(client), Exchanges(client)
            hanging = [asyncio.ensure_future(hung.make(request(api))) for _ in range(100)]
            while len(api.taken) < 100:  # noqa: ASYNC110 - no bell rings
                await asyncio.sleep(0.05)
            answer = await asyncio.wait_for(well.make(request(healthy)), 10)
            hung.abort()
            await asyncio.gather(*hanging, return_exceptions=True)
            await client.close()
            return answer.status

        assert run_on_loop(run()) == 200


def test_what_waits_for_a_place_of_its_provider_is_put_off_and_says_nothing_of_its_health(api: FakeApi) -> None:
    api.answer = lambda _: Fault.FREEZE

    async def run() -> list[Verdict]:
        client = HttpClient(timeout=2, places=2)
        exchanges = Exchanges(client)
        asked = await asyncio.gather(*(exchanges.make(request(api)) for _ in range(3)), return_exceptions=True)
        await client.close()
        return [each.outcome.verdict for each in asked if isinstance(each, ExchangeError)]

    assert run_on_loop(run()) == [Verdict.UNKNOWN, Verdict.UNKNOWN, Verdict.RATE_LIMITED]
    assert len(api.taken) == 2


def test_a_place_that_gets_free_in_time_is_used_with_all_of_the_time(api: FakeApi) -> None:
    async def run() -> list[int]:
        client = HttpClient(timeout=5, places=1)
        exchanges = Exchanges(client)
        answers = await asyncio.gather(*(exchanges.make(request(api)) for _ in range(10)))
        await client.close()
        return [answer.status for answer in answers]

    assert run_on_loop(run()) == [200] * 10
    assert api.connections == 1


def test_what_waits_for_a_place_ends_when_it_is_aborted(api: FakeApi) -> None:
    async def run() -> list[Verdict]:
        loop, taken = asyncio.get_running_loop(), asyncio.Event()

        def answer(_: Taken) -> Fault:
            loop.call_soon_threadsafe(taken.set)
            return Fault.FREEZE

        api.answer = answer
        client = HttpClient(timeout=60, places=1)
        exchanges = Exchanges(client)
        asked = [asyncio.ensure_future(exchanges.make(request(api))) for _ in range(2)]
        await taken.wait()
        exchanges.abort()
        ended = await asyncio.gather(*asked, return_exceptions=True)
        await client.close()
        return [each.outcome.verdict for each in ended if isinstance(each, ExchangeError)]

    assert run_on_loop(asyncio.wait_for(run(), 30)) == [Verdict.UNKNOWN, Verdict.TEMPORARY]


def test_a_credential_that_no_header_can_hold_is_not_repeated_in_the_reason(api: FakeApi) -> None:
    (answer,) = ask(HttpRequest(api.url, {"x-key": "secret\r\nx-evil: 1"}, b"x"))
    outcome = failure(answer).outcome
    assert outcome.verdict is Verdict.PROVIDER
    assert "secret" not in outcome.reason
    assert api.taken == []


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, None),
        (302, Verdict.PROVIDER),
        (400, None),
        (401, Verdict.PROVIDER),
        (403, Verdict.PROVIDER),
        (408, Verdict.TEMPORARY),
        (429, Verdict.RATE_LIMITED),
        (500, Verdict.UNKNOWN),
        (502, Verdict.UNKNOWN),
        (503, Verdict.PROVIDER),
        (504, Verdict.UNKNOWN),
    ],
)
def test_a_status_means_the_same_whoever_answers(status: int, verdict: Verdict | None) -> None:
    outcome = common_outcome(Answer(status, {}, b""), "said")
    assert (outcome.verdict if outcome else None) is verdict


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        ("Thu, 01 Oct 2026 12:00:30 GMT", 30.0),
        ("Thu, 01 Oct 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("-3", None),
        ("", None),
        ("\u00b2", None),
        ("\u0667", 7.0),
        ("9" * 5_000, float("inf")),
    ],
)
def test_both_forms_of_retry_after_are_read(text: str, seconds: float | None) -> None:
    assert Answer(429, {"retry-after": text}, b"").retry_after(NOW) == seconds
