"""Time for tests that do not wait."""

import asyncio
from typing import Any


class Clock:
    """A clock that only moves when told to."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


async def settle(rounds: int = 10) -> None:
    """Return when nothing is left that can happen now, or after so many `rounds`."""
    loop: Any = asyncio.get_running_loop()
    still = 0
    for _ in range(rounds):
        await asyncio.sleep(0)
        still = 0 if loop._ready else still + 1
        if still == 2:  # what was sent in one round is heard of in the next
            return
