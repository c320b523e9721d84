"""Where a grant becomes a token source: the innermost of the stack.

CachedSource → BackoffSource → GrantSource → flow ⇄ runner
"""

import os
from collections.abc import Awaitable, Callable
from dataclasses import replace

from authproxy.errors import CredentialRejected, TokenError
from authproxy.grants.grant import Grant, with_fields_of
from authproxy.grants.runner import FlowRunner
from authproxy.grants.transport import DIRECT, Transport
from authproxy.tokens.single_flight import SingleFlight
from authproxy.tokens.source import CachingSource, Innermost, Layer
from authproxy.tokens.token import Token

Reread = Callable[[], Awaitable[Grant | None]]


class GrantSource(Innermost):
    """Runs a grant's flow each time it is asked.

    `reread` reads the secrets' sources (`${file:…}`, `${command:…}`) again and returns the grant they
    make now, or None when they cannot be read. It is asked only once a credential was rejected.

    A refresh token that the server refused is not sent again, though the expired token that brought it stays
    with whoever holds it until another one is obtained.
    """

    def __init__(
        self,
        grant: Grant,
        runner: FlowRunner,
        *,
        reread: Reread | None = None,
        transport: Transport = DIRECT,
    ) -> None:
        self.grant = grant  # as its secrets were when they were last read
        self._runner = runner
        self._reread = reread
        self._reading = SingleFlight(self._read_again, name="read secrets again")
        self._transport = transport
        self._refused: str | None = None  # the refresh token that the server refused last

    async def token(self, *, instead_of: Token | None = None) -> Token:
        if self.grant.in_configuration and instead_of is not None:
            await self.changed()
        try:
            flow = self.grant.flow(self._spendable(instead_of))
            token = await self._runner.run(flow, transport=self._transport)
            return with_fields_of(token, instead_of)
        except TokenError as failure:
            if failure.refresh_refused and instead_of is not None:
                self._refused = instead_of.refresh_token
            if not isinstance(failure, CredentialRejected) or not await self.changed():
                raise
            return await self._runner.run(self.grant.flow(None), transport=self._transport)

    async def changed(self) -> bool:
        """Read the secrets again, once for all who ask meanwhile; tell whether they are others now."""
        return await self._reading.join() if self._reread is not None else False

    async def _read_again(self) -> bool:
        grant = await self._reread() if self._reread is not None else None
        if grant is None or grant == self.grant:
            return False
        self.grant = grant
        return True

    def _spendable(self, expired: Token | None) -> Token | None:
        if expired is None or self._refused is None or expired.refresh_token != self._refused:
            return expired
        return replace(expired, refresh_token=None)

    def __repr__(self) -> str:
        return f"<GrantSource {type(self.grant).__name__}>"


class WatchedSource(Layer):
    """Lets go of the cached token as soon as the file that it came from changes.

    While the file is empty, missing or half written, the last good token serves.
    """

    def __init__(self, inner: CachingSource, path: str) -> None:
        super().__init__(inner)
        self._take = inner.take
        self.origin = inner.origin
        self._path = path
        self._seen: tuple[int, ...] | None = None

    def take(self) -> Token | None:
        token = self._take()
        return token if self._stamp() == self._seen else None

    async def token(self, *, instead_of: Token | None = None) -> Token:
        stamp = self._stamp()
        if stamp == self._seen:
            return await self._inner.token(instead_of=instead_of)
        last = self._take()
        try:
            token = await self._inner.token(instead_of=last or instead_of)
        except TokenError:
            if last is None or last == instead_of:
                raise
            return last  # and the file is looked at again for the next request
        self._seen = stamp
        return token

    def _stamp(self) -> tuple[int, ...] | None:
        """Tell one state of the file from the next; a file that is away for a moment has not changed."""
        try:
            status = os.stat(self._path)  # noqa: PTH116 - follows links: Kubernetes swaps a link
        except OSError:
            return self._seen
        return (status.st_mtime_ns, status.st_size, status.st_ino)

    def __repr__(self) -> str:
        return f"<WatchedSource {self._path} {self._inner!r}>"
