"""A tenant's own SMTP server."""

from dataclasses import replace

from mauntic_jobs.delivery.addresses import AddressError, parse_address
from mauntic_jobs.delivery.mime import Email, Mime, build
from mauntic_jobs.delivery.network import Network
from mauntic_jobs.delivery.outcome import Outcome, Verdict
from mauntic_jobs.delivery.providers.config import ProviderConfig, ProviderError
from mauntic_jobs.delivery.providers.idle import IdleConnections
from mauntic_jobs.delivery.providers.keys import flag, problems
from mauntic_jobs.delivery.smtp import SmtpConnection
from mauntic_jobs.delivery.smtp_login import Features, SmtpServer

_DEFAULT_PORT = 587
_TLS_PORT = 465


class SmtpProvider:
    """Sends emails over kept connections, as many as are sent at once. `idle` are those of the whole process."""

    def __init__(
        self, config: ProviderConfig, network: Network, *, hello: str, timeout: float, idle: IdleConnections
    ) -> None:
        self.config = config
        self.sender = _sender(config)
        self._server = _server(config, hello)
        self._network = network
        self._timeout = timeout
        self._idle = idle
        self._busy: set[SmtpConnection] = set()
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
            if self._closed:
                await connection.close()
            else:
                self._idle.put(self, connection)
        # Webhooks name an email by its Message-ID: a server's queue id is not known outside of it.
        return (
            replace(outcome, provider_message_id=message.message_id) if outcome.verdict is Verdict.ACCEPTED else outcome
        )

    async def check(self) -> Outcome:
        """Connect and log in, without sending anything."""
        connection = self._connection()
        try:
            return await connection.check()
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
    server = _server(config, "")
    return server.host, server.port


def _server(config: ProviderConfig, hello: str) -> SmtpServer:
    """Return where and how to log in, by the keys of nodemailer. Raises ProviderError."""
    host = (config.text("host") or "").strip()
    wrong = problems(config.type, config.values)
    if wrong:
        raise ProviderError(f"{config.name}: {', '.join(wrong)}")
    given = int(config.text("port") or 0)
    # As in nodemailer, the port for TLS from the first byte means that, unless the configuration says otherwise.
    secure = bool(flag(config.values.get("secure"))) or (config.values.get("secure") is None and given == _TLS_PORT)
    auth, tls = config.values.get("auth"), config.values.get("tls")
    login = ProviderConfig(config.id, config.type, auth) if isinstance(auth, dict) else config
    tls = ProviderConfig(config.id, config.type, tls if isinstance(tls, dict) else {})
    return SmtpServer(
        host,
        given or (_TLS_PORT if secure else _DEFAULT_PORT),
        secure,
        config.text("username") or login.text("user"),
        config.text("password") or login.text("pass"),
        hello=config.text("name") or hello,
        require_tls=bool(flag(config.values.get("requireTLS"))),
        ignore_tls=bool(flag(config.values.get("ignoreTLS"))),
        verify=flag(tls.values.get("rejectUnauthorized", True)) is not False,
        tls_name=tls.text("servername"),
    )
