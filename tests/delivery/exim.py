"""A real Exim with limits of its own, and a 421 at each step of a session that a test asks for."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mauntic_jobs.embedded import die_with_parent as children
from tests.delivery.postfix import ended_with_parent
from tests.delivery.postfix_services import LOGIN
from tests.support import wait_until

# Debian's packages of Exim and Postfix exclude each other: this one is only unpacked.
_UNPACKED = Path("/opt/exim4/usr/sbin/exim4")
_USER = "Debian-exim"
PER_CONNECTION = 7
_CONFIGURATION = """
primary_hostname = mx.example.net
exim_path = {program}
exim_user = {user}
exim_group = {user}
spool_directory = {base}/spool
log_file_path = {base}/log/%slog
pid_file_path = {base}/exim.pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = {limited} : {secure} : {open}
tls_on_connect_ports = {secure}
smtp_accept_max_per_connection = {per_connection}
host_lookup =
rfc1413_query_timeout = 0s
keep_environment =
log_selector = +received_recipients
smtputf8_advertise_hosts = *
tls_advertise_hosts = *
tls_certificate = {base}/server.pem
tls_privatekey = {base}/server.pem
auth_advertise_hosts = ${{if eq{{$tls_in_cipher}}{{}}{{}}{{*}}}}
acl_smtp_rcpt = check
{acls}
begin acl
{refusals}
check:
  defer  condition = ${{if exists{{{base}/refuse/rcpt}}}}
         message = 421 4.3.2 mx.example.net is closing
  accept condition = ${{if exists{{{base}/refuse/late-rcpt}}}}
         delay = 6s
  accept condition = ${{if eq{{$received_port}}{{{open}}}}}
  accept condition = ${{if eq{{$received_port}}{{{secure}}}}}
         authenticated = *
  deny   condition = ${{if eq{{$received_port}}{{{secure}}}}}
         message = relay not permitted
  defer  message = Sender rate overlimit - $sender_rate / $sender_rate_period
         ratelimit = 3 / 5s / per_rcpt / leaky
  accept
begin routers
relayed:
  driver = manualroute
  domains = {relayed}
  route_list = * 127.0.0.1
  self = send
  transport = ${{if eq{{$received_port}}{{{secure}}}{{relaxed}}{{simple}}}}
hole:
  driver = redirect
  data = :blackhole:
begin transports
{transports}
begin authenticators
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = ${{if and{{{{eq{{$auth1}}{{{username}}}}}{{eq{{$auth2}}{{{password}}}}}}}}}
"""


# The steps of a session before which Exim runs an ACL; RCPT has the one above. `data` is the end of the content.
STEPS = ("connect", "helo", "starttls", "auth", "mail", "rcpt", "predata", "data")
# What is for this domain goes on to a second server, with a signature of DKIM.
RELAYED = "relayed.example.com"
_TRANSPORT = """
{canon}:
  driver = smtp
  port = {second}
  allow_localhost
  hosts_avoid_tls = *
  dkim_domain = {domain}
  dkim_selector = {canon}
  dkim_private_key = {base}/dkim.pem
  dkim_canon = {canon}
"""
_REFUSAL = """
{step}:
  defer  condition = ${{if exists{{{base}/refuse/{step}}}}}
         message = 421 4.3.2 mx.example.net is closing
  accept condition = ${{if exists{{{base}/refuse/late-{step}}}}}
         delay = 6s
  accept
"""


@dataclass(frozen=True)
class Exim:
    """A running one: `limited`, `secure` and `open` are its ports.

    `refusals` is a folder with a file for each step that it refuses with 421.
    """

    limited: int
    secure: int
    open: int
    log: Path
    refusals: Path

    @contextmanager
    def refusing(self, step: str) -> Iterator[None]:
        """Let it answer a step with 421, or answer `late-` and a step after 6 s."""
        flag = self.refusals / step
        flag.touch()
        try:
            yield
        finally:
            flag.unlink()

    def accepted(self) -> list[str]:
        """Return the recipients of what it has accepted, in order."""
        return re.findall(r" <= .* for (\S+)$", self.log.read_text(), re.MULTILINE) if self.log.exists() else []


@contextmanager
def running_exim(
    certificate: tuple[str, str], *, second: int = 25, signing: tuple[str, str] = ("acme.test", "")
) -> Iterator[Exim]:
    """Run one. Skips the test where Exim is not there or the tests are not run by root; in CI that fails it.

    `second` is the port of the server behind it; `signing` the domain and the private key of its signatures.
    """
    program = shutil.which("exim4") or (str(_UNPACKED) if _UNPACKED.exists() else None)
    if program is None or os.geteuid():
        reason = f"Exim is not installed or unpacked in {_UNPACKED.parents[2]}, or the tests are not run by root"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    base = Path(tempfile.mkdtemp(prefix="mauntic-exim-", dir="/var/tmp"))
    try:
        base.chmod(0o755)
        for name in ("spool", "log", "refuse"):
            (base / name).mkdir()
            shutil.chown(base / name, _USER, _USER)
        limited, secure, unlimited = (children.free_port() for _ in range(3))
        (base / "server.pem").write_text("".join(certificate))
        shutil.chown(base / "server.pem", _USER, _USER)
        ports = {"limited": limited, "secure": secure, "open": unlimited}
        (base / "dkim.pem").write_text(signing[1])
        shutil.chown(base / "dkim.pem", _USER, _USER)
        text = _configuration(base, program, {"second": second, "domain": signing[0]}, ports)
        (base / "exim.conf").write_text(text)
        command = (program, "-C", str(base / "exim.conf"), "-bdf")
        # It gives up root's rights, and with them the signal of its parent's death: a killed pytest leaves it behind.
        with (base / "start.log").open("wb") as output, ended_with_parent(command, output) as process:
            wait_until(lambda: (base / "exim.pid").exists() or process.poll() is not None, "Exim")
            yield Exim(limited, secure, unlimited, base / "log/mainlog", base / "refuse")
    finally:
        shutil.rmtree(base)


def _configuration(base: Path, program: str, signing: dict[str, Any], ports: dict[str, int]) -> str:
    steps = [step for step in STEPS if step != "rcpt"]
    return _CONFIGURATION.format(
        acls="\n".join(f"acl_smtp_{step} = {step}" for step in steps),
        refusals="".join(_REFUSAL.format(step=step, base=base) for step in steps),
        transports="".join(_TRANSPORT.format(canon=each, base=base, **signing) for each in ("simple", "relaxed")),
        base=base,
        relayed=RELAYED,
        program=program,
        user=_USER,
        per_connection=PER_CONNECTION,
        **ports,
        **LOGIN,
    )
