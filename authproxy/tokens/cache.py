"""The layer that has a token in memory: it answers without waiting, and renews once for all who wait.

    many callers:          token(instead_of=A)   token(instead_of=A)   token()
                                    └─────────────────────┼───────────────┘
                              one renewal, one answer for all of them (single_flight.py)
                                                          │
                                                 inner source, asked once

Early renewal (early_renewal.py) is begun by traffic and goes on in the background. A token that an upstream
refused is set aside, not thrown away: another is wanted, but while none can be had (the endpoint is down,
slow, left alone, or says no) it goes on serving until it ends.
"""

import asyncio
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf

from cachetools import LRUCache

from authproxy import logs
from authproxy.errors import AuthproxyError, TokenError
from authproxy.tokens.early_renewal import MIN_SECONDS, EarlyRenewal
from authproxy.tokens.single_flight import SingleFlight
from authproxy.tokens.source import Clock, Layer, Origin, TokenSource
from authproxy.tokens.token import Token

TokenCache = MutableMapping[str, Token]

WAIT_SECONDS = 1.0  # for another token, of one whose old one may still do
SETTLE_SECONDS = 10.0  # how long the end of the process waits for a renewal under way
SURE_SECONDS = 1.0  # that a token serves without another look
CACHE_SIZE = 4096  # tokens; the least recently used goes first


def _nobody() -> None:
    """Be told nothing."""


def token_cache(credentials: int = 0) -> TokenCache:
    """Return the in-memory cache, shared by all credentials of a process, with room for so many at least.

    Entries outlive their access token: the refresh token in them is still good.
    """
    return LRUCache(max(CACHE_SIZE, credentials))


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a renewal failed: the error, when that was, since when they fail, and when the next try is due.

    Times are epoch seconds; `next_try_at` is None where nothing is left alone.
    """

    error: AuthproxyError
    at: float
    since: float
    next_try_at: float | None = None


class CachedSource(Layer):
    """Has one credential's token; renews it early, and once for all who wait.

    `refresh_before` is in seconds; None means `auto`. For `wait_seconds` who has a token that may still do
    waits for another one. `changed` is called whenever what can be told of it may be something else; `since`
    is when that was last so, in epoch seconds.
    """

    def __init__(
        self,
        inner: TokenSource,
        cache: TokenCache,
        key: str,
        *,
        name: str,
        refresh_before: float | None = None,
        wait_seconds: float = WAIT_SECONDS,
        clock: Clock = time.time,
    ) -> None:
        super().__init__(inner)
        self.name = name
        self.trouble: Trouble | None = None  # why the last renewal failed; None once one succeeds
        self.changed: Callable[[], None] = _nobody
        self.since = clock()
        self._cache = cache
        self._key = key
        self._early = EarlyRenewal(refresh_before)
        self._wait_seconds = wait_seconds
        self._clock = clock
        self._is_slow = False  # the renewal under way has taken longer than we would wait
        self._renew_at = inf
        self._kept_at = -inf  # when the cached token came
        self._sure: Token | None = None  # it serves without another look
        self._sure_from = self._sure_until = -inf
        self._set_aside: Token | None = None  # an upstream refused it: another is wanted
        self._renewed_for: Token | None = None  # the refused token that the renewal under way is for
        self._renewal = SingleFlight(self._renew, name=f"renew {name}", ended=self._ended)

    def take(self) -> Token | None:
        """Return the token that is usable right now, or None; begin its early renewal when that is due."""
        now = self._clock()
        if self._sure_from <= now < self._sure_until:
            return self._sure
        token = self._cache.get(self._key)
        if token is None or not self._serves(token, now):
            return None
        if now >= self._renew_at and not self._renewal.under_way:
            self._begin_renewal()  # in the background: the old token serves meanwhile
        elif token is not self._set_aside and not self._renewal.under_way:
            self._sure, self._sure_from = token, now
            self._sure_until = min(now + SURE_SECONDS, self._renew_at, token.usable_until)
        return token

    @property
    def cached(self) -> Token | None:
        """The token that is cached, usable or not."""
        return self._cache.get(self._key)

    @property
    def usable(self) -> bool:
        """Whether a usable token is cached; asking does not renew it."""
        token = self._cache.get(self._key)
        if token is None:
            return False
        return self._serves(token, self._clock())

    @property
    def expires_at(self) -> float | None:
        """When the cached token ends, in epoch seconds; None when nobody said, or there is none."""
        token = self._cache.get(self._key)
        return token.expires_at if token is not None and token.expires_at < inf else None

    @property
    def failure(self) -> AuthproxyError | None:
        """Why the last renewal failed; None once one succeeds."""
        return self.trouble.error if self.trouble is not None else None

    @property
    def renewing(self) -> bool:
        """Whether a renewal is under way."""
        return self._renewal.under_way

    @property
    def renewed_at(self) -> float | None:
        """When the cached token was issued, or came here if nobody said; None when there is none."""
        token = self._cache.get(self._key)
        return (token.issued_at or self._kept_at) if token is not None else None

    @property
    def kept_at(self) -> float:
        """When the cached token came here, in epoch seconds."""
        return self._kept_at

    @property
    def ended_at(self) -> float | None:
        """When the cached token ceased to be usable; None when it is usable, or there is none."""
        token = self._cache.get(self._key)
        return token.usable_until if token is not None and token.usable_until <= self._clock() else None

    def origin(self) -> Origin:
        """Tell how who asks for a token now, and has to wait for it, comes by it."""
        if self._renewal.under_way:
            return "waited"
        return "fetched" if self._cache.get(self._key) is None else "renewed"

    async def token(self, *, instead_of: Token | None = None) -> Token:
        token = self.take()
        if token is not None:
            if token != instead_of:
                return token
            self._set_aside = token
            self._sure_until = -inf
        try:
            return await self._renewed_token(instead_of)
        except TokenError:
            cached = self.take()
            if cached is None or cached == instead_of:
                raise
            return cached

    async def adopt(self, token: Token) -> None:
        await super().adopt(token)
        self._keep(token)

    def rename(self, name: str) -> None:
        self.name = name
        super().rename(name)

    async def renew(self) -> Token:
        """Obtain another token now, because a person asked. Raises `TokenError`, and `TooManyTries`."""
        if not self._renewal.under_way:
            await self.allow_try()
        return await asyncio.shield(self._begin_renewal())

    async def forget(self) -> None:
        await self.settle()  # what is under way would be kept after all
        try:
            await super().forget()
        finally:
            self.drop()

    def drop(self) -> None:
        """Have no token any longer, and know of no failure."""
        self._cache.pop(self._key, None)
        self._set_aside = self.trouble = None
        self._sure_until = -inf
        self._renew_at = inf
        self._note_change()

    def replaced(self, refused: Token, token: Token) -> None:
        """Go on with `token` if `refused` is the one that is cached."""
        if self._cache.get(self._key) == refused:
            self._keep(token)

    async def settle(self) -> None:
        """Wait for the renewal under way, if there is one: broken off, it may lose a refresh token."""
        await self._renewal.wait(SETTLE_SECONDS)

    def _serves(self, token: Token, now: float) -> bool:
        return (token is not self._set_aside and now < token.usable_until) or self._will_do(token, now)

    def _will_do(self, token: Token, now: float) -> bool:
        """Tell whether a token of which another is wanted serves all the same: none can be had for now.

        One that has only just come is not renewed again because it ends so soon.
        """
        if self.failure is not None or self._is_slow:
            return now < token.expires_at
        return token is not self._set_aside and abs(now - self._kept_at) < MIN_SECONDS

    # ── renewal ──────────────────────────────────────────────────────────────────────────────────

    async def _renewed_token(self, instead_of: Token | None) -> Token:
        joined, for_refused = self._renewal.under_way, self._renewed_for
        renewal = self._begin_renewal(instead_of)
        if (old := self._cache.get(self._key)) is not None and old != instead_of:
            await asyncio.wait([renewal], timeout=self._wait_seconds)
            if not renewal.done() and self._clock() < old.expires_at:
                self._is_slow = True
                return old
        token = await asyncio.shield(renewal)
        if joined and token == instead_of != for_refused:
            # That renewal began before our own refusal and brought what was refused: ask once more. The
            # next one, whoever starts it, begins after our refusal, so its answer is final.
            token = await asyncio.shield(self._begin_renewal(instead_of))
        return token

    def _begin_renewal(self, instead_of: Token | None = None) -> asyncio.Task[Token]:
        """Begin to renew what is cached; where nothing is, what somebody else had, and was refused."""
        if self._renewal.under_way:
            return self._renewal.begin()
        empty = self._cache.get(self._key) is None
        self._renewed_for = instead_of if empty else self._set_aside
        begun = self._renewal.begin()
        self._note_change()
        return begun

    async def _renew(self) -> Token:
        cached = self._cache.get(self._key)
        token = await self._inner.token(instead_of=cached if cached is not None else self._renewed_for)
        self._keep(token)
        return token

    def _keep(self, token: Token) -> None:
        self._cache[self._key] = token
        self._set_aside = self.trouble = None
        self._sure_until = -inf
        self._kept_at = self._clock()
        self._renew_at = self._early.renew_at(token, self._kept_at)
        self._note_change()

    def _ended(self, task: asyncio.Task[Token]) -> None:
        """Remember why a renewal failed, and when to try again."""
        self._renewed_for = None
        self._is_slow = False
        if not task.cancelled() and (failure := task.exception()) is not None:
            self._note_failure(failure)
        self._note_change()

    def _note_failure(self, failure: BaseException) -> None:
        now = self._clock()
        if isinstance(failure, AuthproxyError):
            self.trouble = self._trouble(failure, now)
        else:
            logs.error("token renewal failed", route=self.name, cause=type(failure).__name__)
        if (token := self._cache.get(self._key)) is not None:
            self._renew_at = self._early.retry_at(token, self.failure, now)

    def _trouble(self, failure: AuthproxyError, now: float) -> Trouble:
        """Return `failure` with its times; who asks while all is left alone hears of the first one."""
        last = self.trouble
        is_told_again = last is not None and last.next_try_at is not None and now < last.next_try_at
        next_try_at = now + failure.retry_after if failure.retry_after is not None else None
        if last is None:
            return Trouble(failure, now, now, next_try_at)
        return Trouble(failure, last.at if is_told_again else now, last.since, next_try_at)

    def _note_change(self) -> None:
        self.since = self._clock()
        self.changed()

    def __repr__(self) -> str:
        token = self._cache.get(self._key)
        if token is None:
            return f"<CachedSource {self.name} empty>"
        state = "set aside" if token is self._set_aside else "held"
        if token.expires_at == inf:
            return f"<CachedSource {self.name} {state} until refused>"
        ends = datetime.fromtimestamp(token.expires_at, UTC)
        return f"<CachedSource {self.name} {state} until {ends:%H:%M:%SZ}>"
