"""A real Postfix: one instance with a port for each configuration that tests ask for."""

import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from mauntic_jobs.embedded import die_with_parent as children
from tests.support import wait_until

_MAIN = """
compatibility_level = 3.6
queue_directory = {base}/queue
data_directory = {base}/data
maillog_file = {base}/log/mail.log
maillog_file_prefixes = /var
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mx.example.net
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
default_transport = discard:
relay_transport = discard:
disable_dns_lookups = yes
smtpd_peername_lookup = no
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_client_event_limit_exceptions =
anvil_rate_time_unit = 5s
postscreen_access_list =
smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:127.0.0.1:{passwords}
smtpd_tls_cert_file = {base}/tls/server.pem
smtpd_tls_key_file = {base}/tls/server.pem
smtpd_tls_CAfile = {base}/tls/ca.pem
postscreen_greet_wait = 1s
postscreen_pipelining_enable = yes
postscreen_non_smtp_command_enable = yes
postscreen_bare_newline_enable = yes
postscreen_upstream_proxy_timeout = 5s
"""
_MASTER = """
smtpd pass - - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
discard unix - - n - - discard
smtp unix - - n - - smtp
anvil unix - - n - 1 anvil
dnsblog unix - - n - 0 dnsblog
tlsproxy unix - - n - 0 tlsproxy
postlog unix-dgram n - n - 1 postlogd
"""


@dataclass(frozen=True)
class Postfix:
    """A running instance; `ports` are by the names of the configurations."""

    ports: Mapping[str, int]
    log: Path

    def delivered(self) -> list[str]:
        """Return the recipients of what it has accepted and passed on, in order."""
        return re.findall(r": to=<(.*?)>, .*status=sent", self.log.read_text()) if self.log.exists() else []

    def wait_for(self, count: int) -> list[str]:
        """Return the recipients once there are `count`."""
        wait_until(lambda: len(self.delivered()) >= count, f"{count} messages in the log of Postfix")
        return self.delivered()


@contextmanager
def running_postfix(
    certificate: tuple[str, str], authority: str, configurations: Mapping[str, Mapping[str, str]], passwords: int
) -> Iterator[Postfix]:
    """Run one with a port for each configuration, which is by the names of main.cf; `daemon` is smtpd or postscreen.
    `passwords` is the port of the server that knows them.

    Skips the test where Postfix is not installed, or is not run by root; in CI that fails it.
    """
    _require()
    # Its processes run as a user of their own, which must be able to come here.
    base = Path(tempfile.mkdtemp(prefix="mauntic-postfix-", dir="/var/tmp"))
    try:
        base.chmod(0o755)
        ports = {name: children.free_port() for name in configurations}
        _write(base, certificate, authority, passwords)
        services = [_service(ports[name], dict(options)) for name, options in configurations.items()]
        (base / "etc/master.cf").write_text("\n".join([*services, _MASTER]))
        configuration = ("-c", str(base / "etc"))
        _output("postfix", *configuration, "check")
        master = Path(_output("postconf", "-h", "daemon_directory").strip()) / "master"
        # Not by `postfix start`, which gives it a session of its own.
        command = (str(master), *configuration, "-d")
        with (base / "log/start.log").open("wb") as output, ended_with_parent(command, output) as process:
            wait_until(lambda: _listens(*ports.values()) or process.poll() is not None, "Postfix")
            yield Postfix(ports, base / "log/mail.log")
    finally:
        shutil.rmtree(base)


@contextmanager
def ended_with_parent(command: tuple[str, ...], output: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server of its own process group, which ends with the block, or with this process however that ends."""
    tied = ("setpriv", "--pdeathsig", "TERM", *command)
    with subprocess.Popen(tied, stdin=subprocess.DEVNULL, stdout=output, stderr=output, process_group=0) as process:
        try:
            yield process
        finally:
            process.terminate()


def _listens(*ports: int) -> bool:
    for port in ports:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return False
    return True


def _require() -> None:
    if shutil.which("postfix") is None or os.geteuid():
        reason = "Postfix is not installed, or the tests are not run by root: apt-get install postfix"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


def _write(base: Path, certificate: tuple[str, str], authority: str, passwords: int) -> None:
    for name in ("etc", "queue", "data", "log", "tls"):
        (base / name).mkdir()
    shutil.chown(base / "data", "postfix", "postfix")
    (base / "tls/server.pem").write_text("".join(reversed(certificate)))
    (base / "tls/ca.pem").write_text(authority)
    (base / "etc/main.cf").write_text(_MAIN.format(base=base, passwords=passwords))


def _service(port: int, options: dict[str, str]) -> str:
    daemon = options.pop("daemon", "smtpd")
    most = "1" if daemon == "postscreen" else "-"
    given = [f"  -o {{ {name} = {value} }}" for name, value in options.items()]
    return "\n".join([f"127.0.0.1:{port} inet n - n - {most} {daemon}", *given])


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout
