"""Sending a request to an upstream, on a connection that is open already or on a new one.

A connection that dies unanswered does not prove that the request was not applied, so only idempotent
requests are sent again (RFC 9110 §9.2.2).
"""

import asyncio
from time import perf_counter

from authproxy.observe.record import Notes
from authproxy.proxy.body import Body, WholeBody
from authproxy.proxy.upstream.connection import ClosedUnanswered, Connection
from authproxy.proxy.upstream.pool import Pool
from authproxy.proxy.upstream.reply import Reply
from authproxy.tokens.token import Token

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE", "PROPFIND", "REPORT", "SEARCH"})


class Outgoing:
    """A request as it goes to the upstream: all but the credential's line and the end of the head.

    What is under way for it is here as well: the connection `lent` to it until there is a reply to be had,
    that `reply`, and the `upload` that may still be running. Who made the request closes it in the end,
    whatever happened on the way: nobody else has to give a connection back.
    """

    retried = False
    bare: bytes | None = None  # the head without a token, where one goes into it
    refused = False  # by an upstream that another token did not convince
    not_repeated = ""  # why it was not sent once more, though it was refused
    token: Token | None = None  # the last one that it was sent with
    notes: Notes | None = None  # set where somebody may have to wait
    uploads = False  # whether its body was not all there when it was begun
    lent: Connection | None = None
    reply: Reply | None = None
    upload: asyncio.Task[None] | None = None

    def __init__(
        self, method: str, head: bytes, body: "Body | WholeBody | None" = None, *, upgrades: bool = False
    ) -> None:
        self.method = method
        self.head = head
        self.body = body
        self.upgrades = upgrades

    def note(self, what: str, detail: str) -> None:
        """Note that a step has ended."""
        if self.notes is not None:
            self.notes.steps.append((what, detail, perf_counter()))

    @property
    def repeatable(self) -> bool:
        return self.body is None or self.body.repeatable

    @property
    def idempotent(self) -> bool:
        return self.method in IDEMPOTENT

    def abort(self) -> None:
        """Break off what is under way; there is nobody to answer."""
        if self.lent is not None:
            self.lent.abort()
        elif self.reply is not None:
            self.reply.watcher = self.reply.watched = None
            self.reply.close()
        if self.upload is not None:
            self.upload.cancel()

    async def close(self) -> None:
        """Have done with what is under way: it is broken off, and the client's body is free again."""
        self.abort()
        upload = self.upload
        self.lent = self.reply = self.upload = None
        if upload is not None and not upload.done():
            await asyncio.wait([upload])


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

    def begin_at_once(self, outgoing: Outgoing, credential: bytes) -> Reply | None:
        """Send `outgoing` on a connection that is open already, if there is one; return what comes of it."""
        pool = self._upgrades if outgoing.upgrades else self.pool
        pooled = pool.take(check_liveness=outgoing.method not in IDEMPOTENT)
        return self._begin(pooled, outgoing, credential) if pooled is not None else None

    async def send(self, outgoing: Outgoing, credential: bytes) -> Reply:
        """Send `outgoing` with the line `credential` and wait for the head of the reply.

        What `begin_at_once` began is gone on with. Raises `UpstreamError`, and `RequestRefused` when the
        client's body is at fault; the one who made `outgoing` closes it then too.
        """
        reply = outgoing.reply or self.begin_at_once(outgoing, credential)
        if reply is None:
            # At its limit the pool hands over one that was in use until now: that may be dead as well.
            reply = self._begin(await self._connect(outgoing), outgoing, credential)
        try:
            await reply.head()
        except ClosedUnanswered:
            if not (outgoing.idempotent and outgoing.repeatable):
                raise
            outgoing.note("upstream", "the kept connection was dead")
            await outgoing.close()
            reply = self._begin(await self._connect(outgoing), outgoing, credential)
            await reply.head()
        outgoing.note("upstream", f"answered {reply.status}")
        return reply

    async def _connect(self, outgoing: Outgoing) -> Connection:
        connection = await self._pool(outgoing).connect()
        outgoing.note("connect", "new" if not connection.exchanges else "kept")
        return connection

    def _pool(self, outgoing: Outgoing) -> Pool:
        return self._upgrades if outgoing.upgrades else self.pool

    def _begin(self, connection: Connection, outgoing: Outgoing, credential: bytes) -> Reply:
        outgoing.lent = connection  # first of all: what follows may raise
        body = outgoing.body
        if body is None:
            data = b"%b%b\r\n" % (outgoing.head, credential)
        elif (whole := body.at_hand()) is not None:
            data = b"%b%b\r\n%b%b" % (
                outgoing.head, credential, body.frame(whole) if whole else b"", body.last,
            )  # fmt: skip
            body = None
        else:
            data = b"%b%b\r\n" % (outgoing.head, credential)
        reply = outgoing.reply = connection.begin(
            data,
            method=outgoing.method,
            response_seconds=self._response_seconds,
            idle_seconds=self._idle_seconds,
            more=body is not None,
            may_switch=outgoing.upgrades,
        )
        outgoing.lent = None
        if body is not None:
            outgoing.uploads = True
            outgoing.upload = asyncio.create_task(self._upload(connection, body), name="upload")
        return reply

    async def _upload(self, connection: Connection, body: Body | WholeBody) -> None:
        try:
            async for piece in body.chunks():
                if not await connection.send(body.frame(piece)):
                    return  # answered, or lost, before it was all out
            if body.last and not await connection.send(body.last):
                return
            connection.sent(self._response_seconds)
        except Exception as error:  # noqa: BLE001 - whatever it is, the one who waits for the reply hears it
            connection.fail(error)
