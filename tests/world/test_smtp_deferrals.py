"""Real servers' temporary refusals: about the connection, or a wish to wait, and for how long."""

from mauntic_jobs.delivery.sending.smtp.deferrals import asked_seconds_of, temporary_blame_of
from tests.world.corpus import Case, each_case, read_cases


@each_case("smtp_deferrals")
def test_a_temporary_refusal_is_about_the_session_or_asks_to_wait(case: Case) -> None:
    found = {"blame": temporary_blame_of(case.input), "seconds": asked_seconds_of(case.input)}
    assert found == {"seconds": None, **case.answer}


def test_there_are_at_least_40_answers() -> None:
    assert len(read_cases("smtp_deferrals")) >= 40
