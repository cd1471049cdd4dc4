"""Fakes of the providers' APIs, which accept every message after a delay. Prints its port, and ends with its input.

For `governed.py`, messages that a limit does not let through are refused with 429, as each vendor
documents it.
"""

import argparse
import asyncio
import math
import sys
import time
from collections.abc import Callable, Mapping

import uvloop

# The answer of each provider to a message that it accepts, or to a question about its account, by the end of the path.
_ANSWERS: Mapping[bytes, bytes] = {
    b"/email": b'{"ErrorCode":0,"MessageID":"0a1b2c3d-0000-4000-8000-000000000000","Message":"OK"}',
    b"/mail/send": b"",
    b"/outbound-emails": b'{"MessageId":"0102018f-0000"}',
    b"/account": b"{}",
    b"/Messages.json": b'{"sid":"SM00000000000000000000000000000000","status":"queued"}',
    b"/messages:send": b'{"name":"projects/bench/messages/1"}',
    b"/token": b'{"access_token":"token","expires_in":3600,"token_type":"Bearer"}',
}
# Requests to these are not messages, and no limit counts them.
_ABOUT_ACCOUNTS = (b"/account", b"/token")
_REFUSAL = b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n%b"
# What each says of messages above the rate, by the end of the path: header fields, and the content. SES's
# TooManyRequestsException with its message (developer guide, "Errors related to the sending quotas"), and SendGrid's
# fields and body ("Rate limits" of the v3 API). Others, as Postmark, say nothing but 429.
_REFUSED: Mapping[bytes, tuple[bytes, bytes]] = {
    b"/outbound-emails": (
        b"x-amzn-ErrorType: TooManyRequestsException\r\n",
        b'{"message":"Maximum sending rate exceeded."}',
    ),
    b"/mail/send": (
        b"X-RateLimit-Limit: 1\r\nX-RateLimit-Remaining: 0\r\nX-RateLimit-Reset: %d\r\n",
        b'{"errors":[{"field":null,"message":"too many requests"}]}',
    ),
}
_HEAD = b"HTTP/1.1 200 OK\r\nX-Message-Id: m-1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"


def _any() -> bool:
    return True


class FakeApi(asyncio.Protocol):
    """One connection; its requests have a Content-Length, and come one after the other.

    `take` says of each message whether it is let through.
    """

    def __init__(self, delay: float, take: Callable[[], bool] = _any) -> None:
        self._delay = delay
        self._take = take
        self._transport: asyncio.Transport | None = None
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = transport  # type: ignore[assignment]  # a server's is a Transport

    def data_received(self, data: bytes) -> None:
        """Answer when a request is whole."""
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        _, _, rest = head.lower().partition(b"content-length:")
        if len(body) < int(rest.partition(b"\r\n")[0] or b"0"):
            return
        self._buffer = b""
        path = head.split(b" ", 2)[1]
        asyncio.get_running_loop().call_later(self._delay, self._answer, path)

    def _answer(self, path: bytes) -> None:
        content = next(each for end, each in _ANSWERS.items() if path.endswith(end))
        is_taken = path.endswith(_ABOUT_ACCOUNTS) or self._take()
        answer = _HEAD % (len(content), content) if is_taken else _refusal(path)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(answer)


def _refusal(path: bytes) -> bytes:
    fields, content = next((each for end, each in _REFUSED.items() if path.endswith(end)), (b"", b""))
    if b"%d" in fields:
        # The second in which there is room again, since 1970.
        fields %= math.ceil(time.time())
    return _REFUSAL % (fields, len(content), content)


async def _serve(delay: float) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: FakeApi(delay), "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--milliseconds", type=float, default=0.0, help="how long each answer takes")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(parser.parse_args().milliseconds / 1000))
