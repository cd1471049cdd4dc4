"""Conditions of segments have the members that each of the two readings gives them."""

from typing import Any

from mauntic_jobs.segments.compiler import Compiler
from mauntic_jobs.segments.criteria import parse_criteria
from mauntic_jobs.segments.platform_compiler import PlatformCompiler
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.settings.types import SegmentReading
from mauntic_jobs.stores.postgres.session import Session, connect, json
from tests.support import organization
from tests.world.corpus import Case, each_case

_COMPILERS = {SegmentReading.STRICT: Compiler, SegmentReading.PLATFORM: PlatformCompiler}


def _is_member(session: Session, raw: Any, reading: SegmentReading) -> bool:
    compiler = _COMPILERS[reading]()
    condition = compiler.condition(parse_criteria(raw, reading)).as_bytes(None)
    return bool(session.rows(b"SELECT FROM crm.contacts AS contact WHERE " + condition, compiler.parameters))


@each_case("segment_readings")
def test_both_readings_of_a_condition(direct_settings: Settings, case: Case) -> None:
    contact = {"organization_id": organization(1), "custom_fields": None, **case.input["contact"]}
    if contact["custom_fields"] is not None:
        contact["custom_fields"] = json(contact["custom_fields"])
    places = ", ".join(f"%({name})s" for name in contact)
    raw = {"conditions": [case.input["condition"]]}
    with connect(direct_settings) as session:
        session.execute(f"INSERT INTO crm.contacts ({', '.join(contact)}) VALUES ({places})".encode(), contact)
        assert {reading.value: _is_member(session, raw, reading) for reading in SegmentReading} == case.answer
