"""The job of a package that a job of a BullMQ queue stands for."""

import pytest

from mauntic_jobs import clock
from mauntic_jobs.bullmq import ReceivedJob, UnrecoverableError
from mauntic_jobs.bullmq.launch import SlotLauncher
from mauntic_jobs.config import Settings
from mauntic_jobs.jobs.registry import JOBS


def test_where_several_jobs_share_a_queue_the_name_decides() -> None:
    first, second = list(JOBS.values())[:2]
    received = ReceivedJob("1", "something-else", {}, clock.now(), 0, 4, {})
    with pytest.raises(UnrecoverableError, match=f"this queue is for {first.name}, {second.name}"):
        SlotLauncher([first, second], Settings())(received)
