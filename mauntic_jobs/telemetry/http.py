"""Short messages over HTTP: no redirects, no retries, and what is said in answer is not waited for."""

from collections.abc import Mapping


class HttpError(Exception):
    """Why a service did not take a message; without its address, which may be the secret."""


def post(url: str, body: bytes, headers: Mapping[str, str], seconds: float) -> None:
    """Send a body. Raises HttpError unless it is answered by success."""
    _exchange("POST", url, body, headers, seconds)


def get(url: str, seconds: float) -> None:
    """Ask for an address, for the sake of asking. Raises HttpError unless it is answered by success."""
    _exchange("GET", url, None, {}, seconds)


def _exchange(method: str, url: str, body: bytes | None, headers: Mapping[str, str], seconds: float) -> None:
    import httpx2

    try:
        with (
            httpx2.Client(timeout=seconds, follow_redirects=False) as client,
            client.stream(method, url, content=body, headers=dict(headers)) as response,
        ):
            status = response.status_code
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
