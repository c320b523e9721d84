"""Rejected credentials, remembered beyond the process: a wrong password is not tried once a start.

    Rejection           what the token endpoint said, when, how often, and when the next try is due
    RememberedRejection one credential's, in a token store: looked at before each try

An entry's name is made of the credential's settings without its secrets, and of 16 bits of a keyed hash over
the secrets: enough to notice a new one, too few to guess one from. Who cannot remember goes on without.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from authproxy import logs
from authproxy.errors import BadTokenReply, CredentialRejected, StoreError, TokenError
from authproxy.tokens.source import Clock

MARK_DIGITS = 4  # hexadecimal: 16 bits
TURN_SECONDS = 3.0  # a process that hangs, or was stopped, holds up the others no longer than this

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A refusal by a token endpoint, the `failures`-th in a row. Times are epoch seconds."""

    detail: str
    hint: str | None
    error: str | None
    in_good_order: bool
    """Whether it was an answer without a token rather than a refusal in so many words."""
    title: str | None = None
    failures: int
    at: float
    next_try_at: float

    def seconds_left(self, now: float) -> float:
        """Return how long the credential is to be left alone; a clock set back does not lengthen it."""
        return min(self.next_try_at - now, self.next_try_at - self.at)

    def as_error(self) -> TokenError:
        """Return the failure as it was first told."""
        kind = BadTokenReply if self.in_good_order else CredentialRejected
        failure = kind(self.detail, title=self.title, hint=self.hint, error=self.error)
        failure.rejects = True
        return failure


class RejectionStore(Protocol):
    """What is asked of a token store. Every method raises `StoreError` when it cannot be used."""

    async def mark(self, text: str) -> str:
        """Return a keyed hash of `text`, in hexadecimal."""
        ...

    async def load_rejection(self, key: str) -> Rejection | None: ...

    async def save_rejection(self, key: str, rejection: Rejection) -> None: ...

    async def forget(self, key: str) -> None: ...

    def lock(self, key: str) -> AbstractAsyncContextManager[None]: ...


class RememberedRejection:
    """What is remembered of one credential.

    The first of `stores` that can be used is. `identity` is the same for every secret of the credential,
    `secret` tells its secrets as they are now.
    `takes_turns` has processes try one after the other, where no other lock sees to that. With `retry` what
    was remembered before is passed over once: a person asked for it.
    """

    def __init__(
        self,
        stores: Sequence[RejectionStore],
        identity: str,
        secret: Callable[[], str],
        *,
        takes_turns: bool = False,
        retry: bool = False,
        clock: Clock = time.time,
    ) -> None:
        self.clock = clock
        self._stores = stores
        self._identity = identity
        self._secret = secret
        self._takes_turns = takes_turns
        self._retry = retry
        self._told = False

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait, not for long, until no other process tries this credential, as far as that can be known."""
        async with contextlib.AsyncExitStack() as stack:
            if self._takes_turns:
                with contextlib.suppress(StoreError, TimeoutError):
                    async with asyncio.timeout(TURN_SECONDS):
                        store = self._stores[0]
                        await stack.enter_async_context(store.lock(await self._key(store)))
            yield

    async def recall(self) -> Rejection | None:
        """Return the last rejection, which may be over by now; None when there is none to heed."""
        if self._retry:
            await self.forget()
        return await self._first(lambda store, key: store.load_rejection(key))

    async def remember(self, rejection: Rejection) -> None:
        """Keep `rejection` for this process, the next one and those beside it."""
        await self._first(lambda store, key: store.save_rejection(key, rejection))

    async def forget(self) -> None:
        """Remember nothing any longer."""
        self._retry = False
        await self._first(lambda store, key: store.forget(key))

    async def _first(self, ask: Callable[[RejectionStore, str], Awaitable[T]]) -> T | None:
        """Return what the first store says that can be used; None, and say so once, when there is none."""
        trouble = None
        for store in self._stores:
            try:
                return await ask(store, await self._key(store))
            except StoreError as error:
                trouble = trouble or error
        if trouble is not None and not self._told:
            self._told = True
            logs.warning("cannot remember rejected credentials", cause=trouble.detail, hint=trouble.hint)
        return None

    async def _key(self, store: RejectionStore) -> str:
        mark = await store.mark(self._secret())
        return f"rejected {self._identity} {mark[:MARK_DIGITS]}"
