"""The connections to one route's upstream.

    take()      an idle one, at once, or None
    connect()   a new one; at the limit, wait for one to come back

Each route has a pool of its own, so a task never starves another. The last one back is the first
one out: the others may then fall asleep and be closed. None is kept for ever, so that a changed answer of the
DNS is heeded.

Whose turn it is, and whether there is room, is decided without an await. The waits are two: for a connection
to come back, and for one to be opened. Who leaves either of them gives back what was reserved for it.
"""

import asyncio
from collections import deque

from authproxy.errors import BadReply, ConnectionLimit, ConnectTimeout
from authproxy.net.dial import IN_TLS, Dialer
from authproxy.proxy.upstream.connection import Connection
from authproxy.proxy.upstream.forwarding import Forwarding

IDLE_SECONDS = 60.0  # an idle connection is closed after this; most servers keep theirs longer
MAX_LIFE = 3600.0  # seconds; after this a connection that comes back is closed (nginx's keepalive_time)


class Pool:
    """Lends out connections that `dialer` opens, at most `limit` at a time.

    `connect_seconds` bounds any wait.
    """

    def __init__(self, dialer: Dialer, *, limit: int, connect_seconds: float) -> None:
        self.origin = dialer.origin
        self._dialer = dialer
        self._limit = limit
        self._connect_seconds = connect_seconds
        other = "; or is it https:// there?" if dialer.origin.tls is None else ""
        self._hint = dialer.hint(f"and whether it speaks HTTP/1.1{other}")
        self._forwarding = None
        if dialer.proxy is not None and dialer.forwards:
            self._forwarding = Forwarding(dialer.proxy, str(dialer.origin))
        self._idle: deque[Connection] = deque()  # the oldest on the left
        self._open: set[Connection] = set()
        self._opening = 0
        self._waiters: deque[asyncio.Future[Connection | None]] = deque()
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def forwards(self) -> bool:
        """Whether an HTTP proxy asks the upstream for us."""
        return self._forwarding is not None

    def take(self, *, check_liveness: bool) -> Connection | None:
        """Return an idle connection, or None.

        With `check_liveness`, look first whether the upstream has closed it: for requests that must not be
        sent twice.
        """
        while self._idle:
            if not check_liveness or not self._idle[-1].is_readable():
                return self._idle.pop()
            self._idle[-1].abort()  # and with that it is gone from here
        return None

    async def connect(self) -> Connection:
        """Open a connection, or wait for one that comes back. Raises `UpstreamError`."""
        if self._reserve():
            return await self._open_one()
        connection = await self._wait()
        if connection is None:
            return await self._open_one()
        # It may have died on the way to us.
        return connection if not connection.closed else await self.connect()

    @property
    def _has_room(self) -> bool:
        return len(self._open) + self._opening < self._limit

    def _reserve(self) -> bool:
        """Reserve room for a new connection; tell whether there is any. An idle one makes room."""
        if self._idle and not self._has_room:
            self._idle.popleft().abort()
        if self._has_room:
            self._opening += 1
            return True
        return False

    async def _wait(self) -> Connection | None:
        """Return a connection that came back, or None when there is room, reserved for us, to open one."""
        waiter: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(self._connect_seconds):
                return await waiter
        except BaseException as error:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            elif not waiter.cancelled():  # served in the very moment in which we gave up
                self._hand_back(waiter.result())
            if not isinstance(error, TimeoutError):
                raise
            raise ConnectionLimit(
                f"all {self._limit} connections to {self._dialer.place} are in use",
                hint="raise `max_connections`, or ask for less at a time",
                retry_after=1,
            ) from None

    def _hand_back(self, served: Connection | None) -> None:
        if served is not None:
            self._back(served)
        else:
            self._opening -= 1
            self._wake_one()

    async def _open_one(self) -> Connection:
        try:
            async with asyncio.timeout(self._connect_seconds):
                return await self._dial()
        except TimeoutError as late:
            in_tls = IN_TLS in getattr(late.__cause__, "__notes__", ())
            raise self._too_late(in_tls=in_tls) from None
        finally:
            self._opening -= 1
            self._wake_one()

    def _too_late(self, *, in_tls: bool) -> ConnectTimeout:
        """Return the failure of an upstream that was not ready in time."""
        within = f"within {self._connect_seconds:g} s"
        if in_tls:
            return ConnectTimeout(
                f"{self._dialer.place} took the connection, but did not answer in TLS {within}",
                hint=self._dialer.hint("or is it http:// there?"),
            )
        return ConnectTimeout(
            f"{self._dialer.place} did not take the connection {within}",
            hint=self._dialer.hint("and whether it is up, or a firewall blocks it (`timeouts.connect`)"),
        )

    async def _dial(self) -> Connection:
        connection = await self._dialer.dial(self._new_connection)
        if connection.closed:  # before it was one of ours, so that nobody would ever take it off the count
            raise BadReply(
                f"{self._dialer.place} sent data, or closed the connection, before any request",
                hint=self._hint,
            )
        self._open.add(connection)
        return connection

    def _new_connection(self) -> Connection:
        return Connection(
            self._dialer.place,
            on_idle=self._back,
            on_lost=self._lost,
            forwarding=self._forwarding,
            hint=self._hint,
        )

    def _back(self, connection: Connection) -> None:
        """Take a connection back, for the one who waited longest."""
        if connection.closed:
            return
        if self._closed or connection.idle_since - connection.opened_at >= MAX_LIFE:
            connection.abort()
            return
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        self._idle.append(connection)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._close_idle)

    def _lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._wake_one()

    def _wake_one(self) -> None:
        """Let one who waits open a connection, when there is room for it."""
        while self._waiters and self._has_room:
            waiter = self._waiters.popleft()
            if not waiter.done():
                self._opening += 1
                waiter.set_result(None)
                return

    def _close_idle(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweep = None
        while self._idle and loop.time() - self._idle[0].idle_since >= IDLE_SECONDS:
            self._idle.popleft().abort()
        if self._idle:
            wake_at = self._idle[0].idle_since + IDLE_SECONDS
            self._sweep = loop.call_at(wake_at, self._close_idle)

    @property
    def counts(self) -> dict[str, int]:
        """The number of connections in each state, and of those who wait for one."""
        idle = len(self._idle)
        return {"active": len(self._open) - idle, "idle": idle, "waiting": len(self._waiters)}

    def close(self) -> None:
        """Close what is idle now, and the rest as it comes back."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        while self._idle:
            self._idle.pop().abort()

    def __repr__(self) -> str:
        counts = f"{len(self._open)} open, {len(self._idle)} idle, {len(self._waiters)} waiting"
        return f"<Pool {self._dialer.place} {counts}>"
