"""In every history the passes over what changed let in whom an evaluation of everything lets in."""

from collections import Counter

from mauntic_jobs.settings.settings import Settings
from tests.jobs.segment_history import History, played


def test_changes_let_in_whom_an_evaluation_of_everything_lets_in(direct_settings: Settings) -> None:
    """More by hand: SEGMENT_HISTORIES=10000 scripts/test tests/jobs/test_segment_changes_properties.py."""
    totals = Counter[str]()
    for history in played(History, direct_settings, 100):
        totals.update(histories=1, passes=history.passes, entered=history.entered, full=history.full)
    # The histories do say something: contacts enter, and most evaluations look at changes only.
    assert totals["entered"] > totals["histories"]
    assert totals["passes"] > 2 * totals["histories"]
    assert totals["full"] < 2 * totals["passes"]
