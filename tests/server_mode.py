"""Other servers for the tests: Debian's Postgres 15, set as no code of ours expects.

`MAUNTIC_TEST_SERVER=15` runs the integration tests on it, `MAUNTIC_TEST_SERVER=hostile` on the embedded server with the
same settings. `MAUNTIC_TEST_REDIS=cluster` runs them on a Valkey cluster of three nodes, for tests whose queues have a
hash tag.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from mauntic_jobs.embedded.binaries import Binaries, locate
from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect

MODE = os.environ.get("MAUNTIC_TEST_SERVER", "")
# Whether Redis is a cluster of three nodes.
IN_CLUSTER = os.environ.get("MAUNTIC_TEST_REDIS", "") == "cluster"

_DEBIAN = Path("/usr/lib/postgresql/15/bin")
# Version 15 has no locale provider of its own.
_INITDB = f"""#!/bin/sh
for argument; do
    shift
    case "$argument" in
        --locale-provider=builtin | --locale=C) ;;
        --builtin-locale=*) set -- "$@" --locale=C.UTF-8 ;;
        *) set -- "$@" "$argument" ;;
    esac
done
exec {_DEBIAN}/initdb "$@"
"""
# The client's part of a login takes as long as a dozen statements otherwise.
_QUICK_LOGIN = {"scram_iterations": "1"}
_HOSTILE = {
    "timezone": "Asia/Kolkata",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "default_transaction_isolation": "serializable",
}


def settings() -> Mapping[str, str]:
    """Return the settings of the servers of this mode."""
    return (_HOSTILE if MODE else {}) | ({} if MODE == "15" else _QUICK_LOGIN)


def hash_password_anew(servers: Servers) -> None:
    """Store the password again, which was hashed before the server had its settings."""
    url = urlsplit(servers.database_url)
    with connect(Settings(database_url=servers.database_url)) as session:
        session.execute(f"ALTER ROLE {url.username} PASSWORD '{url.password}'".encode())


def programs(directory: Path) -> Binaries:
    """Return the programs of this mode; what has to be written goes to `directory`, which all can read."""
    found = locate()
    if MODE != "15":
        return found
    assert (_DEBIAN / "postgres").is_file(), "apt-get install postgresql-15"
    initdb = directory / "initdb"
    initdb.write_text(_INITDB)
    initdb.chmod(0o755)
    return replace(found, initdb=initdb, postgres=_DEBIAN / "postgres")
