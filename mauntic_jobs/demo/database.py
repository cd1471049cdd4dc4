"""A development database: the platform's tables, and what mauntic-jobs adds to them."""

import time
from collections.abc import Callable
from datetime import timedelta

from mauntic_jobs.migrations.platform import create_platform
from mauntic_jobs.migrations.upgrade import upgrade
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Limits, connect

_POLL_SECONDS = 0.1

_sql = statements("demo")


def prepare(settings: Settings, log: Callable[[str], None]) -> None:
    """Create the platform's tables where there are none, and bring the database up to date; `log` gets each step.

    Waits for others that are doing this.
    """
    # The lock has a transaction of its own: the tables have to be committed before indexes are built on them.
    with connect(settings) as holder, holder.transaction(Limits(idle_timeout=timedelta(hours=1))):
        # Not by a statement that waits: the build of an index waits for every statement that is under way.
        while not holder.row(_sql["lock"])["locked"]:
            time.sleep(_POLL_SECONDS)
        with connect(settings) as session:
            if not session.row(_sql["has_platform"])["present"]:
                create_platform(session)
                log("created the platform's tables")
        upgrade(settings, log)
