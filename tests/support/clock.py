"""Time for tests that do not wait."""

import asyncio


class Clock:
    """A clock that only moves when told to."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


async def settle(rounds: int = 10) -> None:
    """Let everything happen that can happen now."""
    for _ in range(rounds):
        await asyncio.sleep(0)
