"""Leaves a failing token endpoint alone for a while.

    failure                                  next try after
    network, timeout, 5xx, 429, garbage      1 s, 2 s, 4 s … 5 min (or `Retry-After`)
    rejected credential, login required      30 s, 60 s, 120 s … 5 min

The first to fail hears the cause; until the next try is due everyone else hears it at once, as a 503
with `Retry-After`, and nothing is sent. So a wrong password is tried once, not once a request: that is
what locks accounts. A credential whose secret has changed at its source is new, and tried at once.
"""

import random
import time
from collections.abc import Awaitable, Callable

from authproxy import logs
from authproxy.errors import CredentialRejected, LoginRequired, TokenError, TokenUnavailable
from authproxy.tokens.source import Clock, TokenSource
from authproxy.tokens.token import Token

OUTCOMES = {CredentialRejected: "rejected", LoginRequired: "login_required"}  # any other is a failure
FIRST_DELAY = 1.0  # seconds
FIRST_DELAY_REJECTED = 30.0
LONGEST_DELAY = 300.0
LONGEST_RETRY_AFTER = 3600.0  # a server may ask for more than we would wait of ourselves, within reason
JITTER = 0.2


async def _never() -> bool:
    return False


class PatientSource:
    """Asks the source behind it, and backs off while that fails.

    `changed` tells whether the credential's secret is another one now; it is awaited only while a
    rejected credential is held back. `count` hears the outcome of every try.
    """

    def __init__(
        self,
        source: TokenSource,
        *,
        name: str = "",
        count: Callable[[str], None] = lambda _outcome: None,
        changed: Callable[[], Awaitable[bool]] = _never,
        clock: Clock = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._source = source
        self._name = name
        self._count = count
        self._changed = changed
        self._clock = clock
        self._jitter = jitter
        self._failures = 0
        self._failure: TokenError | None = None
        self._resume_at = 0.0

    async def token(self, *, instead_of: Token | None = None) -> Token:
        await self.ready()
        started = self._clock()
        try:
            token = await self._source.token(instead_of=instead_of)
        except TokenError as failure:
            self._note(failure)
            raise
        self._failures, self._failure = 0, None
        self._count("success")
        if token != instead_of:
            logs.info("token renewed", route=self._name, seconds=self._clock() - started)
        return token

    def forgive(self) -> None:
        """Forget the last failure: a token came from elsewhere, so the next renewal is another matter."""
        self._failures, self._failure = 0, None

    async def ready(self) -> None:
        """Return when the source behind may be asked; raise `TokenUnavailable` while it is left alone."""
        if self._failure is not None:
            await self._hold_back(self._failure)

    async def _hold_back(self, failure: TokenError) -> None:
        left = self._resume_at - self._clock()
        if left <= 0:
            return
        if isinstance(failure, CredentialRejected) and await self._changed():
            self.forgive()
            return
        if isinstance(failure, LoginRequired):
            raise LoginRequired(failure.detail, hint=failure.hint, error=failure.error, retry_after=left)
        raise TokenUnavailable(
            f"{failure.detail} (not trying again for {left:.0f} s)",
            hint=failure.hint,
            error=failure.error,
            retry_after=left,
        ) from failure

    def _note(self, failure: TokenError) -> None:
        self._count(OUTCOMES.get(type(failure), "failure"))
        careful = isinstance(failure, CredentialRejected | LoginRequired)
        first = FIRST_DELAY_REJECTED if careful else FIRST_DELAY
        delay = min(first * 2 ** min(self._failures, 20), LONGEST_DELAY)
        delay = min(delay * (1 + JITTER * self._jitter()), LONGEST_DELAY)
        if failure.retry_after is not None:
            delay = max(delay, min(failure.retry_after, LONGEST_RETRY_AFTER))
        failure.retry_after = delay
        self._failures += 1
        self._failure = failure
        self._resume_at = self._clock() + delay
        logs.warning(
            "no token", route=self._name, cause=failure.detail, hint=failure.hint, next_try_in=round(delay, 1)
        )

    def __repr__(self) -> str:
        left = self._resume_at - self._clock()
        state = f"failing, next try in {left:.0f} s" if self._failure and left > 0 else "ready"
        return f"<PatientSource {state}>"
