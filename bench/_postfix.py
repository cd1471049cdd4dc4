"""A Postfix that takes every message into its queue on the disk, and discards it from there: a relay of one's own.

It has Debian's defaults but for names, places and the last step. Needs root, which Postfix itself does.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MAIN = """
compatibility_level = 3.6
queue_directory = {base}/queue
data_directory = {base}/data
maillog_file = {base}/mail.log
maillog_file_prefixes = /var
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = relay.example.net
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
default_transport = discard:
disable_dns_lookups = yes
smtpd_peername_lookup = no
"""
_MASTER = """
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
proxymap unix - - n - - proxymap
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
discard unix - - n - - discard
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""


def missing() -> str | None:
    """Return why there can be no Postfix here, None if there can."""
    if shutil.which("postfix") is None:
        return "there is no Postfix: install the package postfix"
    return "Postfix is only started by root" if os.geteuid() else None


@contextmanager
def postfix_command(port: int) -> Iterator[list[str]]:
    """Make an instance for a port, and yield the command that runs it; it is removed afterwards."""
    # Its processes run as a user of their own, which must be able to come here.
    base = Path(tempfile.mkdtemp(prefix="mauntic-bench-postfix-", dir="/var/tmp"))
    try:
        base.chmod(0o755)
        for name in ("etc", "queue", "data"):
            (base / name).mkdir()
        shutil.chown(base / "data", "postfix", "postfix")
        (base / "etc/main.cf").write_text(_MAIN.format(base=base))
        (base / "etc/master.cf").write_text(_MASTER.format(port=port))
        configuration = ["-c", str(base / "etc")]
        _output("postfix", *configuration, "check")
        yield [f"{_output('postconf', '-h', *configuration, 'daemon_directory').strip()}/master", *configuration, "-d"]
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
