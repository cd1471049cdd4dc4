"""Slots that a launcher has decided on."""

from datetime import timedelta

from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.timekeeping import clock
from tests.support import run_program


def test_a_slot_of_a_line_that_was_changed_since_is_run_by_the_launcher_that_decided_on_it(
    direct_settings: Settings,
) -> None:
    slot = clock.now().replace(second=0, microsecond=0) - timedelta(hours=1)
    minute = (slot.minute + 7) % 60
    line = f'{{"aggregate-hourly": {{"cron": "{minute} * * * *"}}}}'
    told = ("aggregate-hourly", "--slot", slot.isoformat())
    by_hand = run_program(*told, settings=direct_settings, MAUNTIC_JOBS=line)
    assert (by_hand.returncode, "is no slot of" in by_hand.stderr) == (2, True)
    launched = run_program(*told, "--launcher", "loop", settings=direct_settings, MAUNTIC_JOBS=line)
    assert launched.returncode == 0, launched.stderr
