import pytest

from mauntic_jobs.errors import UnavailableError
from mauntic_jobs.installation import Installation
from mauntic_jobs.settings.settings import Settings
from tests.support import utc

NOW = utc("2026-10-05T10:00")


def test_a_lost_connection_is_opened_again(settings: Settings) -> None:
    with Installation(settings, NOW) as installation:
        first = installation.session
        assert installation.session is first
        first.close()
        assert installation.session.rows(b"SELECT 1 AS one") == [{"one": 1}]
    assert installation._session is not None
    assert installation._session.broken


def test_a_store_that_is_not_asked_for_is_not_opened() -> None:
    nowhere = Settings(database_url="postgresql://127.0.0.1:1/none", redis_url="redis://127.0.0.1:1/0")
    with Installation(nowhere, NOW) as installation, pytest.raises(UnavailableError):
        installation.connect()
    with Installation(nowhere, NOW):
        pass
