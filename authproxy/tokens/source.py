"""`TokenSource`: all that the data path knows about authentication, and `Layer`, of which a stack is made.

outer ─▶ … ─▶ inner        each layer wraps the next one, and none asks what it wraps
"""

from collections.abc import Callable
from typing import Literal, Protocol

from authproxy.tokens.token import Token

Clock = Callable[[], float]
Origin = Literal["held", "fetched", "renewed", "waited"]
"""How a request came by its token: it was cached, the first one, in the place of another one, or somebody
else had begun to fetch it."""


class TokenSource(Protocol):
    """Anything that can hand out a usable token."""

    async def token(self, *, instead_of: Token | None = None) -> Token:
        """Return a usable token, other than `instead_of`, the one that will not do.

        Raises `TokenError` when none can be had. A source that has nothing else to offer (a static
        token) may return an equal one.
        """
        ...

    async def ready(self) -> None:
        """Return when another token may be asked for; raise `TokenError` while that is left alone."""
        ...

    async def adopt(self, token: Token) -> None:
        """Take a token that was obtained elsewhere, by a person's login or by another process."""
        ...

    async def allow_try(self) -> None:
        """Let the next renewal try, whatever failed before: a person asked. Raises `TooManyTries`."""
        ...

    async def forget(self) -> None:
        """Forget the token, stored copies of it and what was rejected."""
        ...

    async def close(self) -> None:
        """Stop what goes on in the background."""
        ...

    def rename(self, name: str) -> None:
        """Go by another route's name in what is logged."""
        ...


class CachingSource(TokenSource, Protocol):
    """A source that also answers without waiting."""

    def take(self) -> Token | None:
        """Return the token that is usable right now, or None; begin its early renewal when that is due."""
        ...

    def origin(self) -> Origin:
        """Tell how who asks for a token now, and has to wait for it, comes by it."""
        ...


class Layer:
    """A source that wraps another one and leaves to it what it does not do itself."""

    def __init__(self, inner: TokenSource) -> None:
        self._inner = inner

    async def token(self, *, instead_of: Token | None = None) -> Token:
        return await self._inner.token(instead_of=instead_of)

    async def ready(self) -> None:
        await self._inner.ready()

    async def adopt(self, token: Token) -> None:
        await self._inner.adopt(token)

    async def allow_try(self) -> None:
        await self._inner.allow_try()

    async def forget(self) -> None:
        await self._inner.forget()

    async def close(self) -> None:
        await self._inner.close()

    def rename(self, name: str) -> None:
        self._inner.rename(name)


class Innermost:
    """What a source has that wraps no other one: nothing to wait for, to keep, to stop or to rename."""

    async def ready(self) -> None:
        """Be asked at any time."""

    async def adopt(self, token: Token) -> None:
        """Keep nothing."""

    async def allow_try(self) -> None:
        """Be asked at any time."""

    async def forget(self) -> None:
        """Have nothing to forget."""

    async def close(self) -> None:
        """Have nothing to stop."""

    def rename(self, name: str) -> None:
        """Log nothing."""
