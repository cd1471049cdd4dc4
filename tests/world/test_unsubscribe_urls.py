"""Unsubscribe URLs as producers and templates make them: what stands in List-Unsubscribe."""

import pytest

from mauntic_jobs.delivery.render.headers import HeaderError, unsubscribe_fields
from tests.world.corpus import Case, each_case


@each_case("unsubscribe_urls")
def test_an_unsubscribe_url_is_written_as_programs_read_it(case: Case) -> None:
    if not case.answer:
        with pytest.raises(HeaderError, match="unsubscribe URL"):
            unsubscribe_fields(case.input)
        return
    first, *further = unsubscribe_fields(case.input)
    assert first == f"List-Unsubscribe: <{case.answer}>"
    assert bool(further) is case.answer.startswith("https:")
