"""Real servers' permanent refusals, by whom they blame."""

from mauntic_jobs.delivery.sending.outcome import Blame
from mauntic_jobs.delivery.sending.smtp.refusals import blame_of
from tests.world.corpus import Case, each_case, read_cases


@each_case("smtp_refusals")
def test_a_refusal_blames_whom_it_is_about(case: Case) -> None:
    assert blame_of(case.input) is Blame(case.answer)


def test_there_are_at_least_150_answers() -> None:
    assert len(read_cases("smtp_refusals")) >= 150
