"""The layer that shares a token with other processes, through a store.

    a usable token in the store, other than the refused one? ── yes ──▶ that one, without a lock
        │ no
      lock ──▶ look again ──▶ renew with what the store holds ──▶ save ──▶ release
                   └── somebody was quicker ──▶ theirs

Only whoever holds the lock spends a refresh token, and it spends the stored one, which is the newest. What
comes back is saved before anybody uses it: where refresh tokens rotate, one that is used but not kept is a
login lost. When the store cannot be used each process goes on by itself from memory, and says so; what it
obtained meanwhile is put into the store when that is back, unless another process was there in between.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from authproxy import logs
from authproxy.errors import StoreBusy, StoreError, TokenError, TokenUnavailable
from authproxy.tokens.source import Clock, Layer, TokenSource
from authproxy.tokens.stores import TokenStore
from authproxy.tokens.token import Token

UNAVAILABLE = "token store unavailable"
MEANWHILE = "memory serves, for this process alone"
MEND_SECONDS = 5.0  # between two tries to reach a store that cannot be used
BUSY_SECONDS = 5.0  # what a caller is told to wait when another process does not let go of the lock


class SharedSource(Layer):
    """Hands out the store's token for `key`; renews it, by the source behind, when no other process does.

    `store_trouble` says why the store cannot be used, or is None.
    """

    def __init__(
        self,
        inner: TokenSource,
        store: TokenStore,
        key: str,
        *,
        name: str,
        clock: Clock = time.time,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        super().__init__(inner)
        self.name = name
        self.store_trouble: str | None = None
        self._store = store
        self._key = key
        self._clock = clock
        self._sleep = sleep
        self._stored: Token | None = None  # what the store held when it was last heard of
        self._newest: Token | None = None  # the same, or what was obtained without the store since
        self._mending: asyncio.Task[None] | None = None

    async def token(self, *, instead_of: Token | None = None) -> Token:
        try:
            token = await self._find(instead_of)
            if token is not None:
                return token
            await self._inner.ready()  # while it is left alone there is nothing to wait for a lock for
            async with self._store.lock(self._key):
                token = await self._find(instead_of)
                return token if token is not None else await self._renew(instead_of)
        except StoreBusy as busy:
            raise TokenUnavailable(busy.detail, retry_after=BUSY_SECONDS) from busy
        except StoreError as trouble:
            self._in_trouble(trouble)
            return await self._go_alone(instead_of)

    async def adopt(self, token: Token) -> None:
        """Save a token that was obtained elsewhere, by a person's login."""
        await self._inner.adopt(token)
        try:
            async with self._store.lock(self._key):
                await self._store.save(self._key, token)
                self._newest = self._stored = token
        except StoreError as trouble:
            self._newest = token
            self._in_trouble(trouble)

    async def forget(self) -> None:
        await super().forget()
        self._newest = self._stored = None
        try:
            async with self._store.lock(self._key):
                await self._store.forget(self._key)
        except StoreError as trouble:
            self._in_trouble(trouble)
            raise

    async def close(self) -> None:
        """Stop waiting for a store that cannot be used."""
        if self._mending is not None:
            self._mending.cancel()
            await asyncio.wait([self._mending])
        await super().close()

    def rename(self, name: str) -> None:
        self.name = name
        super().rename(name)

    # ── with the store ───────────────────────────────────────────────────────────────────────────

    async def _find(self, instead_of: Token | None) -> Token | None:
        await self._load()
        return self._fit(instead_of)

    async def _load(self) -> None:
        stored = await self._store.load(self._key)
        if stored is not None and stored != self._stored:
            await self._inner.adopt(stored)
        unsaved = self._newest is not self._stored
        if not unsaved or (stored is not None and stored != self._stored):
            self._newest = stored
        # Else the store holds what it held before, or has lost it: what we obtained without it is newer.
        self._stored = stored

    def _fit(self, instead_of: Token | None) -> Token | None:
        """Return the newest token known, if it is usable and not the refused one."""
        token = self._newest
        if token is None or token == instead_of or self._clock() >= token.usable_until:
            return None
        return token

    async def _renew(self, instead_of: Token | None) -> Token:
        """Obtain a token and save it. Needs the lock."""
        try:
            token = self._newest = await self._inner.token(instead_of=self._newest or instead_of)
        except TokenError as failure:
            if failure.refresh_refused:
                await self._drop_refresh_token()
            raise
        try:
            await self._save()
        except StoreError as trouble:
            self._in_trouble(trouble)
        else:
            self._recovered()
        return token

    async def _drop_refresh_token(self) -> None:
        """Store the token without its refresh token: no other process should send a dead one."""
        if self._newest is not None:
            self._newest = replace(self._newest, refresh_token=None)
            with contextlib.suppress(StoreError):
                await self._save()

    async def _save(self) -> None:
        token = self._newest
        if token is not None and token is not self._stored:
            await self._store.save(self._key, token)
            self._stored = token

    # ── without it ───────────────────────────────────────────────────────────────────────────────

    async def _go_alone(self, instead_of: Token | None) -> Token:
        token = self._fit(instead_of)
        if token is None:
            token = self._newest = await self._inner.token(instead_of=self._newest or instead_of)
            self._mend()
        return token

    def _in_trouble(self, trouble: StoreError) -> None:
        if self.store_trouble is None:
            logs.warning(
                UNAVAILABLE, route=self.name, cause=trouble.detail, hint=trouble.hint,
                meanwhile=MEANWHILE,
            )  # fmt: skip
        self.store_trouble = trouble.detail
        self._mend()

    def _recovered(self) -> None:
        if self.store_trouble is not None:
            logs.info("token store available again", route=self.name)
        self.store_trouble = None

    def _mend(self) -> None:
        if self._mending is None or self._mending.done():
            self._mending = asyncio.create_task(self._keep_mending(), name=f"mend the store of {self.name}")

    async def _keep_mending(self) -> None:
        """Try the store until it can be used, and has what was obtained without it."""
        while self.store_trouble is not None or self._newest is not self._stored:
            await self._sleep(MEND_SECONDS)
            try:
                async with self._store.lock(self._key):
                    await self._load()
                    await self._save()
            except StoreError:
                continue
            self._recovered()

    def __repr__(self) -> str:
        state = "alone" if self.store_trouble is not None else "shared"
        return f"<SharedSource {self.name} {state}>"
