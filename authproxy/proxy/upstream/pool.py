"""The connections to one route's upstream.

    take()      an idle one, at once, or None
    connect()   a new one; at the limit, wait for one to come back

Each route has a pool of its own, so a task never starves another. The last one back is the first
one out: the others may then fall asleep and be closed. Addresses are looked up for each new connection, and
none is kept for ever, so that a changed answer of the DNS is heeded.
"""

import asyncio
import errno
import os
import socket
import ssl
from collections import deque
from dataclasses import dataclass
from typing import Any

import aiohappyeyeballs

from authproxy.errors import (
    BadReply,
    ConnectFailure,
    ConnectionLimit,
    ConnectTimeout,
    DNSFailure,
    Loop,
    TLSFailure,
)
from authproxy.net.http_proxy import ADVICE, HTTPProxy, bracketed
from authproxy.net.own_listeners import NOBODY, OwnListeners
from authproxy.proxy.upstream.connection import Connection
from authproxy.proxy.upstream.http_tunnel import Forwarding, open_tunnel

IDLE_SECONDS = 60.0  # an idle connection is closed after this; most servers keep theirs longer
MAX_LIFE = 3600.0  # seconds; after this a connection that comes back is closed (nginx's keepalive_time)
HAPPY_EYEBALLS_DELAY = 0.25  # seconds before the next address is tried (RFC 8305 §5)
NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})

Addresses = list[tuple[Any, ...]]  # as getaddrinfo returns them


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an upstream is. `tls` is None for plain http."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    server_name: str | None = None

    @property
    def default_port(self) -> int:
        return 80 if self.tls is None else 443

    @property
    def authority(self) -> str:
        """Return the `Host` of a request to this origin."""
        host = bracketed(self.host)
        return host if self.port == self.default_port else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{'http' if self.tls is None else 'https'}://{self.authority}"


class Pool:
    """Lends out connections to `origin`, at most `limit` at a time. `connect_seconds` bounds any wait.

    With `proxy` they lead there: through a tunnel if `tunnel` says so, else requests are forwarded. None ever
    leads to one of `own`.
    """

    def __init__(
        self,
        origin: Origin,
        *,
        limit: int,
        connect_seconds: float,
        proxy: HTTPProxy | None = None,
        tunnel: bool = True,
        own: OwnListeners = NOBODY,
    ) -> None:
        self.origin = origin
        self._limit = limit
        self._connect_seconds = connect_seconds
        self._proxy = proxy
        self._forwarding = Forwarding(proxy, str(origin)) if proxy is not None and not tunnel else None
        self._place = f"{origin} (through the HTTP proxy {proxy})" if proxy is not None else str(origin)
        self._own = own
        self._looking_up: asyncio.Future[Addresses] | None = None
        self._idle: deque[Connection] = deque()  # the oldest on the left
        self._open: set[Connection] = set()
        self._opening = 0
        self._waiters: deque[asyncio.Future[Connection | None]] = deque()
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

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
        if self._idle and len(self._open) + self._opening >= self._limit:
            self._idle.popleft().abort()  # the caller wants a new one: make room
        if len(self._open) + self._opening < self._limit:
            self._opening += 1
            return await self._open_one()
        connection = await self._wait()
        if connection is None:
            return await self._open_one()
        # It may have died on the way to us.
        return connection if not connection.closed else await self.connect()

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
                f"all {self._limit} connections to {self._place} are in use",
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
        except TimeoutError:
            raise ConnectTimeout(
                f"{self._place} did not take the connection within {self._connect_seconds:g} s"
            ) from None
        finally:
            self._opening -= 1
            self._wake_one()

    async def _dial(self) -> Connection:
        origin, loop = self.origin, asyncio.get_running_loop()
        sock = await self._connected(self._proxy or origin)
        try:
            if self._proxy is not None and self._forwarding is None:
                await open_tunnel(sock, self._proxy, origin.host, origin.port)
            _, connection = await loop.create_connection(
                lambda: Connection(
                    self._place, on_idle=self._back, on_lost=self._lost, forwarding=self._forwarding
                ),
                sock=sock,
                ssl=origin.tls,
                server_hostname=(origin.server_name or origin.host) if origin.tls else None,
            )
        except BaseException as error:
            sock.close()
            if not isinstance(error, OSError) or isinstance(error, TimeoutError):
                raise
            reason = (
                error.verify_message
                if isinstance(error, ssl.SSLCertVerificationError)
                else "handshake failed"
            )
            raise TLSFailure(
                f"no TLS with {self._place}: {reason}",
                hint="check `upstream`; `tls.ca_file` names a CA of your own",
            ) from error
        if connection.closed:  # before it was one of ours, so that nobody would ever take it off the count
            raise BadReply(
                f"{self._place} spoke, or hung up, before it was asked anything",
                hint=self._hint("and whether it speaks HTTP"),
            )
        self._open.add(connection)
        return connection

    async def _connected(self, there: Origin | HTTPProxy) -> socket.socket:
        """Return a socket that leads to the upstream or the proxy."""
        try:
            found = await self._look_up(there.host, there.port)
        except (OSError, UnicodeError) as error:
            if out_of_descriptors():  # then a look-up fails as well, for want of a socket
                raise _no_descriptors() from error
            raise DNSFailure(
                f"the host name of {self._named(there)} does not resolve", hint=self._hint("and the network")
            ) from error
        others = [each for each in found if not self._own.reached_by(each[4])]
        loop = Loop(
            f"{self._named(there)} is one of authproxy's own listeners: requests would come back to it",
            hint=self._hint("which should be the API's own address"),
        )
        if found and not others:
            raise loop
        try:
            return await aiohappyeyeballs.start_connection(others, happy_eyeballs_delay=HAPPY_EYEBALLS_DELAY)
        except OSError as error:
            if error.errno in NO_DESCRIPTORS:
                raise _no_descriptors() from error
            if len(others) < len(found):  # that is why it is not where it was expected
                raise loop from error
            reason = os.strerror(error.errno) if error.errno else "none of its addresses can be reached"
            raise ConnectFailure(
                f"cannot connect to {self._named(there)}: {reason}", hint=self._hint("and whether it is up")
            ) from error

    async def _look_up(self, host: str, port: int) -> Addresses:
        """Return the addresses of `host`; who asks while a look-up runs shares it.

        A look-up cannot be broken off and holds a thread, of which there are few for all routes: one that
        hangs should hold one. So its waiters may go, and it goes on.
        """
        if self._looking_up is None:
            loop = asyncio.get_running_loop()
            self._looking_up = asyncio.ensure_future(loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))
            self._looking_up.add_done_callback(self._looked_up)
        return await asyncio.shield(self._looking_up)

    def _looked_up(self, done: "asyncio.Future[Addresses]") -> None:
        self._looking_up = None
        if not done.cancelled():
            done.exception()  # nobody may be left to hear it

    def _named(self, there: Origin | HTTPProxy) -> str:
        return f"the HTTP proxy {there}" if isinstance(there, HTTPProxy) else str(there)

    def _hint(self, more: str) -> str:
        return ADVICE if self._proxy is not None else f"check `upstream`, {more}"

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
        while self._waiters and len(self._open) + self._opening < self._limit:
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
        return f"<Pool {self._place} {counts}>"


def out_of_descriptors() -> bool:
    """Tell whether this process cannot open another file."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno in NO_DESCRIPTORS
    return False


def _no_descriptors() -> ConnectionLimit:
    return ConnectionLimit(
        "authproxy has too many files and connections open to open another",
        hint="raise the limit on open files (`ulimit -n`, `LimitNOFILE=`), or lower `limits.connections`",
        retry_after=1,
    )
