"""Short messages over HTTP: no redirects, no retries, and no more of an answer than its beginning."""

from collections.abc import Mapping


class HttpError(Exception):
    """Why a service did not take a message; without its address, which may be the secret."""


# An answer that begins later than with the first packet is not read.
_ANSWER_BYTES = 200


def post(url: str, body: bytes, headers: Mapping[str, str], seconds: float) -> None:
    """Send a body. Raises HttpError unless it is answered by success."""
    _exchange("POST", url, body, headers, seconds, read=False)


def ask(url: str, body: bytes, headers: Mapping[str, str], seconds: float) -> str:
    """Send a body, and return the beginning of the answer. Raises HttpError unless it is a success."""
    return _exchange("POST", url, body, headers, seconds, read=True)


def get(url: str, seconds: float) -> None:
    """Ask for an address, for the sake of asking. Raises HttpError unless it is answered by success."""
    _exchange("GET", url, None, {}, seconds, read=False)


def _exchange(
    method: str, url: str, body: bytes | None, headers: Mapping[str, str], seconds: float, *, read: bool
) -> str:
    import httpx2

    try:
        with (
            httpx2.Client(timeout=seconds, follow_redirects=False) as client,
            client.stream(method, url, content=body, headers=dict(headers)) as response,
        ):
            status = response.status_code
            begun = next(response.iter_bytes(), b"")[:_ANSWER_BYTES] if read else b""
    except httpx2.TimeoutException:
        raise HttpError(f"no answer within {seconds:.1f} s") from None
    except httpx2.ConnectError as error:
        raise HttpError(f"cannot connect: {error}") from None
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        raise HttpError(f"the exchange broke off ({type(error).__name__})") from None
    if 300 <= status < 400:  # noqa: PLR2004 - what HTTP calls redirection
        raise HttpError(f"answered {status}, a redirect, which is not followed: set the address it leads to")
    if not 200 <= status < 300:  # noqa: PLR2004 - what HTTP calls success
        raise HttpError(f"answered {status}")
    return begun.decode(errors="replace")
