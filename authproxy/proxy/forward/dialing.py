"""The way to a host that is no route's: whoever asks names it, so it is looked at where it leads.

A host is judged by the address that is dialled, after DNS: never one of our own listeners, and for callers
from other machines neither loopback nor link-local, where only this machine's own programs should reach.
Behind an HTTP proxy that is its to know; there only addresses and names of loopback are judged, as written.
"""

import asyncio
import contextlib
import socket
import threading
from functools import partial
from ipaddress import ip_address

from authproxy.errors import DNSFailure, Forbidden
from authproxy.net.dial import Addresses, Dialer, Origin, look_up
from authproxy.net.failures import Failure
from authproxy.net.http_proxy import ADVICE, HTTPProxy
from authproxy.net.http_tunnel import open_tunnel
from authproxy.net.own_listeners import OwnListeners
from authproxy.proxy.forward.guard import Place, refuse_own
from authproxy.values import is_address, is_loopback, unmapped

MAX_LOOKUPS = 32  # at a time: each has a thread, as nobody can break off one that hangs
NO_NAME = "check the spelling of the host name, and this machine's DNS and network"
NOT_FROM_ELSEWHERE = "only programs on this machine reach that, and directly"


class LookUps:
    """Looks up hosts that callers name, in threads of its own: those that hang keep no route from looking up.

    So many at a time, however many are named. A process does not wait for them at its end.
    """

    def __init__(self, limit: int = MAX_LOOKUPS) -> None:
        self._room = asyncio.Semaphore(limit)

    async def addresses(self, host: str, port: int) -> Addresses:
        """Return the addresses of `host`. Raises OSError, and UnicodeError for what cannot be a name."""
        if is_address(host):
            return await look_up(host, port)
        await self._room.acquire()
        looking: asyncio.Future[Addresses] = asyncio.get_running_loop().create_future()
        looking.add_done_callback(self._ended)
        threading.Thread(target=_look_up, args=(looking, host, port), daemon=True).start()
        return await asyncio.shield(looking)  # whoever waits may go, it goes on

    def _ended(self, looking: "asyncio.Future[Addresses]") -> None:
        self._room.release()
        if not looking.cancelled():
            looking.exception()  # nobody may be left to hear it


def addresses_of(host: str, port: int) -> Addresses:
    """Return the addresses of `host`, however long that takes. Raises as `look_up` does."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


def _look_up(looking: "asyncio.Future[Addresses]", host: str, port: int) -> None:
    """Look up a host in this thread, and tell the loop."""
    try:
        tell = partial(looking.set_result, addresses_of(host, port))
    except (OSError, UnicodeError) as error:
        tell = partial(looking.set_exception, error)
    with contextlib.suppress(RuntimeError):  # the loop is closed
        looking.get_loop().call_soon_threadsafe(tell)


class ForwardDialer(Dialer):
    """Opens ways to `place`. `reaches_local` says whether that may be loopback or link-local."""

    def __init__(
        self,
        place: Place,
        *,
        proxy: HTTPProxy | None,
        own: OwnListeners,
        lookups: LookUps,
        reaches_local: bool,
        tunnel: bool = True,
    ) -> None:
        super().__init__(Origin(place.host, place.port), proxy=proxy, tunnel=tunnel, own=own)
        self._asked = place
        through = f" (through the HTTP proxy {proxy})" if proxy is not None else ""
        self.place = f"{place}{through}"
        self._next_hop = str(place) if proxy is None else self._next_hop
        self._lookups = lookups
        self._reaches_local = reaches_local
        self.early = b""  # what the other end has said before anybody asked

    async def resolve(self) -> Addresses:
        """Return the addresses of the next hop. Raises `Forbidden`, and as any dialer does."""
        if self.proxy is not None:
            self._check(self._asked.host)
            return await super().resolve()
        try:
            addresses = await self._lookups.addresses(self._asked.host, self._asked.port)
        except (OSError, UnicodeError) as error:
            failed = self._failed(Failure.DNS, error)
            if isinstance(failed, DNSFailure):
                failed.hint = NO_NAME
            raise failed from error
        if any(self._own.reached_by(each[4]) for each in addresses):
            raise refuse_own(self._asked)
        for each in addresses:
            self._check(str(each[4][0]))
        return addresses

    async def tunnel(self, sock: socket.socket) -> None:
        """Have the proxy, to which `sock` leads, pass on bytes; the other end may speak first."""
        if self.proxy is not None and not self.forwards:
            self.early = await open_tunnel(
                sock, self.proxy, self._asked.host, self._asked.port, may_begin=True
            )

    def _check(self, host: str) -> None:
        if not self._reaches_local and is_local(host):
            raise Forbidden(
                f"{self._asked} leads to this machine itself, or to its link", hint=NOT_FROM_ELSEWHERE
            )

    def hint(self, more: str) -> str:
        """Return what to check after a failure."""
        return ADVICE if self.proxy is not None else f"check the host that the program asks for, {more}"


def is_local(host: str) -> bool:
    """Tell whether `host` is an address, or a name, of loopback or link-local, or none in particular."""
    try:
        address = unmapped(ip_address(host.partition("%")[0]))
    except ValueError:
        return is_loopback(host)
    return address.is_loopback or address.is_link_local or address.is_unspecified
