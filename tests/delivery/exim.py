"""A real Exim with limits of its own: recipients of a sender, and messages of a connection."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mauntic_jobs.embedded import children
from tests.delivery.postfix import ended_with_parent
from tests.delivery.postfix_services import LOGIN
from tests.support import wait_until

# Debian's packages of Exim and Postfix exclude each other: this one is only unpacked.
_UNPACKED = Path("/opt/exim4/usr/sbin/exim4")
_USER = "Debian-exim"
PER_CONNECTION = 7
_CONFIGURATION = """
primary_hostname = mx.example.net
exim_user = {user}
exim_group = {user}
spool_directory = {base}/spool
log_file_path = {base}/log/%slog
pid_file_path = {base}/exim.pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = {limited} : {secure}
tls_on_connect_ports = {secure}
smtp_accept_max_per_connection = {per_connection}
host_lookup =
rfc1413_query_timeout = 0s
keep_environment =
queue_only = true
log_selector = +received_recipients
smtputf8_advertise_hosts = *
tls_advertise_hosts = *
tls_certificate = {base}/server.pem
tls_privatekey = {base}/server.pem
auth_advertise_hosts = ${{if eq{{$tls_in_cipher}}{{}}{{}}{{*}}}}
acl_smtp_rcpt = check
begin acl
check:
  accept condition = ${{if eq{{$received_port}}{{{secure}}}}}
         authenticated = *
  deny   condition = ${{if eq{{$received_port}}{{{secure}}}}}
         message = relay not permitted
  defer  message = Sender rate overlimit - $sender_rate / $sender_rate_period
         ratelimit = 3 / 5s / per_rcpt / leaky
  accept
begin routers
hole:
  driver = redirect
  data = :blackhole:
begin authenticators
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = ${{if and{{{{eq{{$auth1}}{{{username}}}}}{{eq{{$auth2}}{{{password}}}}}}}}}
"""


@dataclass(frozen=True)
class Exim:
    """A running one: `limited` and `secure` are its ports."""

    limited: int
    secure: int
    log: Path

    def accepted(self) -> list[str]:
        """Return the recipients of what it has accepted, in order."""
        return re.findall(r" <= .* for (\S+)$", self.log.read_text(), re.MULTILINE) if self.log.exists() else []


@contextmanager
def running_exim(certificate: tuple[str, str]) -> Iterator[Exim]:
    """Run one. Skips the test where Exim is not there or the tests are not run by root; in CI that fails it."""
    program = shutil.which("exim4") or (str(_UNPACKED) if _UNPACKED.exists() else None)
    if program is None or os.geteuid():
        reason = f"Exim is not installed or unpacked in {_UNPACKED.parents[2]}, or the tests are not run by root"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    base = Path(tempfile.mkdtemp(prefix="mauntic-exim-", dir="/var/tmp"))
    try:
        base.chmod(0o755)
        for name in ("spool", "log"):
            (base / name).mkdir()
            shutil.chown(base / name, _USER, _USER)
        limited, secure = children.free_port(), children.free_port()
        (base / "server.pem").write_text("".join(certificate))
        shutil.chown(base / "server.pem", _USER, _USER)
        ports = {"limited": limited, "secure": secure}
        text = _CONFIGURATION.format(base=base, user=_USER, per_connection=PER_CONNECTION, **ports, **LOGIN)
        (base / "exim.conf").write_text(text)
        command = (program, "-C", str(base / "exim.conf"), "-bdf")
        # It gives up root's rights, and with them the signal of its parent's death: a killed pytest leaves it behind.
        with (base / "start.log").open("wb") as output, ended_with_parent(command, output) as process:
            wait_until(lambda: (base / "exim.pid").exists() or process.poll() is not None, "Exim")
            yield Exim(limited, secure, base / "log/mainlog")
    finally:
        shutil.rmtree(base)
