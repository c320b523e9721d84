"""Leaves a failing token endpoint alone for a while.

    failure                                  next try after
    network, timeout, 5xx, 429, garbage      1 s, 2 s, 4 s … 5 min (or `Retry-After`)
    rejected credential, login required      30 s, 60 s, 120 s … 5 min

The first to fail hears the cause; until the next try is due everyone else hears it at once, as a 503
with `Retry-After`, and nothing is sent. So a wrong password is tried once, not once a request: that is
what locks accounts. A credential whose secret has changed at its source is new, and tried at once. A
rejection is remembered beyond the process, and looked up before each try: others may have been rejected.
"""

import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from math import inf

from authproxy import logs
from authproxy.errors import CredentialRejected, LoginRequired, TokenError, TokenUnavailable, TooManyTries
from authproxy.tokens.rejection import Rejection, RememberedRejection
from authproxy.tokens.source import Clock, Layer, TokenSource
from authproxy.tokens.token import Token

OUTCOMES = {CredentialRejected: "rejected", LoginRequired: "login_required"}  # any other is a failure
PERSON_SECONDS = 30.0  # between two tries of a rejected credential because a person asked
FIRST_DELAY = 1.0  # seconds
FIRST_DELAY_REJECTED = 30.0
MAX_DELAY = 300.0
MAX_RETRY_AFTER = 3600.0  # a server may ask for more than we would wait of ourselves, within reason
JITTER = 0.2


async def _never() -> bool:
    return False


class BackoffSource(Layer):
    """Asks the source behind it, and backs off while that fails.

    `changed` tells whether the credential's secret is another one now; it is awaited only while a
    rejected credential is left alone. `count` hears the outcome of every try. `memory` is what is known
    beyond this process; without `backs_off` failures are only told, for a source that costs nothing to ask.
    `loads` says that tokens are read on this machine, not issued.
    """

    def __init__(
        self,
        inner: TokenSource,
        *,
        name: str = "",
        count: Callable[[str], None] = lambda _outcome: None,
        changed: Callable[[], Awaitable[bool]] = _never,
        memory: RememberedRejection | None = None,
        backs_off: bool = True,
        loads: bool = False,
        clock: Clock = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(inner)
        self._name = name
        self._count = count
        self._changed = changed
        self._memory = memory
        self._backs_off = backs_off
        self._loads = loads
        self._clock = clock
        self._jitter = jitter
        self._failures = 0
        self._failure: TokenError | None = None
        self._resume_at = 0.0
        self._allowed_at = -inf  # when a person had a rejected credential tried again
        self._passes_over = False  # what is remembered of rejections, at the next try

    async def token(self, *, instead_of: Token | None = None) -> Token:
        await self.ready()
        async with AsyncExitStack() as stack:
            if self._memory is not None:
                await stack.enter_async_context(self._memory.turn())
                await self._heed(await self._memory.recall())
            return await self._try(instead_of)

    async def adopt(self, token: Token) -> None:
        """Forget the last failure: a token came from elsewhere, so the next renewal is another matter."""
        await self._reset()
        await super().adopt(token)

    async def allow_try(self) -> None:
        """Let the next one try, whatever failed before; a rejected credential once in `PERSON_SECONDS`."""
        await super().allow_try()
        if await self._is_rejected():
            now = self._clock()
            if (left := self._allowed_at + PERSON_SECONDS - now) > 0:
                raise TooManyTries(
                    "the credential is rejected, and was tried again a moment ago",
                    hint="too many tries lock accounts: mend the credential first",
                    retry_after=left,
                )
            self._allowed_at = now
            self._passes_over = True
        self._resume_at = self._clock()

    async def _is_rejected(self) -> bool:
        """Whether the credential, as it is now, is left alone because it was rejected, by whoever asked."""
        if self._failure is not None and self._failure.rejects and self._resume_at > self._clock():
            if not await self._changed():
                return True
            await self._reset()
        if self._memory is None:
            return False
        rejection = await self._memory.recall()
        return rejection is not None and rejection.seconds_left(self._memory.clock()) > 0

    async def forget(self) -> None:
        await super().forget()
        self._failures, self._failure = 0, None
        if self._memory is not None:
            await self._memory.forget()

    async def ready(self) -> None:
        """Return when the source behind may be asked; raise `TokenUnavailable` while it is left alone."""
        if self._failure is not None and self._backs_off:
            await self._check_wait(self._failure)

    def rename(self, name: str) -> None:
        self._name = name
        super().rename(name)

    async def _reset(self) -> None:
        rejected = self._failure is not None and self._failure.rejects
        self._failures, self._failure = 0, None
        if rejected and self._memory is not None:
            await self._memory.forget()

    async def _try(self, instead_of: Token | None) -> Token:
        started = self._clock()
        try:
            token = await self._inner.token(instead_of=instead_of)
        except TokenError as failure:
            await self._note(failure)
            raise
        await self._reset()
        self._count("success")
        if token != instead_of:
            logs.info(self._event(instead_of), route=self._name, seconds=self._clock() - started)
        return token

    def _event(self, instead_of: Token | None) -> str:
        if self._loads:
            return "token loaded"
        return "token obtained" if instead_of is None else "token renewed"

    async def _heed(self, rejection: Rejection | None) -> None:
        """Leave a credential alone that was rejected before, by us or by another process."""
        passes_over, self._passes_over = self._passes_over, False
        if rejection is None or self._memory is None:
            return
        self._failure, self._failures = rejection.as_error(), rejection.failures
        if passes_over:
            return
        left = rejection.seconds_left(self._memory.clock())
        self._resume_at = self._clock() + left
        if left > 0:
            logs.warning(
                "no token: the credential was rejected before", route=self._name, cause=rejection.detail,
                hint=rejection.hint, next_try_in=f"{left:.1f}s",
            )  # fmt: skip
        await self.ready()

    async def _check_wait(self, failure: TokenError) -> None:
        left = self._resume_at - self._clock()
        if left <= 0:
            return
        if failure.rejects and await self._changed():
            await self._reset()
            return
        if isinstance(failure, LoginRequired):
            raise LoginRequired(
                failure.detail, title=failure.title, hint=failure.hint, error=failure.error, retry_after=left
            )
        left_alone = TokenUnavailable(
            failure.detail, title=failure.title, hint=failure.hint, error=failure.error, retry_after=left
        )
        left_alone.rejects = failure.rejects
        raise left_alone from failure

    async def _note(self, failure: TokenError) -> None:
        self._count(OUTCOMES.get(type(failure), "failure"))
        if not self._backs_off:
            if self._failure is None or self._failure.detail != failure.detail:
                logs.warning("no token", route=self._name, cause=failure.detail, hint=failure.hint)
            self._failure = failure
            return
        delay = self._delay(failure)
        failure.retry_after = delay
        self._failures += 1
        self._failure = failure
        self._resume_at = self._clock() + delay
        logs.warning(
            "no token", route=self._name, cause=failure.detail, hint=failure.hint,
            next_try_in=f"{delay:.1f}s",
        )  # fmt: skip
        if failure.rejects and self._memory is not None:
            await self._memory.remember(self._rejection(failure, delay, self._memory.clock()))

    def _delay(self, failure: TokenError) -> float:
        """Return the seconds until the next try."""
        careful = failure.rejects or isinstance(failure, LoginRequired)
        first = FIRST_DELAY_REJECTED if careful else FIRST_DELAY
        delay: float = min(first * 2 ** min(self._failures, 20), MAX_DELAY)
        delay = min(delay * (1 + JITTER * self._jitter()), MAX_DELAY)
        if failure.retry_after is not None:
            delay = max(delay, min(failure.retry_after, MAX_RETRY_AFTER))
        return delay

    def _rejection(self, failure: TokenError, delay: float, now: float) -> Rejection:
        return Rejection(
            detail=failure.detail,
            hint=failure.hint,
            error=failure.error,
            in_good_order=not isinstance(failure, CredentialRejected),
            title=failure.title,
            failures=self._failures,
            at=now,
            next_try_at=now + delay,
        )

    def __repr__(self) -> str:
        left = self._resume_at - self._clock()
        state = f"failing, next try in {left:.0f} s" if self._failure and left > 0 else "ready"
        return f"<BackoffSource {state}>"
