"""Values that Python cannot hold cost their own column only, on both kinds of connection."""

import asyncio

from mauntic_jobs.job import Row
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.async_link import PostgresLink
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.stores.postgres.values import Unreadable, unreadable
from tests.world.corpus import Case, each_case

_QUERY = "SELECT {} AS value, 'well' AS other UNION ALL SELECT NULL, 'also'"


def _check(rows: list[Row], case: Case) -> None:
    assert rows == [{"value": Unreadable(case.answer), "other": "well"}, {"value": None, "other": "also"}]
    assert unreadable(rows[0]) == f"value {case.answer}"
    assert unreadable(rows[1]) is None


@each_case("unreadable_values")
def test_a_session_reads_the_rest_of_the_result(session: Session, case: Case) -> None:
    _check(session.rows(_QUERY.format(case.input).encode()), case)


@each_case("unreadable_values")
def test_an_asynchronous_link_reads_the_rest_of_the_result(settings: Settings, case: Case) -> None:
    async def read() -> list[Row]:
        link = PostgresLink(settings)
        try:
            return await link.rows(_QUERY.format(case.input).encode(), {})
        finally:
            await link.close()

    _check(asyncio.run(read()), case)
