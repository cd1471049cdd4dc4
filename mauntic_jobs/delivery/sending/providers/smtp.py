"""A tenant's own SMTP server."""

from dataclasses import replace
from pathlib import Path

from mauntic_jobs.delivery.addresses import AddressError, parse_address
from mauntic_jobs.delivery.render.mime import Email, Mime, build
from mauntic_jobs.delivery.sending.allowed_networks import Network
from mauntic_jobs.delivery.sending.outcome import Blame, Outcome, Verdict
from mauntic_jobs.delivery.sending.providers.config import ProviderConfig, ProviderError
from mauntic_jobs.delivery.sending.providers.flags import flag
from mauntic_jobs.delivery.sending.providers.idle import IdleConnections
from mauntic_jobs.delivery.sending.providers.keys import problems
from mauntic_jobs.delivery.sending.smtp.connection import SmtpConnection
from mauntic_jobs.delivery.sending.smtp.login import Features, SmtpServer
from mauntic_jobs.delivery.sending.smtp.tls import tls_of

_DEFAULT_PORT = 587
_TLS_PORT = 465
# The domain is reserved (RFC 2606) and takes no mail: a server that verifies recipients has no host to ask there, and a
# relay takes it from those who may relay.
CHECK_RECIPIENT = "postmaster@example.com"


class SmtpProvider:
    """Sends emails over kept connections, as many as are sent at once. `idle` are those of the whole process."""

    def __init__(
        self,
        config: ProviderConfig,
        network: Network,
        *,
        timeout: float,
        idle: IdleConnections,
        hello: str | None = None,
        ca_file: Path | None = None,
    ) -> None:
        self.config = config
        self.sender = _sender(config)
        self._server = _server(config, hello, ca_file)
        self._network = network
        self._timeout = timeout
        self._idle = idle
        self._busy: set[SmtpConnection] = set()
        self.most: int | None = None
        self._closed = False

    async def send(self, message: Email) -> Outcome:
        """Send an email; what the server or the network does is in the outcome. Raises HeaderError."""
        connection = self._idle.take(self) or self._connection()
        self._busy.add(connection)

        def compose(features: Features) -> Mime:
            return build(message, eight_bit=features.eight_bit)

        try:
            outcome = await connection.send(message.sender.spec, message.recipient.spec, compose)
        finally:
            self._busy.discard(connection)
            if self._closed or connection.is_worn or self._is_full or not connection.is_open:
                await connection.close()
            else:
                self._idle.put(self, connection)
        # Webhooks name an email by its Message-ID: a server's queue id is not known outside of it.
        if outcome.verdict is not Verdict.ACCEPTED:
            return outcome
        return Outcome(Verdict.ACCEPTED, outcome.reason, message.message_id, queue_id=outcome.queue_id)

    @property
    def opened(self) -> int:
        """Number of open connections, idle and in use."""
        return self._idle.count(self) + sum(each.is_open for each in self._busy)

    def limit(self, most: int | None) -> None:
        """Have no more connections than that from now on."""
        if most is not None and (self.most is None or most < self.most):
            self._idle.trim(self, most)
        self.most = most

    @property
    def _is_full(self) -> bool:
        return self.most is not None and self.opened >= self.most

    async def check(self) -> Outcome:
        """Log in, and ask whether the server would take a message, without sending one."""
        connection = self._connection()
        sender = parse_address(self.sender).spec if self.sender else None
        try:
            outcome = await connection.check(sender, CHECK_RECIPIENT)
            if outcome.blame is Blame.SENDER and self._server.username is None:
                return replace(outcome, reason=f"{outcome.reason}. It has no login: set username and password")
            return outcome
        finally:
            await connection.close()

    def abort(self) -> None:
        """End all exchanges now."""
        for connection in self._busy:
            connection.abort()

    async def close(self) -> None:
        """Close the connections that are not in use now, and the others when they are done."""
        self._closed = True
        await self._idle.close(self)

    def _connection(self) -> SmtpConnection:
        return SmtpConnection(self._server, self._network, timeout=self._timeout)


def _sender(config: ProviderConfig) -> str | None:
    sender = config.text("from")
    if sender is not None:
        try:
            parse_address(sender)
        except AddressError as error:
            raise ProviderError(f"{config.name}: from: {error}") from None
    return sender


def host_and_port(config: ProviderConfig) -> tuple[str, int]:
    """Return where the server of a configuration is. Raises ProviderError."""
    server = _server(config, None, None)
    return server.host, server.port


def _server(config: ProviderConfig, hello: str | None, ca_file: Path | None) -> SmtpServer:
    """Return where and how to log in, by the keys of nodemailer. Raises ProviderError."""
    host = (config.text("host") or "").strip()
    wrong = problems(config.type, config.values)
    if wrong:
        raise ProviderError(f"{config.name}: {', '.join(wrong)}")
    given = int(config.text("port") or 0)
    # As in nodemailer, the port for TLS from the first byte means that, unless the configuration says otherwise.
    secure = bool(flag(config.values.get("secure"))) or (config.values.get("secure") is None and given == _TLS_PORT)
    auth = config.values.get("auth")
    login = ProviderConfig(config.id, config.type, auth) if isinstance(auth, dict) else config
    tls = tls_of(config.values)
    return SmtpServer(
        host,
        given or (_TLS_PORT if secure else _DEFAULT_PORT),
        secure,
        config.text("username") or login.text("user"),
        config.text("password") or login.text("pass"),
        hello=config.text("name") or hello,
        require_tls=bool(flag(config.values.get("requireTLS"))),
        ignore_tls=bool(flag(config.values.get("ignoreTLS"))),
        tls=tls if tls.ca else replace(tls, ca_file=ca_file),
    )
