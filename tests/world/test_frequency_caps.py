"""Frequency caps: which messages count, and which their contacts do not get."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from mauntic_jobs.job import Row
from mauntic_jobs.settings.frequency_cap import FrequencyCap
from mauntic_jobs.settings.types import ChannelSettings
from mauntic_jobs.timekeeping.window import parse_duration
from tests.delivery import fake_twilio
from tests.delivery.fake_api import running_api
from tests.delivery.pipeline.test_frequency_caps import let_pass
from tests.delivery.sink import Sink
from tests.delivery.world import World
from tests.world.corpus import Case, each_case


class History:
    """Messages one after the other, at any time before now."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._contacts: dict[str, UUID] = {}
        self._past: timedelta | None = None
        self._count = 0

    def send(self, ago: str = "0s", contact: str = "ann", **fields: Any) -> Row:
        """Send a message; return its row of the ledger."""
        self._let_pass(parse_duration(ago))
        self._count += 1
        name = f"d{self._count}"
        self._world.channel = fields.pop("channel", "email")
        if "to" in fields:
            fields["emailAddress"] = fields.pop("to")
        if contact:
            fields["contactId"] = str(self._contact(contact))
        self._world.add(self._world.message(name, **fields))
        self._world.deliver()
        return next(row for row in self._world.ledger() if row["delivery_id"] == self._world.key(name))

    def _let_pass(self, ago: timedelta) -> None:
        if self._past is not None:
            let_pass(self._world, self._past - ago)
        self._past = ago

    def _contact(self, name: str) -> UUID:
        if name not in self._contacts:
            self._contacts[name] = self._world.contact(email=f"{name}@example.com", phone="+15005550006")
        return self._contacts[name]


@each_case("frequency_caps")
def test_a_contact_gets_no_more_than_it_may(case: Case, world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    cap = ChannelSettings(frequency_cap=case.input["cap"])
    world.settings = world.settings.model_copy(update={"channels": {"email": cap, "sms": cap}})
    with running_api(fake_twilio.answer) as api:
        world.point(twilio=api.url)
        world.provider_of("sms", "twilio", fake_twilio.CONFIG)
        history = History(world)
        for each in case.input["before"]:
            history.send(**each)
        row = history.send(**case.input.get("message", {}))
    assert row["state"] == ("sent" if case.answer else "suppressed")
    if not case.answer:
        read = FrequencyCap.read(case.input["cap"])
        assert row["reason"] == f"frequency cap: the contact gets at most {read} by email"
