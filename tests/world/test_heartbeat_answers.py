"""Answers of dead-man switches: one that is not recorded is reported, whatever its status."""

from mauntic_jobs.alerts.heartbeat_pings import Heartbeats
from mauntic_jobs.settings.settings import Settings
from tests.alerts.receivers import receiver
from tests.world.corpus import Case, each_case


@each_case("heartbeat_answers")
def test_a_ping_that_is_not_recorded_is_reported(case: Case) -> None:
    with receiver() as service:
        service.mode, service.said = str(case.input["status"]), case.input["body"]
        pings = Heartbeats(Settings(jobs={"ticker": {"heartbeat_url": service.url}}), "ticker")
        pings.start()
        pings.end(0, "run 1: succeeded")
        problem = pings.wait() or ""
        assert len(service.received()) == 2
    assert problem.startswith(case.answer["said"])
    assert bool(problem) == bool(case.answer["said"])
