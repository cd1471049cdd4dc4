"""Gate for tasks: lets in as many as there are places for."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

_KeyT = TypeVar("_KeyT")


class Gate(Generic[_KeyT]):
    """Lets tasks in, in the order in which they came; one that has no place is passed by, unless `in_order`.

    `has_place` says for a task's key whether one more may come in. `admit` is to be called whenever the answer may have
    changed for another reason than that a task has left.
    """

    def __init__(self, has_place: Callable[[_KeyT], bool], *, in_order: bool = False) -> None:
        self._has_place = has_place
        self._in_order = in_order
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
        waiting = self._waiting
        while waiting and self._let_in(*waiting[0]):
            waiting.popleft()
        if waiting and not self._in_order:
            self._waiting = deque(each for each in waiting if not self._let_in(*each))

    def _let_in(self, key: _KeyT, place: asyncio.Future[None]) -> bool:
        """Let a task in if there is a place for it; return whether it waits no more."""
        if place.done():  # it has been cancelled
            return True
        if not self._has_place(key):
            return False
        self.inside += 1
        place.set_result(None)
        return True
