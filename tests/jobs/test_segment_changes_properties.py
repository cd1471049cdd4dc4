"""In every history the passes over what changed let in whom an evaluation of everything lets in."""

import os
from collections import Counter
from contextlib import ExitStack

import psycopg

from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from tests.jobs.segment_history import History

# More by hand: SEGMENT_HISTORIES=10000 scripts/test tests/jobs/test_segment_changes_properties.py
_HISTORIES = int(os.environ.get("SEGMENT_HISTORIES", "100"))
_FIRST = int(os.environ.get("SEGMENT_FIRST_HISTORY", "0"))
_STEPS = 20


def test_changes_let_in_whom_an_evaluation_of_everything_lets_in(direct_settings: Settings) -> None:
    assert direct_settings.database_url
    url = direct_settings.database_url.get_secret_value()
    totals = Counter[str]()
    with ExitStack() as stack:
        session = stack.enter_context(connect(direct_settings))
        writers = [stack.enter_context(psycopg.connect(url, autocommit=True)) for _ in range(3)]
        writers[0].execute("SET lock_timeout = '20s'")
        for seed in range(_FIRST, _FIRST + _HISTORIES):
            history = History(seed, session, writers, direct_settings)
            try:
                history.run(_STEPS)
            except AssertionError as error:
                error.add_note(f"history {seed}")
                raise
            history.clean()
            totals.update(passes=history.passes, entered=history.entered, full=history.full)
            if seed % 100 == 99:
                writers[0].execute("VACUUM")
    # The histories do say something: contacts enter, and most evaluations look at changes only.
    assert totals["entered"] > _HISTORIES
    assert totals["passes"] > 2 * _HISTORIES
    assert totals["full"] < 2 * totals["passes"]
