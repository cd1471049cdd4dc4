"""Stalls that BullMQ has counted in jobs, and whose they were."""

from mauntic_jobs.stores.bullmq.stalls import is_accounted_for, stalls_of
from tests.world.corpus import Case, each_case


@each_case("job_stalls")
def test_stalls_are_told_apart(case: Case) -> None:
    assert is_accounted_for(case.input, stalls_of(case.input)) is case.answer
