"""Addresses of stores as other tools write them."""

from typing import Any
from urllib.parse import urlsplit

import pytest

from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.errors import ConfigurationError, ExitCode
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.settings.sources import load
from mauntic_jobs.stores.postgres.connection import database_url
from mauntic_jobs.stores.redis.client import checked_url
from tests.support import run_program
from tests.world.corpus import Case, each_case

_FIELDS = {"DATABASE_URL": "database_url", "REDIS_URL": "redis_url"}
_READ = {"DATABASE_URL": database_url, "REDIS_URL": checked_url}


@each_case("store_urls")
def test_an_address_is_read_or_refused_by_name(case: Case) -> None:
    said: list[str] = []
    setting = case.input["setting"]
    given = {_FIELDS[setting]: case.input["text"]}
    if "refused" in case.answer:
        with pytest.raises(ConfigurationError) as raised:
            load(given, log=said.append)
        assert case.answer["refused"] in str(raised.value)
        assert str(raised.value).startswith(setting)
        assert "secret" not in str(raised.value)
        return
    settings, _ = load(given, log=said.append)
    assert _READ[setting](settings) == case.answer["url"]
    assert len(said) == bool(case.answer["ignored"])
    assert all(name in said[0] for name in case.answer["ignored"])
    assert "secret" not in "".join(said)


def test_commands_work_with_what_other_tools_write(direct_settings: Settings, servers: Servers) -> None:
    assert direct_settings.database_url
    url = direct_settings.database_url.get_secret_value()
    stores: Any = {
        "DATABASE_URL": f'"{url}?schema=public&pgbouncer=true&connection_limit=1"\n',
        "REDIS_URL": f"'{servers.redis_url}?family=0&maxRetriesPerRequest=null'\n",
    }
    for arguments in (("runs", "list"), ("status",), ("deliver", "--drain"), ("schedule", "list"), ("dlq", "list")):
        done = run_program(*arguments, **stores)
        assert done.returncode == ExitCode.DONE, done.stderr
        ignored = [line for line in done.stderr.splitlines() if "ignored" in line]
        assert len(ignored) == len(stores), done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("setting", "parameter"), [("DATABASE_URL", "nonsense"), ("REDIS_URL", "nonsense"), ("REDIS_URL", "keyPrefix")]
)
def test_an_unknown_parameter_exits_78_by_its_name(
    direct_settings: Settings, servers: Servers, setting: str, parameter: str
) -> None:
    assert direct_settings.database_url
    stores: Any = {"DATABASE_URL": direct_settings.database_url.get_secret_value(), "REDIS_URL": servers.redis_url}
    stores[setting] += f"?{parameter}=x"
    password = urlsplit(stores[setting]).password
    for arguments in (("status",), ("deliver", "--drain"), ("doctor",)):
        done = run_program(*arguments, **stores)
        assert done.returncode in (ExitCode.CONFIGURATION, ExitCode.FAILED), done.stderr
        assert parameter in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        assert password
        assert password not in done.stdout + done.stderr
