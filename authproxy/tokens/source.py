"""`TokenSource`: all that the data path knows about authentication. One method."""

from collections.abc import Callable
from typing import Protocol

from authproxy.tokens.token import Token

Clock = Callable[[], float]


class TokenSource(Protocol):
    """Anything that can hand out a usable token."""

    async def token(self, *, instead_of: Token | None = None) -> Token:
        """Return a usable token, other than `instead_of`, the one that will not do.

        Raises `TokenError` when none can be had. A source that has nothing else to offer (a static
        token) may return an equal one.
        """
        ...


class CachingSource(TokenSource, Protocol):
    """A source that also knows, without waiting, what it holds."""

    def cached(self) -> Token | None:
        """Return the token that is usable right now, or None."""
        ...
