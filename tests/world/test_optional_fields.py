"""Fields of a payload that are empty, blank or null, the whole way to the sink."""

import json

from tests.delivery.sink import Sink
from tests.delivery.world import World
from tests.world.corpus import Case, each_case


@each_case("optional_fields")
def test_a_field_that_says_nothing_is_absent(world: World, sink: Sink, case: Case) -> None:
    world.provider(sink.host, sink.port)
    world.add(world.message(**json.loads(case.input)))
    world.deliver()
    assert world.states() == {"d1": case.answer}
    (received,) = sink.messages()
    assert received.mail_from == "news@acme.test"
    assert b"X-" not in received.content
    assert b"Reply-To" not in received.content
