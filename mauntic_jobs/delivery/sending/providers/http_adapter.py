"""Base of providers over HTTP: an adapter makes requests from messages, and outcomes from answers."""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Generic, TypeVar

from mauntic_jobs.delivery.sending.outcome import Outcome, Verdict
from mauntic_jobs.delivery.sending.providers.config import ProviderConfig, hide
from mauntic_jobs.delivery.sending.providers.http import Answer, ExchangeError, Exchanges, HttpClient, HttpRequest

_MessageT = TypeVar("_MessageT")


class HttpProvider(ABC, Generic[_MessageT]):
    """A provider over HTTP. `base` is the address of its API, without a slash at its end."""

    def __init__(self, config: ProviderConfig, client: HttpClient, base: str) -> None:
        self.config = config
        self.sender = config.text("from")
        self._base = base
        self._exchanges = Exchanges(client)
        self._secrets = config.secrets

    async def send(self, message: _MessageT) -> Outcome:
        """Send one message; every failure of the provider is an Outcome. Raises ContentError."""
        return await self._made(message)

    async def check(self) -> Outcome:
        """Log in without sending anything; ACCEPTED if the provider takes the credentials."""
        return await self._made(None)

    def abort(self) -> None:
        """End all exchanges now."""
        self._exchanges.abort()

    async def close(self) -> None:
        """Let what is under way end: the connections are the process's."""
        return

    async def _made(self, message: _MessageT | None) -> Outcome:
        try:
            request = await (self._check() if message is None else self._request(message))
            answer = await self._exchanges.make(request)
        except ExchangeError as error:
            return error.outcome
        outcome = self._checked(answer) if message is None else self._judged(answer)
        if not outcome.reason:
            return outcome
        login = request.headers.get("authorization", "").rpartition(" ")[2]
        return replace(outcome, reason=hide(outcome.reason, (*self._secrets, login)))

    @abstractmethod
    async def _request(self, message: _MessageT) -> HttpRequest:
        """Return the request that sends a message."""

    @abstractmethod
    def _judged(self, answer: Answer) -> Outcome:
        """Return what an answer to it means."""

    @abstractmethod
    async def _check(self) -> HttpRequest:
        """Return a request that only the owner of the credentials may make."""

    def _checked(self, answer: Answer) -> Outcome:
        """Return what an answer to that means."""
        if answer.is_success:
            return Outcome(Verdict.ACCEPTED)
        return Outcome(Verdict.PROVIDER, f"{answer.status} {self._said(answer)}".strip())

    @abstractmethod
    def _said(self, answer: Answer) -> str:
        """Return the provider's own explanation, empty if it gives none."""
