"""Jobs as producers of all kinds leave them in Redis, and how they are read."""

import json
from datetime import UTC, datetime
from typing import Any

from mauntic_jobs.stores.bullmq.commands import Taken
from mauntic_jobs.stores.bullmq.job import UnrecoverableError, received
from tests.world.corpus import Case, each_case

_USUAL = {"name": "send-email", "data": "{}", "timestamp": "1790000000000"}


def _read(fields: dict[str, str]) -> dict[str, Any]:
    try:
        job = received(Taken("1", fields))
    except UnrecoverableError as error:
        return {"error": str(error)}
    due = (job.due - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    return {"attempts": job.attempts, "due": due, "wait": job.retry_delay().total_seconds()}


@each_case("bullmq_jobs")
def test_a_job_is_read_as_nodes_worker_reads_it(case: Case) -> None:
    options = {"opts": json.dumps(case.input["opts"])} if "opts" in case.input else {}
    fields = case.input.get("only", {**_USUAL, **options, **case.input.get("fields", {})})
    read = _read(fields)
    if "error" in case.answer:
        assert case.answer["error"] in read["error"]
    else:
        assert {name: read.get(name) for name in case.answer} == case.answer
