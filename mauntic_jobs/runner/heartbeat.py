"""The heartbeat: a thread that shows the ledger that a run's owner is alive, and tells when the run is another's."""

from collections.abc import Callable
from contextvars import copy_context
from threading import Event, Thread
from typing import Self

from mauntic_jobs.errors import MaunticJobsError
from mauntic_jobs.runner.claim import RunClaim, beat
from mauntic_jobs.runner.request import Request
from mauntic_jobs.stores.postgres.session import Session, open_session

# A run is taken over once this many beats in a row are missing.
_BEATS_PER_TAKEOVER = 6


class Heartbeat:
    """Beats for `claim` while its body runs. The connection is opened only at the first beat: short runs need none."""

    def __init__(self, request: Request, claim: RunClaim, on_lost: Callable[[], None]) -> None:
        self._request = request
        self._claim = claim
        self._on_lost = on_lost
        self._interval = request.settings.takeover_after.total_seconds() / _BEATS_PER_TAKEOVER
        self._stopped = Event()
        # So that what it says has the run's number, too.
        self._thread = Thread(
            target=copy_context().run, args=(self._run,), name=f"heartbeat of run {claim.id}", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        session: Session | None = None
        while not self._stopped.wait(self._interval):
            try:
                if session is None or session.broken:
                    session = open_session(self._request.settings)
                if not beat(session, self._claim):
                    if not self._stopped.is_set():
                        self._on_lost()
                    break
            except MaunticJobsError as error:
                self._request.log(f"{self._request.job.name}: no heartbeat: {error}")
        if session is not None:
            session.close()
