"""Short messages over HTTP: no redirects, no retries, and no more of an answer than its beginning."""

from base64 import b64encode
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mauntic_jobs import __version__
from mauntic_jobs.settings.certificates import machine_trust

if TYPE_CHECKING:
    from urllib.request import OpenerDirector


class HttpError(Exception):
    """Why a service did not take a message; without its address, which may be the secret."""


# An answer that begins later than with the first packet is not read.
_ANSWER_BYTES = 200
# Characters of an address that are not percent-encoded.
_LITERAL = "%/:=&?~+!$,;'@()*[]-._"


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
    from http.client import HTTPException
    from urllib.error import URLError
    from urllib.request import Request

    try:
        address, login = _split_login(url)
        sent = {"User-Agent": f"mauntic-jobs/{__version__}", **login, **headers}
        request = Request(address, body, sent, method=method)  # noqa: S310 - the opener knows HTTP alone
        with _opener(request.type).open(request, timeout=seconds) as response:
            status: int = response.status
            begun: bytes = response.read1(_ANSWER_BYTES) if read else b""
    except (URLError, HTTPException, OSError, ValueError) as error:
        cause = error.reason if isinstance(error, URLError) else error
        if isinstance(cause, TimeoutError):
            raise HttpError(f"no answer within {seconds:.1f} s") from None
        if isinstance(error, URLError):
            raise HttpError(f"cannot connect: {cause}") from None
        raise HttpError(f"the exchange broke off ({type(error).__name__})") from None
    if 300 <= status < 400:  # noqa: PLR2004 - what HTTP calls redirection
        raise HttpError(f"answered {status}, a redirect, which is not followed: set the address it leads to")
    if not 200 <= status < 300:  # noqa: PLR2004 - what HTTP calls success
        raise HttpError(f"answered {status}")
    return begun.decode(errors="replace")


def _opener(scheme: str) -> "OpenerDirector":
    """Return what opens HTTP addresses, over the proxy that the environment names; it follows no redirect."""
    from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, ProxyHandler, UnknownHandler

    opener = OpenerDirector()
    # Certificates take a moment to read.
    web = HTTPSHandler(context=machine_trust()) if scheme == "https" else HTTPHandler()
    for handler in (ProxyHandler(), UnknownHandler(), web):
        opener.add_handler(handler)
    return opener


def _split_login(url: str) -> tuple[str, dict[str, str]]:
    """Return an address in ASCII without the login in it, and the header that has it."""
    from urllib.parse import quote, unquote, urlsplit

    place = urlsplit(url)
    login, _, host = place.netloc.rpartition("@")
    safe = place._replace(
        netloc=host, path=quote(place.path, safe=_LITERAL), query=quote(place.query, safe=_LITERAL), fragment=""
    )
    if not login:
        return safe.geturl(), {}
    encoded = b64encode(unquote(login).encode()).decode()
    return safe.geturl(), {"Authorization": f"Basic {encoded}"}
