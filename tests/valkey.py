"""A Valkey of a test's own, which may be spoiled, or another server: `MAUNTIC_TEST_REDIS_SERVER` names its program."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis import Redis
from redis.exceptions import ConnectionError as NotYetError

from mauntic_jobs.embedded import binaries, die_with_parent as children, directories as home
from mauntic_jobs.embedded.servers import Servers
from tests.support import wait_until


@contextmanager
def valkey(servers: Servers, name: str, *lines: str) -> Iterator[str]:
    """Start another Valkey, and yield its address."""
    directory, account, port = servers.directory / name, home.server_account(), children.free_port()
    directory.mkdir(mode=0o700)
    if account:
        os.chown(directory, *account)
    config = "\n".join(("bind 127.0.0.1", f"port {port}", 'save ""', *lines)).encode()
    program = os.environ.get("MAUNTIC_TEST_REDIS_SERVER") or str(binaries.locate().valkey_server)
    command, log = [program, "-"], servers.directory / f"{name}.log"
    process = children.spawn(command, directory=directory, account=account, log=log, stdin=config)
    url = f"redis://127.0.0.1:{port}"
    with Redis.from_url(url) as client:
        wait_until(lambda: process.poll() is not None or _answers(client), name)
    assert process.poll() is None, children.log_tail(log)
    try:
        yield url
    finally:
        process.kill()
        process.wait()
        # A worker that has gone on to another module may come back to this one.
        shutil.rmtree(directory)


def _answers(client: Any) -> bool:
    try:
        return bool(client.ping())
    except NotYetError:
        return False
