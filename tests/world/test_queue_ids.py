"""Ids in servers' queues, as their replies name them."""

from mauntic_jobs.delivery.sending.smtp.verdicts import queue_id_of
from mauntic_jobs.delivery.sending.smtp.wire import Reply
from tests.world.corpus import Case, each_case


@each_case("queue_ids")
def test_the_id_in_a_servers_queue_is_found(case: Case) -> None:
    assert (queue_id_of(Reply(250, (case.input,))) or "") == case.answer
