"""Debian's own cron, which runs a job every minute."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from mauntic_jobs.runner.history import list_runs
from mauntic_jobs.runner.request import Status
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from tests.support import wait_until

_TWO_SLOTS = 150
_JOBS = '{"aggregate-hourly": {"cron": "* * * * *"}}'


@pytest.fixture
def cron(direct_settings: Settings) -> Iterator[None]:
    """Run cron with one file in its directory of crontabs; in a mount namespace, so that it sees no other."""
    missing = [program for program in ("cron", "unshare") if shutil.which(program) is None]
    if missing or os.geteuid() != 0:
        reason = f"needs root, and Debian's {', '.join(missing) or 'cron'}: apt-get install cron"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    assert direct_settings.database_url
    crontab = f"""\
SHELL=/bin/sh
PATH={Path(sys.executable).parent}:/usr/bin:/bin
DATABASE_URL={direct_settings.database_url.get_secret_value()}
MAUNTIC_JOBS='{_JOBS}'
* * * * * root mauntic-jobs aggregate-hourly --slot latest --skip-ok --quiet
"""
    script = """
mount -t tmpfs none /etc/cron.d && mount -t tmpfs none /var/spool/cron && mount -t tmpfs none /run || exit 1
printf 'SHELL=/bin/sh\\n' > /tmp/crontab.$$ && mount --bind /tmp/crontab.$$ /etc/crontab
rm /tmp/crontab.$$
cat > /etc/cron.d/jobs && chmod 600 /etc/cron.d/jobs
exec cron -f
"""
    process = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdin
    process.stdin.write(crontab)
    process.stdin.close()
    yield
    os.killpg(process.pid, signal.SIGTERM)
    process.wait()


@pytest.mark.waits
@pytest.mark.usefixtures("cron")
def test_two_slots_are_two_runs(direct_settings: Settings) -> None:
    with connect(direct_settings) as session:
        wait_until(lambda: len(list_runs(session, status=Status.SUCCEEDED)) >= 2, "two slots", seconds=_TWO_SLOTS)
        later, earlier = list_runs(session)
    assert later["slot"] - earlier["slot"] == timedelta(minutes=1)
    assert {row["launcher"] for row in (later, earlier)} == {"cron"}
    assert all(timedelta() <= row["started_at"] - row["slot"] < timedelta(minutes=1) for row in (later, earlier))
