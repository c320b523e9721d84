"""One-time codes (RFC 6238)."""

from collections import deque
from collections.abc import Awaitable, Callable

from authproxy.grants.requests import base32
from authproxy.tokens.source import Clock

CODE_PERIOD = 30  # seconds a one-time code is good for (RFC 6238 §4.1)
CODE_DIGITS = 6
TAKEN_PERIODS = 240  # remembered for each secret: two hours of codes


def code_of(period: int, secret: str) -> str:
    """Return the code of a period (RFC 6238 §4.2)."""
    from cryptography.hazmat.primitives.hashes import SHA1
    from cryptography.hazmat.primitives.twofactor.hotp import HOTP

    key = base32(secret)
    # Vendors hand out secrets of 80 bits, which RFC 4226 §4 would not.
    return HOTP(key, CODE_DIGITS, SHA1(), enforce_key_length=False).generate(period).decode()  # noqa: S303


class OneTimeCodes:
    """Makes codes, none of them twice."""

    def __init__(self, clock: Clock, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._clock = clock
        self._sleep = sleep
        self._periods: dict[str, deque[int]] = {}  # those of the last codes made from each secret

    async def make(self, secret: str) -> str:
        """Return a code; if this period's is taken already, wait for the next one that is not.

        Which periods are taken is remembered one by one: after the clock was set back, the last of them may
        be hours away.
        """
        now = self._clock()
        taken = self._periods.setdefault(secret, deque(maxlen=TAKEN_PERIODS))
        period = int(now // CODE_PERIOD)
        while period in taken:
            period += 1
        taken.append(period)
        if period * CODE_PERIOD > now:
            await self._sleep(period * CODE_PERIOD - now)
        return code_of(period, secret)
