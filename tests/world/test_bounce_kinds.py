"""Bounces as the webhooks of email services name them: those that count against the sender, and the others."""

import json

from mauntic_jobs.stores.postgres.session import Session
from tests.ops.monitor.test_reputation import add_events, look
from tests.world.corpus import Case, each_case


@each_case("bounce_kinds")
def test_only_hard_bounces_count_against_the_sender(session: Session, case: Case) -> None:
    add_events(session, "bounced", 50, metadata=json.loads(case.input))
    assert bool(look(session)) == case.answer["hard"]
