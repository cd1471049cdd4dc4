"""Servers that a Postfix asks: one for passwords, by the protocol of Dovecot's, and one that greylists."""

import base64
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

LOGIN = {"username": "acme", "password": "not-a-real-one"}
_HELLO = (
    "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\nSPID\t1\nCUID\t1\n"
    "COOKIE\t00000000000000000000000000000000\nDONE\n"
)


class _Passwords(socketserver.StreamRequestHandler):
    """Takes LOGIN over the mechanisms PLAIN and LOGIN."""

    def handle(self) -> None:
        self.wfile.write(_HELLO.encode())
        given: list[str] = []
        for line in self.rfile:
            words = line.decode().rstrip("\n").split("\t")
            if words[0] == "AUTH":
                given = []
                response = next((each[len("resp=") :] for each in words if each.startswith("resp=")), "")
                if words[2] == "PLAIN":
                    self._answer(words[1], _decoded(response).split("\0")[1:])
                else:
                    self._ask(words[1], "Username:")
            elif words[0] == "CONT":
                given.append(_decoded(words[2]))
                if len(given) == 1:
                    self._ask(words[1], "Password:")
                else:
                    self._answer(words[1], given)

    def _ask(self, request: str, prompt: str) -> None:
        self.wfile.write(f"CONT\t{request}\t{base64.b64encode(prompt.encode()).decode()}\n".encode())

    def _answer(self, request: str, given: list[str]) -> None:
        verdict = "OK" if given == list(LOGIN.values()) else "FAIL"
        self.wfile.write(f"{verdict}\t{request}\tuser={given[0]}\n".encode())


class _Greylist(socketserver.StreamRequestHandler):
    """Defers each recipient once, by the protocol of Postfix's policy servers."""

    known: set[str]

    def handle(self) -> None:
        asked: dict[str, str] = {}
        for line in self.rfile:
            name, _, value = line.decode().rstrip("\n").partition("=")
            if name:
                asked[name] = value
                continue
            action = "DUNNO" if asked["recipient"] in self.known else "451 4.7.1 Greylisted for 300 seconds"
            self.known.add(asked["recipient"])
            self.wfile.write(f"action={action}\n\n".encode())


@contextmanager
def running_passwords() -> Iterator[int]:
    """Run a server that knows LOGIN, and yield its port."""
    with _running(_Passwords) as port:
        yield port


@contextmanager
def running_greylist() -> Iterator[int]:
    """Run a server that defers each recipient once, and yield its port."""
    with _running(type("Greylist", (_Greylist,), {"known": set()})) as port:
        yield port


@contextmanager
def _running(handler: type[socketserver.StreamRequestHandler]) -> Iterator[int]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads, server.block_on_close = True, False
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()
