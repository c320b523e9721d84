"""The heart: a request whose token is refused is sent once more, with another one.

    token cached? ── no ──▶ wait for one
        │
        ▼
      send ──▶ refused? ── no ──▶ the reply
                  │
                 yes ──▶ a token other than that one ──▶ send once more ──▶ the reply, whatever it is

A request answered 401 has not been applied (RFC 9110 §15.5.2): that is what makes repeating a POST right.
"""

import time
from collections.abc import Callable

from authproxy import logs
from authproxy.errors import TokenError
from authproxy.proxy.send import Outgoing, Sender
from authproxy.proxy.upstream.reply import Reply
from authproxy.tokens.source import CachingSource
from authproxy.tokens.token import Token


class Credential:
    """The line that one route adds, and what it does when the upstream refuses it.

    `statuses` are what counts as a refusal; `cooldown` is in seconds. With `asks_freely` another token may be
    asked for as often as one likes: it costs nobody anything.
    """

    def __init__(
        self,
        source: CachingSource,
        *,
        header: str,
        scheme: str,
        statuses: frozenset[int],
        idempotent_only: bool,
        cooldown: float,
        asks_freely: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.source = source
        self.header = header
        self.scheme = scheme
        self._statuses = statuses
        self._idempotent_only = idempotent_only
        self._cooldown = cooldown
        self._asks_freely = asks_freely
        self._clock = clock
        self._cool_until = 0.0
        self._on_trial: Token | None = None
        self._token: Token | None = None
        self._line = b""

    def line(self, token: Token) -> bytes:
        """Return the header line for `token`; encoded once a token."""
        if token is not self._token:
            value = f"{self.scheme} {token.value}" if self.scheme else token.value
            self._token, self._line = token, f"{self.header}: {value}\r\n".encode("latin-1")
        return self._line

    async def send(self, outgoing: Outgoing, sender: Sender, token: Token | None = None) -> Reply:
        """Send `outgoing`, and once more if its token is refused.

        `token` is the one it was begun with, if it was. Raises what `Sender.send` does, and `TokenError`.
        """
        if token is None:
            token = self.source.take() or await self.source.token()
        reply = await sender.send(outgoing, self.line(token))
        self._learn(reply, token)
        if not self.refuses(reply.status) or lacks_scope(reply):
            return reply
        fresh = await self._other_than(token)
        if fresh is None or not self._may_repeat(outgoing):
            return reply
        await outgoing.close()
        outgoing.retried = True
        reply = await sender.send(outgoing, self.line(fresh))
        self._learn(reply, fresh)
        return reply

    def refuses(self, status: int) -> bool:
        """Whether the upstream says that the token will not do."""
        return status in self._statuses

    def accepted(self, token: Token) -> None:
        """Note that `token` does what it should."""
        if self._on_trial is not None and token == self._on_trial:
            self._on_trial = None

    def _learn(self, reply: Reply, token: Token) -> None:
        """Note whether `token` did what it should."""
        if not self.refuses(reply.status):
            self.accepted(token)
        elif token == self._on_trial and not lacks_scope(reply):
            # It came in place of a refused one, and is no better.
            self._cool_until = self._clock() + self._cooldown
            self._on_trial = None

    def _may_repeat(self, outgoing: Outgoing) -> bool:
        return outgoing.repeatable and (outgoing.idempotent or not self._idempotent_only)

    async def _other_than(self, refused: Token) -> Token | None:
        """Return another token, or None when there is none: then the upstream's own answer must do.

        None is asked for while one has just not helped; what is cached may be had all the same.
        """
        if self._clock() < self._cool_until and self.source.take() in {None, refused}:
            return None
        try:
            fresh = await self.source.token(instead_of=refused)
        except TokenError as error:
            logs.debug("no other token", cause=error.detail)
            return None
        if fresh == refused:
            if not self._asks_freely:
                self._cool_until = self._clock() + self._cooldown
            return None
        self._on_trial = fresh
        return fresh


def lacks_scope(reply: Reply) -> bool:
    """Tell whether a refused token is good, but may not do this (RFC 6750 §3.1): no other one may either."""
    return any(
        name.lower() == b"www-authenticate" and b"insufficient_scope" in value
        for name, value in reply.headers
    )
