"""The cron-parser of BullMQ, which reads the patterns of job schedulers: it finds the same slots."""

import json
from itertools import islice

import pytest

from mauntic_jobs.timekeeping.cron import slots
from mauntic_jobs.timekeeping.epoch import milliseconds
from tests.interop.node import PACKAGES, node
from tests.support import utc
from tests.world.corpus import read_cases

_LINES = [case.input for case in read_cases("cron_lines") if not case.answer]
_SLOTS = 40


@pytest.mark.parametrize("package", PACKAGES)
def test_the_slots_of_a_line_are_those_that_bullmq_finds(package: str) -> None:
    after = "2026-10-01T00:00:00Z"
    theirs = node("cron.mjs", package, after, str(_SLOTS), json.dumps(_LINES))
    ours = [[milliseconds(slot) for slot in islice(slots(line, utc(after)), _SLOTS)] for line in _LINES]
    assert dict(zip(_LINES, ours, strict=True)) == dict(zip(_LINES, theirs, strict=True))
