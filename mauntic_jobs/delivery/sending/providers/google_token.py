"""Access tokens of a Google service account. Source: developers.google.com/identity/protocols/oauth2/service-account.

They are asked for at Google's own address, whatever the key says: the key is a tenant's.
"""

import asyncio
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from mauntic_jobs.delivery.sending.outcome import Verdict
from mauntic_jobs.delivery.sending.providers.config import ProviderConfig, ProviderError, hide
from mauntic_jobs.delivery.sending.providers.http import Answer, ExchangeError, Exchanges, HttpRequest, common_outcome
from mauntic_jobs.timekeeping import clock

TOKEN_URL = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address

_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_LIFETIME_SECONDS = 3600
# So early a token is renewed, while it still serves.
_EARLY_SECONDS = 300.0
# So long after a renewal failed, the next one is tried, as long as there is a token that serves.
_PAUSE_SECONDS = 15.0
# A message whose claim has been committed cannot wait for longer.
_PATIENCE_SECONDS = 10.0


class ServiceAccount:
    """A service account's key, read. It is not shown."""

    def __init__(self, config: ProviderConfig, name: str) -> None:
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        fields = _fields(config, name)
        key, self.email = fields.get("private_key"), fields.get("client_email")
        if fields.get("type") != "service_account" or not isinstance(key, str) or not isinstance(self.email, str):
            raise ProviderError(f"{config.name}: {name} is not the key of a service account")
        # Written by hand, the ends of its lines are often two characters.
        key = key.replace("\\n", "\n")
        self.secrets = [line for line in key.splitlines() if not line.startswith("-")]
        try:
            self._key: Any = load_pem_private_key(key.encode(), password=None)
            self._key_id = fields.get("private_key_id")
            self.assertion("")
        except Exception:  # noqa: BLE001 - whatever it is, it may repeat the key
            raise ProviderError(f"{config.name}: the private_key of {name} is not a private RSA key") from None

    def assertion(self, scope: str) -> str:
        """Return a signed request for a token: a JSON Web Token with RS256."""
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.hashes import SHA256

        now = int(clock.now().timestamp())
        head = {"typ": "JWT", "alg": "RS256"} | ({} if self._key_id is None else {"kid": self._key_id})
        claims = {"iss": self.email, "scope": scope, "aud": TOKEN_URL, "iat": now, "exp": now + _LIFETIME_SECONDS}
        signed = ".".join(_base64url(json.dumps(part).encode()) for part in (head, claims))
        return f"{signed}.{_base64url(self._key.sign(signed.encode(), PKCS1v15(), SHA256()))}"


class AccessTokens:
    """The access token of a service account, renewed before it ends; all who wait for one share one renewal."""

    def __init__(
        self,
        account: ServiceAccount,
        scope: str,
        exchanges: Exchanges,
        url: str,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._account = account
        self._scope = scope
        self._exchanges = exchanges
        self._url = url
        self._now = now
        self._token = ""
        self._ends = self._renew_at = 0.0
        self._renewal: asyncio.Task[ExchangeError | None] | None = None

    async def get(self) -> str:
        """Return a token that serves. Raises ExchangeError: nothing has been sent, and the provider cannot be used."""
        now = self._now()
        renewal = self._renewal
        if now >= min(self._renew_at, self._ends) and (renewal is None or renewal.done()):
            self._renewal = renewal = asyncio.create_task(self._renew())
        if now < self._ends or renewal is None:
            return self._token
        done, _ = await asyncio.wait({renewal}, timeout=_PATIENCE_SECONDS)
        if not done:
            raise ExchangeError(Verdict.PROVIDER, f"Google gives no access within {_PATIENCE_SECONDS:g} s")
        error = renewal.result()
        if error is not None:
            raise error
        return self._token

    def refuse(self, token: str) -> None:
        """Note that a token is not taken, whatever its time."""
        if token == self._token:
            self._ends = 0.0

    async def _renew(self) -> ExchangeError | None:
        """Ask for a token and keep it; return what is in the way."""
        self._renew_at = self._now() + _PAUSE_SECONDS
        content = urlencode({"grant_type": _GRANT, "assertion": self._account.assertion(self._scope)}).encode()
        headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
        try:
            answer = await self._exchanges.make(HttpRequest(self._url, headers, content))
        except ExchangeError as error:
            # However far that came, the message has not been sent.
            return ExchangeError(Verdict.PROVIDER, f"Google gives no access: {error}")
        fields, seconds = answer.fields(), answer.fields().get("expires_in")
        token = fields.get("access_token")
        if not answer.is_success or not isinstance(seconds, int | float):
            return self._refusal(answer)
        # It is to be part of a header.
        if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
            return self._refusal(answer)
        self._token, self._ends = token, self._now() + seconds
        self._renew_at = self._ends - min(_EARLY_SECONDS, seconds / 2)
        return None

    def _refusal(self, answer: Answer) -> ExchangeError:
        """Return what an answer without a token means: RFC 6749, 5.2."""
        fields = answer.fields()
        said = " ".join(str(fields[name]) for name in ("error", "error_description") if fields.get(name))
        said = hide(f"Google gives no access: {answer.status} {said}".strip(), self._account.secrets)
        common = common_outcome(answer, said)
        if common is not None and common.verdict is Verdict.RATE_LIMITED:
            return ExchangeError(Verdict.RATE_LIMITED, said, common.retry_after)
        return ExchangeError(Verdict.PROVIDER, said)


def _base64url(content: bytes) -> str:
    return urlsafe_b64encode(content).decode().rstrip("=")


def _fields(config: ProviderConfig, name: str) -> Mapping[str, object]:
    value = config.values.get(name)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise ProviderError(f"{config.name}: {name} is not JSON") from None
    if not isinstance(value, dict):
        raise ProviderError(f"{config.name}: it has no {name}, which is a JSON object")
    return value
