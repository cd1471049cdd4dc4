"""Time zones of contacts as forms, CRMs and imports write them."""

from datetime import UTC, datetime

from mauntic_jobs.delivery.pipeline.quiet_hours import read_zone
from tests.world.corpus import Case, each_case

AT = datetime(2026, 11, 27, 12, tzinfo=UTC)


@each_case("time_zones")
def test_a_zone_is_read_as_it_was_meant_or_not_at_all(case: Case) -> None:
    zone = read_zone(case.input)
    offset = None if zone is None else AT.astimezone(zone).utcoffset()
    hours = None if offset is None else offset.total_seconds() / 3600
    assert hours == case.answer.get("hours")
