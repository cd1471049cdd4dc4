"""Log of outages: one line at the beginning of each and one at its end."""

import time
from collections.abc import Callable

_REPEAT_SECONDS = 60.0


class OutageLog:
    """Tells of each trouble when it begins, every minute while it lasts, and when it is over."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._told: dict[str, tuple[float, str]] = {}

    @property
    def current(self) -> str | None:
        """What is in the way now."""
        return next((text for _, text in self._told.values()), None)

    def note(self, what: str, error: Exception | None) -> None:
        """Note an error in `what`, or that it works again."""
        if error is None:
            if self._told and self._told.pop(what, None) is not None:
                self._log(f"{what}: works again")
            return
        told = self._told.get(what)
        if told is None or time.monotonic() - told[0] > _REPEAT_SECONDS:
            text = str(error) or type(error).__name__
            self._told[what] = (time.monotonic(), text)
            self._log(f"{what}: {text}")
