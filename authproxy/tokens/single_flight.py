"""One task at a time, whose result everyone gets who waits for it.

    join() ─┐
    join() ─┼─▶ one task ─▶ one result, or one failure, for all of them
    join() ─┘

A waiter that goes away does not take the task along.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Runs `work` as a task called `name`, never twice at a time.

    `ended` is called with each task that is done, before anyone who waited for it goes on.
    """

    def __init__(
        self,
        work: Callable[[], Coroutine[Any, Any, T]],
        *,
        name: str,
        ended: Callable[["asyncio.Task[T]"], None] = lambda _task: None,
    ) -> None:
        self._work = work
        self._name = name
        self._ended = ended
        self._task: asyncio.Task[T] | None = None

    @property
    def under_way(self) -> bool:
        return self._task is not None

    def begin(self) -> "asyncio.Task[T]":
        """Return the task under way; begin one if there is none."""
        if self._task is None:
            self._task = asyncio.create_task(self._work(), name=self._name)
            self._task.add_done_callback(self._done)
        return self._task

    async def join(self) -> T:
        """Return what the task under way returns, or a new one; raise what it raises."""
        return await asyncio.shield(self.begin())

    async def wait(self, seconds: float) -> None:
        """Wait for the task under way, if there is one, for up to `seconds`."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=seconds)

    def _done(self, task: "asyncio.Task[T]") -> None:
        self._task = None
        self._ended(task)
