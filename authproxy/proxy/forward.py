"""The heart: send a request with a token, and once more with another one when that token is refused.

    token held? ── no ──▶ wait for one
        │
        ▼
      send ──▶ refused? ── no ──▶ the reply
                  │
                 yes ──▶ a token other than that one ──▶ send once more ──▶ the reply, whatever it is

A request answered 401 has not been applied (RFC 9110 §15.5.2): that is what makes repeating a POST
right. A connection that dies unanswered proves nothing of the kind, so there only idempotent requests
are sent again (§9.2.2).
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from authproxy import logs
from authproxy.errors import TokenError
from authproxy.proxy.body import Body
from authproxy.proxy.upstream.connection import ClosedUnanswered, Connection, Reply
from authproxy.proxy.upstream.pool import Pool
from authproxy.tokens.source import HeldSource
from authproxy.tokens.token import Token

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE", "PROPFIND", "REPORT", "SEARCH"})


@dataclass(slots=True)
class Outgoing:
    """A request as it goes to the upstream: all but the credential's line and the end of the head.

    `exchange` is what is under way for it, from the moment a connection was lent. Who made the request
    closes it in the end, whatever happened on the way: nobody else has to give a connection back.
    """

    method: str
    head: bytes
    body: Body | None
    upgrades: bool = False
    retried: bool = False
    exchange: "Exchange | None" = None

    @property
    def repeatable(self) -> bool:
        return self.body is None or self.body.repeatable

    @property
    def idempotent(self) -> bool:
        return self.method in IDEMPOTENT

    def abort(self) -> None:
        """Break off what is under way; there is nobody to answer."""
        if self.exchange is not None:
            self.exchange.abort()

    async def close(self) -> None:
        """Have done with what is under way: it is broken off, and the client's body is free again."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            await exchange.close()


class Sender:
    """Sends requests to one upstream. Times are in seconds.

    `upgrades` is for those that ask for another protocol, when they need connections of another kind.
    """

    def __init__(
        self, pool: Pool, *, response_seconds: float, idle_seconds: float, upgrades: Pool | None = None
    ) -> None:
        self.pool = pool
        self._upgrades = upgrades or pool
        self._response_seconds = response_seconds
        self._idle_seconds = idle_seconds

    def begin_at_once(self, outgoing: Outgoing, credential: bytes) -> "Exchange | None":
        """Send `outgoing` on a connection that is open already, if there is one."""
        pooled = self._pool(outgoing).take(surely_alive=not outgoing.idempotent)
        return self._begin(pooled, outgoing, credential) if pooled is not None else None

    async def send(self, outgoing: Outgoing, credential: bytes) -> "Exchange":
        """Send `outgoing` with the line `credential` and wait for the head of the reply.

        What `begin_at_once` began is gone on with. Raises `UpstreamError`, and `RequestRefused` when the
        client's body is at fault; the one who made `outgoing` closes it then too.
        """
        exchange = outgoing.exchange or self.begin_at_once(outgoing, credential)
        if exchange is None:
            # At its limit the pool hands over one that was in use until now: that may be dead as well.
            exchange = self._begin(await self._pool(outgoing).connect(), outgoing, credential)
        try:
            await exchange.reply.head()
        except ClosedUnanswered:
            if not (outgoing.idempotent and outgoing.repeatable):
                raise
            await outgoing.close()
            exchange = self._begin(await self._pool(outgoing).connect(), outgoing, credential)
            await exchange.reply.head()
        return exchange

    def _pool(self, outgoing: Outgoing) -> Pool:
        return self._upgrades if outgoing.upgrades else self.pool

    def _begin(self, connection: Connection, outgoing: Outgoing, credential: bytes) -> "Exchange":
        exchange = outgoing.exchange = Exchange(connection)  # first of all: what follows may raise
        head = b"".join((outgoing.head, credential, b"\r\n"))
        body = outgoing.body
        if body is not None and (whole := body.at_hand()) is not None:
            head += (body.frame(whole) if whole else b"") + body.last
            body = None
        exchange.reply = connection.begin(
            head,
            method=outgoing.method,
            response_seconds=self._response_seconds,
            idle_seconds=self._idle_seconds,
            more=body is not None,
            may_switch=outgoing.upgrades,
        )
        exchange.lent = None
        if body is not None:
            exchange.upload = asyncio.create_task(self._upload(connection, body), name="upload")
        return exchange

    async def _upload(self, connection: Connection, body: Body) -> None:
        try:
            async for piece in body.chunks():
                if not await connection.send(body.frame(piece)):
                    return  # answered, or lost, before it was all out
            if body.last and not await connection.send(body.last):
                return
            connection.sent(self._response_seconds)
        except Exception as error:  # noqa: BLE001 - whatever it is, the one who waits for the reply hears it
            connection.fail(error)


class Exchange:
    """One request on its way: the connection lent to it, the reply, the upload that may still be running."""

    __slots__ = ("lent", "reply", "upload")

    def __init__(self, connection: Connection) -> None:
        self.lent: Connection | None = connection  # until there is a reply to be had on it
        self.reply: Reply = cast("Reply", None)
        self.upload: asyncio.Task[None] | None = None

    def abort(self) -> None:
        """Break it off; there is nobody to answer."""
        if self.lent is not None:
            self.lent.abort()
        else:
            self.reply.close()
        if self.upload is not None:
            self.upload.cancel()

    async def close(self) -> None:
        """Have done with it: what is not finished is broken off, and the client's body is free again."""
        self.abort()
        if self.upload is not None and not self.upload.done():
            await asyncio.wait([self.upload])


class Credential:
    """The line that one route adds, and what it does when the upstream refuses it.

    `statuses` are what counts as a refusal; `cooldown` is in seconds. With `asks_freely` another token may be
    asked for as often as one likes: it costs nobody anything.
    """

    def __init__(
        self,
        source: HeldSource,
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

    async def send(self, outgoing: Outgoing, sender: Sender, token: Token | None = None) -> Exchange:
        """Send `outgoing`, and once more if its token is refused.

        `token` is the one it was begun with, if it was. Raises what `Sender.send` does, and `TokenError`.
        """
        if token is None:
            token = self.source.held() or await self.source.token()
        exchange = await sender.send(outgoing, self.line(token))
        if not self._may_renew(exchange.reply, token):
            return exchange
        fresh = await self._other_than(token)
        if fresh is None or not self._may_repeat(outgoing):
            return exchange
        await outgoing.close()
        outgoing.retried = True
        exchange = await sender.send(outgoing, self.line(fresh))
        self._may_renew(exchange.reply, fresh)
        return exchange

    def refuses(self, status: int) -> bool:
        """Whether the upstream says that the token will not do."""
        return status in self._statuses

    def accepted(self, token: Token) -> None:
        """Note that `token` does what it should."""
        if self._on_trial is not None and token == self._on_trial:
            self._on_trial = None

    def _may_renew(self, reply: Reply, token: Token) -> bool:
        """Whether another token could help: not while one has just not helped, nor with too little scope."""
        if not self.refuses(reply.status):
            self.accepted(token)
            return False
        if any(
            name.lower() == b"www-authenticate" and b"insufficient_scope" in value
            for name, value in reply.headers
        ):
            return False
        now = self._clock()
        if token == self._on_trial:  # it came in place of a refused one, and never did any better
            self._cool_until = now + self._cooldown
            self._on_trial = None
        if now >= self._cool_until:
            return True
        held = self.source.held()
        return held is not None and held != token  # that one is to be had for nothing

    def _may_repeat(self, outgoing: Outgoing) -> bool:
        return outgoing.repeatable and (outgoing.idempotent or not self._idempotent_only)

    async def _other_than(self, refused: Token) -> Token | None:
        """Return another token, or None when there is none: then the upstream's own answer must do."""
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
