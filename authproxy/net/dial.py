"""The way to an upstream, one step at a time.

    resolve   its name, or the proxy's                 ─▶ addresses
    connect   to the first address that answers        ─▶ a socket
    tunnel    through the HTTP proxy, if there is one
    secure    TLS, if it is https                      ─▶ a protocol with its transport

`dial` takes all of them. Each bounds nothing: who asks says how long it may take. None ever leads to one of
our own listeners. Addresses are looked up for each new connection, so that a changed answer of the DNS is
heeded.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohappyeyeballs

from authproxy.errors import (
    ConnectFailure,
    ConnectionLimit,
    DNSFailure,
    Loop,
    TLSFailure,
    UpstreamError,
)
from authproxy.net.failures import (
    IN_A_CONTAINER,
    NO_DESCRIPTORS_ADVICE,
    NO_TLS,
    UPSTREAM,
    Failure,
    failure_of,
    tls_hint,
    tls_reason,
)
from authproxy.net.http_proxy import ADVICE, HTTPProxy
from authproxy.net.http_tunnel import open_tunnel
from authproxy.net.own_listeners import NOBODY, OwnListeners
from authproxy.values import bracketed, is_loopback

IN_TLS = "in the TLS handshake"
"""The note on the cancellation of whoever gives up there."""
HAPPY_EYEBALLS_DELAY = 0.25  # seconds before the next address is tried (RFC 8305 §5)

Addresses = list[tuple[Any, ...]]  # as getaddrinfo returns them
P = TypeVar("P", bound=asyncio.Protocol)


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


async def look_up(host: str, port: int) -> Addresses:
    """Return the addresses of `host`. Raises OSError, and UnicodeError for what cannot be a name."""
    return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


_STEPS: dict[Failure, tuple[type[UpstreamError], str, str]] = {
    Failure.DNS: (
        DNSFailure,
        "the host name of {place} does not resolve",
        "its host, and the network of this machine",
    ),
    Failure.CONNECT: (ConnectFailure, "cannot connect to {place}: {reason}", "and whether it is up"),
}
"""What it is called that a step failed, and what is to be checked besides the setting."""


class Dialer:
    """Opens ways to `origin`, by `proxy` if there is one; none to one of `own`.

    Through a proxy they are tunnels; without `tunnel` they end at the proxy, for requests that it forwards.
    `setting` is the key that says where the origin is.
    """

    def __init__(
        self,
        origin: Origin,
        *,
        proxy: HTTPProxy | None = None,
        tunnel: bool = True,
        own: OwnListeners = NOBODY,
        setting: str = UPSTREAM,
    ) -> None:
        self.origin = origin
        self._setting = setting
        self.proxy = proxy
        self.forwards = proxy is not None and not tunnel
        self.place = f"{origin} (through the HTTP proxy {proxy})" if proxy is not None else str(origin)
        self._own = own
        self._next_hop = f"the HTTP proxy {proxy}" if proxy is not None else str(origin)
        self._looking_up: asyncio.Future[Addresses] | None = None

    async def dial(self, protocol: Callable[[], P]) -> P:
        """Return a new protocol that is connected to the upstream.

        Raises `UpstreamError`; TimeoutError if the system gives up on a handshake before the caller does.
        """
        sock = await self.connect(await self.resolve())
        try:
            await self.tunnel(sock)
            return await self.secure(sock, protocol)
        except BaseException:
            sock.close()
            raise

    async def resolve(self) -> Addresses:
        """Return the addresses of the next hop; who asks while a look-up runs shares it.

        A look-up cannot be broken off and holds a thread, of which there are few for all routes: one that
        hangs should hold one. So its waiters may go, and it goes on. Raises `DNSFailure`, `ConnectionLimit`.
        """
        if self._looking_up is None:
            there = self.proxy or self.origin
            self._looking_up = asyncio.ensure_future(look_up(there.host, there.port))
            self._looking_up.add_done_callback(self._looked_up)
        try:
            return await asyncio.shield(self._looking_up)
        except (OSError, UnicodeError) as error:
            raise self._failed(Failure.DNS, error) from error

    def _looked_up(self, done: "asyncio.Future[Addresses]") -> None:
        self._looking_up = None
        if not done.cancelled():
            done.exception()  # nobody may be left to hear it

    async def connect(self, addresses: Addresses) -> socket.socket:
        """Return a socket that leads to one of `addresses`.

        Raises `Loop`, `ConnectFailure`, `ConnectionLimit`.
        """
        others = [each for each in addresses if not self._own.reached_by(each[4])]
        if addresses and not others:
            raise self._loop()
        try:
            return await aiohappyeyeballs.start_connection(others, happy_eyeballs_delay=HAPPY_EYEBALLS_DELAY)
        except OSError as error:
            failed = self._failed(Failure.CONNECT, error)
            if isinstance(failed, ConnectFailure) and len(others) < len(addresses):
                failed = self._loop()  # that is why it is not where it was expected
            raise failed from error

    async def tunnel(self, sock: socket.socket) -> None:
        """Have the proxy, to which `sock` leads, pass on bytes to the upstream. Raises `UpstreamError`."""
        if self.proxy is not None and not self.forwards:
            await open_tunnel(sock, self.proxy, self.origin.host, self.origin.port)

    async def secure(self, sock: socket.socket, protocol: Callable[[], P]) -> P:
        """Return a new protocol on `sock`, which it owns from now on, behind TLS if that is wanted.

        Raises `TLSFailure`; TimeoutError if the system gives up before the caller does.
        """
        tls = self.origin.tls
        name = (self.origin.server_name or self.origin.host) if tls is not None else None
        try:
            _, made = await asyncio.get_running_loop().create_connection(
                protocol, sock=sock, ssl=tls, server_hostname=name
            )
        except asyncio.CancelledError as gave_up:
            if tls is not None:
                gave_up.add_note(IN_TLS)
            raise
        except OSError as error:
            failure = failure_of(error, otherwise=Failure.HANDSHAKE)
            if failure is Failure.TIMEOUT:
                raise
            failure = failure if failure in NO_TLS else Failure.HANDSHAKE
            raise TLSFailure(
                f"no TLS with {self.place}: {tls_reason(failure, error)}",
                hint=tls_hint(failure, self._setting),
            ) from error
        return made

    def hint(self, more: str) -> str:
        """Return what to check after a failure: the proxy, or the setting, and `more`."""
        return ADVICE if self.proxy is not None else f"check `{self._setting}`, {more}"

    def _failed(self, step: Failure, error: Exception) -> UpstreamError:
        if failure_of(error, otherwise=step) is Failure.DESCRIPTORS:
            return ConnectionLimit(
                "authproxy has too many files and connections open to open another",
                hint=NO_DESCRIPTORS_ADVICE,
                retry_after=1,
            )
        kind, sentence, more = _STEPS[step]
        number = getattr(error, "errno", None)
        reason = os.strerror(number) if number else "none of its addresses can be reached"
        if step is Failure.CONNECT and self.proxy is None and is_loopback(self.origin.host):
            more += f"; {IN_A_CONTAINER}"
        return kind(sentence.format(place=self._next_hop, reason=reason), hint=self.hint(more))

    def _loop(self) -> Loop:
        return Loop(
            f"{self._next_hop} is one of authproxy's own listeners: requests would come back to it",
            hint=self.hint("which should be the API's own address"),
        )

    def __repr__(self) -> str:
        return f"<Dialer {self.place}>"
