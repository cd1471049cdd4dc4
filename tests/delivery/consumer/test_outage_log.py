"""Log of outages: one line at the beginning and one at the end."""

from mauntic_jobs.delivery.consumer.outage_log import OutageLog


def test_a_trouble_is_told_once_and_when_it_is_over() -> None:
    said: list[str] = []
    troubles = OutageLog(said.append)
    for _ in range(100):
        troubles.note("redis", OSError("away"))
    assert troubles.current == "away"
    troubles.note("redis", None)
    troubles.note("redis", None)
    assert said == ["redis: away", "redis: works again"]
    assert troubles.current is None
