"""Messages in their recipients' quiet hours wait until these end; the others, and transactional ones, do not."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from mauntic_jobs.settings.types import ChannelSettings
from tests.delivery.ledger.test_operator_commands import program
from tests.delivery.sink import Sink
from tests.delivery.world import DAY, World

HOUR = timedelta(hours=1)


@pytest.fixture
def quiet(world: World, sink: Sink) -> World:
    """Return a world whose channel has quiet hours around now, by UTC, for three hours."""
    world.provider(sink.host, sink.port)
    now = datetime.now(UTC)
    hours = f"{now - HOUR:%H:%M}-{now + 2 * HOUR:%H:%M}"
    world.settings = world.settings.model_copy(update={"channels": {"email": ChannelSettings(quiet_hours=hours)}})
    return world


def contact(world: World, zone: object = ...) -> str:
    fields = "{}" if zone is ... else json.dumps({"timezone": zone})
    return str(world.contact(custom_fields=fields))


def test_each_recipients_own_time_counts(quiet: World, sink: Sink) -> None:
    quiet.add(
        quiet.message("here", contactId=contact(quiet, "Etc/UTC")),
        quiet.message("east", contactId=contact(quiet, "+05:00")),
        quiet.message("west", contactId=contact(quiet, "Etc/GMT+8")),
        quiet.message("unknown", contactId=contact(quiet, "Middle-earth")),
        quiet.message("none", contactId=contact(quiet)),
        quiet.message("odd", contactId=contact(quiet, 5)),
        quiet.message("unnamed"),
        quiet.message("receipt", contactId=contact(quiet, "Etc/UTC"), transactional=True),
    )
    quiet.deliver()
    states = quiet.states()
    assert {name for name, state in states.items() if state == "sent"} == {"east", "west", "receipt"}
    assert len(sink.messages()) == 3
    rows = {row["delivery_id"].partition(".")[0]: row for row in quiet.ledger()}
    waiting = {name: rows[name] for name in states if states[name] == "deferred"}
    assert all(
        timedelta(hours=1.9) < row["until"] - datetime.now(UTC) < timedelta(hours=2.1) for row in waiting.values()
    )
    assert waiting["here"]["reason"].endswith(" in Etc/UTC")
    assert waiting["unknown"]["reason"].endswith("in UTC, for the time zone of its contact is not known")
    assert waiting["none"]["reason"].endswith("in UTC, for its contact has no time zone")
    assert waiting["unnamed"]["reason"].startswith("quiet hours: ")


def test_the_zone_of_contacts_without_one_is_a_setting(quiet: World, sink: Sink) -> None:
    quiet.settings = quiet.settings.model_copy(update={"contacts_timezone": "Etc/GMT+8"})
    quiet.add(quiet.message("none", contactId=contact(quiet)), quiet.message("unnamed"))
    quiet.deliver()
    assert set(quiet.states().values()) == {"sent"}
    assert len(sink.messages()) == 2


def test_other_channels_have_none(quiet: World, sink: Sink) -> None:
    (hours,) = quiet.settings.channels.values()
    quiet.settings = quiet.settings.model_copy(update={"channels": {"sms": hours}})
    quiet.add(quiet.message())
    quiet.deliver()
    assert len(sink.messages()) == 1


def test_what_has_waited_does_not_expire_by_it(quiet: World, sink: Sink) -> None:
    quiet.add(quiet.message(), ids=["job"])
    quiet.deliver()
    assert quiet.states() == {"d1": "deferred"}
    made = int(quiet.job("job")["timestamp"]) - 3 * DAY // timedelta(milliseconds=1)
    quiet.ask("HSET", f"{quiet.base}:job", "timestamp", made)
    quiet.settings = quiet.settings.model_copy(update={"channels": {}})
    quiet.hurry()
    quiet.deliver()
    assert quiet.states() == {"d1": "sent"}
    assert len(sink.messages()) == 1


def test_status_says_that_they_wait_and_explain_says_for_what(quiet: World) -> None:
    quiet.add(quiet.message("here", contactId=contact(quiet, "Etc/UTC")))
    quiet.deliver()
    (found,) = json.loads(program(quiet, "status", "--json").stdout)["deliveries"]
    assert (found["state"], found["deliveries"]) == ("quiet_hours", 1)
    explained = json.loads(program(quiet, "deliveries", "explain", quiet.key("here"), "--json").stdout)
    assert explained["state"] == "delayed"
    assert "quiet hours" in explained["because"]
    assert explained["because"].endswith(" in Etc/UTC")
