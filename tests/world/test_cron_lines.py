"""Cron lines that Vixie cron, supercronic and BullMQ read alike, and others, which are refused with the reason."""

import pytest

from mauntic_jobs.errors import UsageError
from mauntic_jobs.timekeeping.cron import check_cron
from tests.world.corpus import Case, each_case


@each_case("cron_lines")
def test_a_line_is_accepted_only_if_all_clocks_read_it_alike(case: Case) -> None:
    if not case.answer:
        assert check_cron(case.input) == case.input
        return
    with pytest.raises(UsageError, match="is not a valid cron expression") as refused:
        check_cron(case.input)
    assert case.answer in str(refused.value)
