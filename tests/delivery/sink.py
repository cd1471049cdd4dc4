"""An SMTP server that journals every message before it answers for it, and misbehaves as its recipients are named.

`reject-550@any.example` is refused with 550, and so on: see SCRIPTS. What follows a plus is not looked at, so that
`reject-550+7@any.example` is refused too. Only the standard library is needed to run it as a program.
"""

import argparse
import asyncio
import base64
import binascii
import ipaddress
import json
import os
import re
import ssl
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

_AT_RCPT = {
    "reject-550": "550 5.1.1 no such user",
    "policy-550": "550 5.7.1 refused by policy",
    "relay-554": "554 5.7.1 <ann@example.com>: Relay access denied",
    "sender-550": "550 5.1.0 <news@acme.test>: Sender address rejected: Domain not found",
    "full-552": "552 5.2.2 mailbox full",
    "defer-451": "451 4.3.0 try again later",
    "shut-421": "421 4.3.2 shutting down",
}
_AFTER_DOT = {
    "data-451": "451 4.3.0 not now",
    "data-554": "554 5.6.0 content refused",
    "data-unverified-554": "554 Message rejected: Email address is not verified",
    "data-421": "421 4.3.2 shutting down",
}
SCRIPTS = frozenset({
    *_AT_RCPT,  # a reply to RCPT; 421 closes the connection
    *_AFTER_DOT,  # a reply to the content, which is not journaled
    "defer-once-451",  # 451 to the first RCPT of this address, and accepted from then on
    "drop-rcpt",  # closes at RCPT
    "drop-rcpt-once",  # the same at the first RCPT of this address in a new connection, and in all kept ones
    "drop-data",  # closes amid the content
    "drop-after-dot",  # journals and closes without a reply
    "drop-after-dot-once",  # the same with the first message to this address only
    "slow",  # journals and replies after `slow_seconds`
    "freeze",  # journals and never replies
})  # fmt: skip
_BYTES_BEFORE_DROP = 100
_LINGER_SECONDS = 1
_PATIENCE_SECONDS = 10
_PATH = re.compile(r'(?i:FROM|TO):\s*<((?:"(?:[^"\\]|\\.)*"|[^>"])*)>((?: \S+)*)\s*')

_T = TypeVar("_T")


class Received(NamedTuple):
    """A message that was accepted; its content is as before dots were stuffed into it."""

    message_id: str
    mail_from: str
    recipients: tuple[str, ...]
    content: bytes
    at: datetime


@dataclass
class Behaviour:
    """What the server does out of turn; every field may be set at any time and from any thread."""

    greeting: str = "220 sink ready"
    auth_reply: str | None = None
    mail_reply: str | None = None
    slow_seconds: float = 1.0
    per_connection: int | None = None  # how many messages a connection may carry; then MAIL is refused with 452
    closing: tuple[str, ...] = ("221", "421")  # replies that begin so end the connection
    recipients: dict[str, str] = field(default_factory=dict)  # scripts of local parts that do not name one
    heard: list[str] = field(default_factory=list)  # the verbs of all commands, in order
    open_connections: int = 0
    peak_connections: int = 0
    at_recipient: Callable[[str], str | None] = lambda _: None  # replies to RCPT of an address
    at_content: Callable[[bytes], str | None] = lambda _: None  # replies to a content, which is not journaled then


@dataclass(frozen=True)
class Options:
    """What the server is started with."""

    host: str = "127.0.0.1"
    port: int = 0
    pipelining: bool = True
    eight_bit_mime: bool = True
    smtputf8: bool = False
    size: int = 50_000_000
    fsync: bool = False
    tls: ssl.SSLContext | None = None  # STARTTLS is offered, and AUTH only after it
    login: tuple[str, str] | None = None  # the user and password without which MAIL is refused


@dataclass(frozen=True)
class Sink:
    """A server that runs in this process."""

    host: str
    port: int
    journal: Path
    behaviour: Behaviour

    def messages(self) -> list[Received]:
        """Return what was accepted until now, in order."""
        return read_journal(self.journal)


def read_journal(path: Path) -> list[Received]:
    """Read the messages of a journal; a last line that is not whole was never answered for, and is left out."""
    if not path.exists():
        return []
    messages = []
    for line in path.read_bytes().split(b"\n")[:-1]:
        entry = json.loads(line)
        messages.append(
            Received(
                message_id=entry["message_id"],
                mail_from=entry["mail_from"],
                recipients=tuple(entry["recipients"]),
                content=entry["content"].encode("latin-1"),
                at=datetime.fromisoformat(entry["at"]),
            )
        )
    return messages


@contextmanager
def running_sink(directory: Path, **options: Any) -> Iterator[Sink]:
    """Run a server in a thread; `options` are the fields of Options, and the journal is in `directory`."""
    chosen, behaviour, journal = Options(**options), Behaviour(), directory / "journal.jsonl"
    server = _Server(journal, chosen, behaviour)
    with running_loop("sink") as run:
        port = run(server.start())
        try:
            yield Sink(chosen.host, port, journal, behaviour)
        finally:
            run(server.stop())


@contextmanager
def running_loop(name: str) -> Iterator[Callable[[Coroutine[Any, Any, _T]], _T]]:
    """Run an event loop in a thread, and yield what runs a coroutine in it and returns its result."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name=name, daemon=True)
    thread.start()

    def run(coroutine: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(_PATIENCE_SECONDS)

    try:
        yield run
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_PATIENCE_SECONDS)
        loop.close()


def in_tasks(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]],
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
    """Serve each connection in a task. One that asyncio makes itself logs an error when it is cancelled."""
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        task.add_done_callback(lambda _: writer.transport.abort())  # it may be cancelled before it begins

    return connected


async def cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel these tasks, and wait until they have ended."""
    ending = set(tasks)
    for task in ending:
        task.cancel()
    if ending:
        await asyncio.wait(ending)


async def cancel_others() -> None:
    """Cancel whatever else the loop has to do."""
    await cancel(task for task in asyncio.all_tasks() if task is not asyncio.current_task())


async def end_server(server: asyncio.Server) -> None:
    """Close a server and all its connections.

    A connection that was accepted already must begin before the server is closed, or nothing closes its socket.
    """
    for listening in server.sockets:
        asyncio.get_running_loop().remove_reader(listening.fileno())
    await _run_what_is_ready()
    server.close()
    await cancel_others()
    await _run_what_is_ready()


async def _run_what_is_ready() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def close(writer: asyncio.StreamWriter) -> None:
    """Close a connection, within a while even when its other end does not read."""
    writer.close()
    try:
        with suppress(OSError):  # TimeoutError is one
            async with asyncio.timeout(_LINGER_SECONDS):
                await writer.wait_closed()
    finally:
        writer.transport.abort()


def certificate(directory: Path) -> Path:
    """Make a certificate of 127.0.0.1 and localhost, signed by itself, and return the file with it and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sink")])
    now = datetime.now(UTC)
    addresses = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = directory / "certificate.pem"
    path.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    return path


def server_tls(pem: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


class _Gone(Exception):  # noqa: N818 - it is no error
    """The connection is over."""


class _Journal:
    """Lines of JSON, of which each is in the file before `add` returns."""

    def __init__(self, path: Path, *, fsync: bool) -> None:
        self._fsync = fsync
        self._file = path.open("ab")
        # A server that was killed in mid-write left a piece of a line, which the next must not be appended to.
        self._file.truncate(path.read_bytes().rfind(b"\n") + 1)

    def add(self, mail_from: str, recipients: list[str], content: bytes) -> None:
        entry = {
            "message_id": str(BytesHeaderParser().parsebytes(content).get("Message-ID", "")).strip(),
            "mail_from": mail_from,
            "recipients": recipients,
            "content": content.decode("latin-1"),
            "at": datetime.now(UTC).isoformat(),
        }
        self._file.write(json.dumps(entry).encode() + b"\n")
        self._file.flush()
        if self._fsync:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


class _Server:
    """The listening socket, and what its connections share."""

    def __init__(self, journal: Path, options: Options, behaviour: Behaviour) -> None:
        self.options = options
        self.behaviour = behaviour
        self.journal = _Journal(journal, fsync=options.fsync)
        self._met: set[tuple[str | None, str]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Listen, and return the port."""
        self._server = await asyncio.start_server(in_tasks(self._serve), self.options.host, self.options.port)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        if self._server is not None:
            await end_server(self._server)
        self.journal.close()

    def script(self, address: str) -> str | None:
        """Return what is to be done with a recipient, if that is anything out of turn."""
        local = address.rpartition("@")[0].partition("+")[0].lower()
        script = self.behaviour.recipients.get(local, local)
        return script if script in SCRIPTS else None

    def first(self, script: str | None, address: str) -> bool:
        """Tell whether the script meets the address for the first time."""
        new = (script, address) not in self._met
        self._met.add((script, address))
        return new

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.behaviour.open_connections += 1
        self.behaviour.peak_connections = max(self.behaviour.peak_connections, self.behaviour.open_connections)
        try:
            with suppress(_Gone, ConnectionError, ssl.SSLError):
                await _Session(self, reader, writer).run()
        finally:
            self.behaviour.open_connections -= 1
            await close(writer)


class _Session:
    """One connection."""

    def __init__(self, server: _Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._options = server.options
        self._behaviour = server.behaviour
        self._reader = reader
        self._writer = writer
        self._buffer = bytearray()
        self._welcome = True
        self._secure = False
        self._authenticated = False
        self._carried, self._transactions = 0, 0
        self._mail_from: str | None = None
        self._utf8 = False
        self._recipients: list[str] = []
        self._commands: dict[str, Callable[[str], Awaitable[str]]] = {
            "EHLO": self._ehlo,
            "HELO": self._helo,
            "STARTTLS": self._starttls,
            "AUTH": self._auth,
            "MAIL": self._mail,
            "RCPT": self._rcpt,
            "DATA": self._data,
            "RSET": self._rset,
            "NOOP": self._noop,
            "QUIT": self._quit,
        }

    async def run(self) -> None:
        greeting = self._behaviour.greeting
        self._welcome = greeting.startswith("2")
        await self._reply(greeting)
        while True:
            line = await self._line()
            if self._buffer and not self._options.pipelining:
                await self._reply("421 4.7.0 improper pipelining")
            verb, _, rest = line.decode(errors="surrogateescape").partition(" ")
            await self._reply(await self._answer(verb.upper(), rest))

    async def _answer(self, verb: str, rest: str) -> str:
        self._behaviour.heard.append(verb)
        if not self._welcome and verb != "QUIT":
            return "503 5.5.1 not welcome"
        command = self._commands.get(verb)
        return await command(rest) if command else "500 5.5.2 unknown command"

    async def _ehlo(self, _: str) -> str:
        self._forget()
        options = self._options
        announced = {
            "PIPELINING": options.pipelining,
            "8BITMIME": options.eight_bit_mime,
            "SMTPUTF8": options.smtputf8,
            "STARTTLS": options.tls is not None and not self._secure,
            "AUTH PLAIN LOGIN": self._may_authenticate(),
            "ENHANCEDSTATUSCODES": True,
        }
        lines = ["sink", *(name for name, given in announced.items() if given)]
        return "".join(f"250-{line}\r\n" for line in lines) + f"250 SIZE {options.size}"

    async def _helo(self, _: str) -> str:
        self._forget()
        return "250 sink"

    async def _starttls(self, _: str) -> str:
        if self._options.tls is None or self._secure:
            return "503 5.5.1 TLS is not offered"
        await self._reply("220 2.0.0 go ahead")
        self._buffer.clear()
        await self._writer.start_tls(self._options.tls)
        self._secure = True
        self._forget()
        return ""

    async def _auth(self, rest: str) -> str:
        if not self._may_authenticate():
            return "503 5.5.1 AUTH is not offered"
        mechanism, _, initial = rest.partition(" ")
        try:
            match mechanism.upper():
                case "PLAIN":
                    given = _decoded(initial or await self._ask("")).split("\0")[1:]
                case "LOGIN":
                    given = [_decoded(initial or await self._ask("Username:"))]
                    given.append(_decoded(await self._ask("Password:")))
                case _:
                    return "504 5.5.4 unknown mechanism"
        except ValueError:
            return "501 5.5.2 not base64"
        right = self._options.login is not None and given == list(self._options.login)
        verdict = self._behaviour.auth_reply or ("235 2.7.0 welcome" if right else "535 5.7.8 wrong credentials")
        self._authenticated = verdict.startswith("2")
        return verdict

    async def _mail(self, rest: str) -> str:
        if self._options.login and not self._authenticated:
            return "530 5.7.0 authentication required"
        path = _PATH.fullmatch(rest)
        if path is None or self._mail_from is not None:
            return "501 5.5.4 syntax" if path is None else "503 5.5.1 nested MAIL"
        address, parameters = path[1], [parameter.upper() for parameter in path[2].split()]
        refusal = self._refused_parameters(parameters) or self._behaviour.mail_reply
        if self._behaviour.per_connection is not None and self._carried >= self._behaviour.per_connection:
            refusal = "452 4.5.3 too many messages in this connection"
        self._utf8 = "SMTPUTF8" in parameters
        refusal = refusal or self._refused_address(address)
        if refusal and not refusal.startswith("2"):
            return refusal
        self._mail_from = address
        self._transactions += 1
        return refusal or "250 2.1.0 sender ok"

    async def _rcpt(self, rest: str) -> str:
        path = _PATH.fullmatch(rest)
        if path is None or self._mail_from is None:
            return "501 5.5.4 syntax" if path is None else "503 5.5.1 MAIL first"
        address = path[1]
        script = self._server.script(address)
        is_kept = self._transactions > 1
        if script == "drop-rcpt" or (script == "drop-rcpt-once" and (is_kept or self._server.first(script, address))):
            raise _Gone
        if script == "defer-once-451" and self._server.first(script, address):
            return _AT_RCPT["defer-451"]
        refusal = _AT_RCPT.get(script or "") or self._refused_address(address) or self._behaviour.at_recipient(address)
        if refusal:
            return refusal
        self._recipients.append(address)
        return "250 2.1.5 recipient ok"

    async def _data(self, _: str) -> str:
        if not self._recipients:
            return "503 5.5.1 no recipients"
        scripts = [self._server.script(address) for address in self._recipients]
        await self._reply("354 go ahead")
        if "drop-data" in scripts:
            while len(self._buffer) < _BYTES_BEFORE_DROP and b"\r\n.\r\n" not in self._buffer:
                await self._fill()
            raise _Gone
        content = await self._content()
        refusal = self._refused_content(content, scripts) or self._behaviour.at_content(content)
        if refusal:
            self._forget()
            return refusal
        self._server.journal.add(self._mail_from or "", self._recipients, content)
        self._carried += 1
        new = [self._server.first(script, address) for script, address in zip(scripts, self._recipients, strict=True)]
        if "drop-after-dot" in scripts or ("drop-after-dot-once", True) in zip(scripts, new, strict=True):
            raise _Gone
        if "freeze" in scripts:
            await self._read_to_end()
            raise _Gone
        if "slow" in scripts:
            await asyncio.sleep(self._behaviour.slow_seconds)
        self._forget()
        return "250 2.0.0 accepted"

    async def _rset(self, _: str) -> str:
        self._forget()
        return "250 2.0.0 forgotten"

    async def _noop(self, _: str) -> str:
        return "250 2.0.0 nothing done"

    async def _quit(self, _: str) -> str:
        return "221 2.0.0 bye"

    def _may_authenticate(self) -> bool:
        return self._options.login is not None and (self._options.tls is None or self._secure)

    def _refused_parameters(self, parameters: list[str]) -> str | None:
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name == "SIZE" and value.isdecimal():
                if int(value) > self._options.size:
                    return "552 5.3.4 too big"
            elif not {"BODY": self._options.eight_bit_mime, "SMTPUTF8": self._options.smtputf8}.get(name):
                return f"555 5.5.4 {name} is not supported"
        return None

    def _refused_address(self, address: str) -> str | None:
        return None if address.isascii() or self._utf8 else "553 5.6.7 SMTPUTF8 is needed"

    def _refused_content(self, content: bytes, scripts: list[str | None]) -> str | None:
        if len(content) > self._options.size:
            return "552 5.3.4 too big"
        if not content.isascii() and not self._options.eight_bit_mime:
            return "554 5.6.1 8-bit content is not supported"
        return next((_AFTER_DOT[script] for script in scripts if script in _AFTER_DOT), None)

    def _forget(self) -> None:
        self._mail_from, self._utf8 = None, False
        self._recipients = []

    async def _content(self) -> bytes:
        """Read up to the line that is only a dot, and take away the dots that were put before dots."""
        lines = []
        while (line := await self._line()) != b".":
            lines.append(line.removeprefix(b".") + b"\r\n")
        return b"".join(lines)

    async def _ask(self, prompt: str) -> str:
        await self._reply(f"334 {base64.b64encode(prompt.encode()).decode()}")
        return (await self._line()).decode("latin-1")

    async def _line(self) -> bytes:
        """Read a line; a bare CR or LF does not end it."""
        while (end := self._buffer.find(b"\r\n")) < 0:
            await self._fill()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    async def _fill(self) -> None:
        chunk = await self._reader.read(65536)
        if not chunk:
            raise _Gone
        self._buffer += chunk

    async def _read_to_end(self) -> None:
        while await self._reader.read(65536):
            pass

    async def _reply(self, text: str) -> None:
        if not text:
            return
        self._writer.write(text.encode(errors="surrogateescape") + b"\r\n")
        await self._writer.drain()
        if not text.startswith(self._behaviour.closing):
            return
        # What came in unread would reset the connection, and with it take the reply from the client.
        if self._writer.can_write_eof():
            with suppress(TimeoutError, OSError):
                self._writer.write_eof()
                async with asyncio.timeout(_LINGER_SECONDS):
                    await self._read_to_end()
        raise _Gone


def _decoded(text: str) -> str:
    """Decode base64; what is not is a ValueError."""
    try:
        return base64.b64decode(text, validate=True).decode()
    except binascii.Error as error:
        raise ValueError(text) from error


async def _run(journal: Path, options: Options, behaviour: Behaviour) -> None:
    port = await _Server(journal, options, behaviour).start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


def _main() -> None:
    parser = argparse.ArgumentParser(description="Accept mail into a journal; print the port on the first line.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--no-pipelining", action="store_true")
    parser.add_argument("--no-8bitmime", action="store_true")
    parser.add_argument("--smtputf8", action="store_true")
    parser.add_argument("--fsync", action="store_true")
    parser.add_argument("--slow-seconds", type=float, default=1.0)
    given = parser.parse_args()
    options = Options(
        host=given.host,
        port=given.port,
        pipelining=not given.no_pipelining,
        eight_bit_mime=not given.no_8bitmime,
        smtputf8=given.smtputf8,
        fsync=given.fsync,
    )
    asyncio.run(_run(given.journal, options, Behaviour(slow_seconds=given.slow_seconds)))


if __name__ == "__main__":
    _main()
