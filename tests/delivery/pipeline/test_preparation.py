"""Preparation of messages whose turn is still to come: what comes before the turn, and what after it."""

from collections import defaultdict
from typing import Any

import pytest

from mauntic_jobs.delivery.admission.admission import Admitted
from mauntic_jobs.delivery.consumer import consumer
from mauntic_jobs.delivery.ledger.ledger import Ledger
from mauntic_jobs.delivery.render.email import EmailRenderer
from tests.delivery.sink import Sink
from tests.delivery.world import World


def test_a_message_is_written_before_its_turn_and_claimed_after_it(
    world: World, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: dict[str, list[str]] = defaultdict(list)
    left: list[float] = []
    ahead: list[float] = []
    # However slow this machine is, some are prepared before their turn.
    monkeypatch.setattr(consumer, "_PREPARING_SECONDS", 10.0)
    write, claim, until_turn = EmailRenderer.write, Ledger.claim, Admitted.until_turn

    async def noted_write(self: EmailRenderer, message: Any, sender: Any) -> Any:
        events[message.key].append("written")
        return await write(self, message, sender)

    async def noted_turn(self: Admitted) -> None:
        ahead.append(self._turn.seconds_left)
        await until_turn(self)
        left.append(self._turn.seconds_left)
        events[self._job_key].append("turn")  # type: ignore[attr-defined]

    async def noted_claim(self: Ledger, asked: Any) -> Any:
        events[asked.message.key].append("claimed")
        return await claim(self, asked)

    made = Admitted.__init__

    def noted_init(self: Admitted, admission: Any, job: Any, turn: Any, message: Any) -> None:
        made(self, admission, job, turn, message)
        self._job_key = message.key  # type: ignore[attr-defined]

    monkeypatch.setattr(EmailRenderer, "write", noted_write)
    monkeypatch.setattr(Admitted, "until_turn", noted_turn)
    monkeypatch.setattr(Admitted, "__init__", noted_init)
    monkeypatch.setattr(Ledger, "claim", noted_claim)
    world.provider(sink.host, sink.port, rateLimit=20)
    world.add(*(world.message(f"d{n}") for n in range(12)))
    world.deliver()
    assert set(world.states().values()) == {"sent"}
    sent = [each for each in events.values() if "claimed" in each]
    assert len(sent) == 12
    # Of the last preparation: the limits of the first message are not known when it is taken, so that it comes again.
    assert all(each[-3:] == ["written", "turn", "claimed"] for each in sent)
    # A loop's timers are exact to a millisecond or so; turns are 50 of them apart.
    assert max(left) < 0.01
    assert max(ahead) > 0.01
