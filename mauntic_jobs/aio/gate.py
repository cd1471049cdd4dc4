"""Gate for tasks: lets in as many as there are places for."""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

_KeyT = TypeVar("_KeyT", bound=Hashable)


class Gate(Generic[_KeyT]):
    """Lets tasks in, in the order in which they came; one that has no place is passed by those that have one.

    `has_place` says for a task's key whether one more may come in. `admit` is to be called whenever the answer may have
    changed for another reason than that a task has left.
    """

    def __init__(self, has_place: Callable[[_KeyT], bool]) -> None:
        self._has_place = has_place
        self._waiting: deque[tuple[_KeyT, asyncio.Future[None]]] = deque()
        self.inside = 0

    @property
    def has_waiting(self) -> bool:
        """Whether tasks wait."""
        return bool(self._waiting)

    async def enter(self, key: _KeyT) -> None:
        """Wait for a place, which is to be given up by `leave`."""
        if not self._waiting and self._has_place(key):
            self.inside += 1
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting.append((key, place))
        self.admit()
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():
                self.leave()
            raise

    def leave(self) -> None:
        """Give up a place."""
        self.inside -= 1
        self.admit()

    def admit(self) -> None:
        """Let in those that wait and have a place."""
        waiting, self._waiting = self._waiting, deque()
        without: set[_KeyT] = set()
        for key, place in waiting:
            if place.done():  # its task has been cancelled
                continue
            if key in without or not self._has_place(key):
                without.add(key)
                self._waiting.append((key, place))
            else:
                self.inside += 1
                place.set_result(None)
