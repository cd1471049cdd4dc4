"""Executions that wait, as the platform's editor and executor write them, are not stale."""

import json
from datetime import timedelta
from uuid import UUID

from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.window import naive
from tests.jobs.executions import NOW, Execution, canceled, clean, store
from tests.support import organization
from tests.world.corpus import Case, each_case

_STEP = UUID(int=77)


@each_case("waiting_executions")
def test_an_execution_that_waits_is_left_alone(settings: Settings, session: Session, case: Case) -> None:
    began = NOW - timedelta(hours=case.input["hours"])
    execution = Execution(1, began, _STEP)
    store(session, [execution])
    session.execute(
        b"INSERT INTO journey.journey_steps (id, journey_version_id, organization_id, type, config)"
        b" VALUES (%(step)s, gen_random_uuid(), %(organization)s, %(type)s, %(config)s::jsonb)",
        {
            "step": _STEP,
            "organization": organization(1),
            "type": case.input["type"],
            "config": json.dumps(case.input["config"]),
        },
    )
    session.execute(
        b"INSERT INTO journey.step_executions (execution_id, step_id, organization_id, status, started_at)"
        b" VALUES (%(execution)s, %(step)s, %(organization)s, %(status)s, %(at)s)",
        {
            "execution": execution.id,
            "step": _STEP,
            "organization": organization(1),
            "status": case.input["status"],
            "at": naive(began),
        },
    )
    clean(settings)
    assert canceled(session) == ({1} if case.answer == "stale" else set())
