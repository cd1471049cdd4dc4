"""Log of outages: one line at the beginning and one at the end."""

from mauntic_jobs.delivery.consumer.outage_log import Troubles


def test_a_trouble_is_told_once_and_when_it_is_over() -> None:
    said: list[str] = []
    troubles = Troubles(said.append)
    for _ in range(100):
        troubles.tell("redis", OSError("away"))
    assert troubles.current == "away"
    troubles.tell("redis", None)
    troubles.tell("redis", None)
    assert said == ["redis: away", "redis: works again"]
    assert troubles.current is None
