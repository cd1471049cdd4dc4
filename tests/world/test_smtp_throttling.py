"""Real relays' temporary refusals: for the rate at which an account sends, or for anything else."""

from mauntic_jobs.delivery.sending.outcome import Verdict
from mauntic_jobs.delivery.sending.smtp.verdicts import SmtpStage, refusal
from mauntic_jobs.delivery.sending.smtp.wire import Reply
from tests.world.corpus import Case, each_case


@each_case("smtp_throttling")
def test_a_refusal_for_the_rate_is_told_from_the_others(case: Case) -> None:
    for code in (421, 432, 450, 451, 452, 454):
        for stage in SmtpStage:
            outcome = refusal(stage, Reply(code, (case.input,)))
            assert (outcome.verdict is Verdict.RATE_LIMITED) == case.answer["throttled"], (code, stage)
            if case.answer["throttled"]:
                assert outcome.retry_after == case.answer.get("seconds")
                assert outcome.is_daily == case.answer.get("daily", False)
                assert outcome.is_crowded == case.answer.get("crowded", False)
