"""`TokenSource`, and the cup that holds a token in memory.

    many callers:          token(instead_of=A)   token(instead_of=A)   token()
                                    └─────────────────────┼───────────────┘
                              one renewal task, one answer for all of them
                                                          │
                                              source behind, asked once

A renewal is shared, not queued for: everyone who waits gets its token, or its failure. A caller that
goes away does not take the renewal with it.

A token that an upstream refused is set aside, not thrown away: another is wanted, but while none can be had
(the endpoint is down, left alone, or says no) it goes on serving until it ends.
"""

import asyncio
import random
import time
from collections.abc import MutableMapping
from datetime import UTC, datetime
from math import inf

from cachetools import LRUCache

from authproxy import logs
from authproxy.errors import AuthproxyError, TokenError
from authproxy.tokens.source import Clock, TokenSource
from authproxy.tokens.token import Token

TokenCache = MutableMapping[str, Token]

REFRESH_BEFORE = 60.0  # `refresh_before: auto` is this many seconds…
REFRESH_SHARE = 0.2  # …or this share of the lifetime, if that is less
JITTER = 0.1  # how much of that it may start earlier, so that replicas do not renew in step
RETRY_SHARE = 0.1  # a failed early renewal is tried again after this share of what is left
LEAST_SECONDS = 1.0  # between two renewals that nothing but the token's own end asks for
SETTLE_SECONDS = 10.0  # how long the end of the process waits for a renewal under way
CACHE_SIZE = 4096  # tokens; the least recently used goes first


def token_cache(credentials: int = 0) -> TokenCache:
    """Return the in-memory cache, shared by all credentials of a process, with room for so many at least.

    Entries outlive their access token: the refresh token in them is still good.
    """
    return LRUCache(max(CACHE_SIZE, credentials))


class CachedSource:
    """Holds one credential's token; renews it early, and once for all who wait.

    `refresh_before` is in seconds; None means `auto`.
    """

    def __init__(
        self,
        source: TokenSource,
        cache: TokenCache,
        key: str,
        *,
        name: str,
        refresh_before: float | None = None,
        clock: Clock = time.time,
    ) -> None:
        self.name = name
        self._source = source
        self._cache = cache
        self._key = key
        self._refresh_before = refresh_before
        self._clock = clock
        self._renew_at = inf
        self._kept_at = -inf  # when the token that is held came
        self._set_aside: Token | None = None  # an upstream refused it: another is wanted
        self.failure: AuthproxyError | None = None  # why the last renewal failed; None once one succeeds
        self._renewal: asyncio.Task[Token] | None = None
        self._renewed_for: Token | None = None  # the refused token that the renewal under way is for

    def cached(self) -> Token | None:
        token = self._cache.get(self._key)
        if token is None:
            return None
        now = self._clock()
        if (token is self._set_aside or now >= token.usable_until) and not self._will_do(token, now):
            return None
        if now >= self._renew_at and self._renewal is None:
            self._renew()  # in the background: the old token serves meanwhile
        return token

    def _will_do(self, token: Token, now: float) -> bool:
        """Tell whether a token of which another is wanted serves all the same: none can be had for now.

        One that has only just come is not renewed again because it ends so soon.
        """
        if self.failure is not None:
            return now < token.expires_at
        return token is not self._set_aside and abs(now - self._kept_at) < LEAST_SECONDS

    @property
    def usable(self) -> bool:
        """Whether a usable token is held; asking does not renew it."""
        token = self._cache.get(self._key)
        if token is None:
            return False
        now = self._clock()
        return (token is not self._set_aside and now < token.usable_until) or self._will_do(token, now)

    @property
    def expires_at(self) -> float | None:
        """When the token that is held ends, in epoch seconds; None when nobody said, or none is held."""
        token = self._cache.get(self._key)
        return token.expires_at if token is not None and token.expires_at < inf else None

    async def token(self, *, instead_of: Token | None = None) -> Token:
        token = self.cached()
        if token is not None:
            if token != instead_of:
                return token
            self._set_aside = token
        try:
            return await self._renewed_token(instead_of)
        except TokenError:
            held = self.cached()
            if held is None or held == instead_of:
                raise
            return held

    async def _renewed_token(self, instead_of: Token | None) -> Token:
        under_way, for_refused = self._renewal, self._renewed_for
        token = await asyncio.shield(under_way or self._renew())
        if under_way is not None and token == instead_of != for_refused:
            # That renewal began before our own refusal and brought what was refused: ask once more. The
            # next one, whoever starts it, begins after our refusal, so its answer is final.
            token = await asyncio.shield(self._renewal or self._renew())
        return token

    def adopt(self, token: Token) -> None:
        """Hold a token that was earned elsewhere, by a person's login."""
        self._keep(token)

    async def settle(self) -> None:
        """Wait for the renewal under way, if there is one: broken off, it may lose a refresh token."""
        if self._renewal is not None:
            await asyncio.wait([self._renewal], timeout=SETTLE_SECONDS)

    def _renew(self) -> asyncio.Task[Token]:
        self._renewed_for = self._set_aside
        self._renewal = asyncio.create_task(self._ask(), name=f"renew {self.name}")
        self._renewal.add_done_callback(self._renewed)
        return self._renewal

    async def _ask(self) -> Token:
        expired = self._cache.get(self._key)
        token = await self._source.token(instead_of=expired)
        self._keep(token)
        return token

    def _keep(self, token: Token) -> None:
        self._cache[self._key] = token
        self._set_aside = self.failure = None
        self._kept_at = self._clock()
        self._renew_at = max(self._early(token), self._kept_at + LEAST_SECONDS)

    def _renewed(self, task: asyncio.Task[Token]) -> None:
        """Clear the way for the next renewal; remember why this one failed."""
        self._renewal = self._renewed_for = None
        if task.cancelled() or (failure := task.exception()) is None:
            return
        if isinstance(failure, AuthproxyError):
            self.failure = failure
        else:
            logs.error("token renewal failed", route=self.name, cause=type(failure).__name__)
        if (token := self._cache.get(self._key)) is not None:
            self._renew_at = self._clock() + self._pause(token)

    def _pause(self, token: Token) -> float:
        """Return the seconds until a failed renewal is tried again in the background."""
        if self.failure is not None and self.failure.retry_after is not None:
            return max(LEAST_SECONDS, self.failure.retry_after)
        left = token.usable_until - self._clock()
        return max(LEAST_SECONDS, left * RETRY_SHARE if left < inf else REFRESH_BEFORE)

    def _early(self, token: Token) -> float:
        before = self._refresh_before
        if before is None:
            before = min(REFRESH_BEFORE, token.lifetime * REFRESH_SHARE)
        # A margin of more than half the lifetime would renew on nearly every request.
        before = min(before, token.lifetime / 2)
        return token.expires_at - before * (1 + random.uniform(0, JITTER))  # noqa: S311 - spreads load only

    def __repr__(self) -> str:
        token = self._cache.get(self._key)
        if token is None:
            return f"<CachedSource {self.name} empty>"
        state = "set aside" if token is self._set_aside else "held"
        if token.expires_at == inf:
            return f"<CachedSource {self.name} {state} until refused>"
        ends = datetime.fromtimestamp(token.expires_at, UTC)
        return f"<CachedSource {self.name} {state} until {ends:%H:%M:%SZ}>"
