"""What the forward listener goes by: which hosts are routes', who signs for them, what becomes of the others.

A reload makes another; a request, and a tunnel, go on with what they began with.
"""

import ssl
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from authproxy.errors import Forbidden, NoCertificate
from authproxy.net.http_proxy import HTTPProxy
from authproxy.net.own_listeners import OwnListeners
from authproxy.proxy.forward.dialing import ForwardDialer, LookUps
from authproxy.proxy.forward.guard import ForwardGuard, Place, refuse_own
from authproxy.proxy.guard import Guard
from authproxy.proxy.headers import RequestHeaders, ResponseHeaders
from authproxy.proxy.judge import Site
from authproxy.proxy.placeholders import Placeholders
from authproxy.proxy.route import Route
from authproxy.proxy.router import RouteTable
from authproxy.proxy.send import Sender
from authproxy.proxy.upstream.pool import Pool

MAX_HOSTS = 64  # of plain http that are no routes', to which connections are kept
MAX_CONNECTIONS = 64  # to each of them at the same time
REFUSED_HINT = "`forward.unmatched: tunnel` lets a program go to hosts of no route; or add a route for it"

ProxyOf = Callable[[str], HTTPProxy | None]
"""Which HTTP proxy leads to a URL."""


class Leaves(Protocol):
    """Who makes certificates."""

    def context(self, host: str) -> ssl.SSLContext:
        """Return how to speak TLS as `host`."""
        ...


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a host that is no route's may take, in seconds."""

    connect: float = 10.0
    response: float = 60.0
    idle: float = 300.0


class Unmatched:
    """Ways to hosts that are no routes'; `reaches_local` says whether to loopback or link-local as well.

    Nothing is added to what goes there.
    """

    def __init__(
        self,
        own: OwnListeners,
        *,
        proxy_of: ProxyOf = lambda _url: None,
        timeouts: Timeouts | None = None,
        reaches_local: bool = True,
        remove: tuple[str, ...] = (),
        placeholders: Placeholders | None = None,
    ) -> None:
        self._own = own
        self._proxy_of = proxy_of
        self.timeouts = timeouts or Timeouts()
        self._reaches_local = reaches_local
        self._request_headers = RequestHeaders(remove=remove)
        self._response_headers = ResponseHeaders(cors=True)
        self._placeholders = placeholders or Placeholders()
        self._lookups = LookUps()
        self._routes: OrderedDict[Place, Route] = OrderedDict()  # of plain http, the last one asked last

    def dialer(self, place: Place, *, scheme: str = "https", tunnel: bool = True) -> ForwardDialer:
        """Return what opens ways to `place`. Raises `Forbidden` for an HTTP proxy that cannot be used."""
        try:
            proxy = self._proxy_of(f"{scheme}://{place}/")
        except ValueError as error:
            raise Forbidden(f"{place} cannot be reached: {error}") from None
        forwards = proxy is not None and not tunnel
        return ForwardDialer(
            place,
            proxy=proxy,
            own=self._own,
            lookups=self._lookups,
            reaches_local=self._reaches_local,
            tunnel=not forwards,
        )

    def route(self, place: Place) -> Route:
        """Return what forwards requests of plain http to `place` as they are."""
        made = self._routes.pop(place, None) or self._made(place)
        self._routes[place] = made
        while len(self._routes) > MAX_HOSTS:
            _, oldest = self._routes.popitem(last=False)
            oldest.sender.pool.close()
        return made

    def _made(self, place: Place) -> Route:
        def pool(*, tunnel: bool) -> Pool:
            dialer = self.dialer(place, scheme="http", tunnel=tunnel)
            return Pool(dialer, limit=MAX_CONNECTIONS, connect_seconds=self.timeouts.connect)

        plain = pool(tunnel=False)
        return Route(
            name="",
            host=None,
            path="/",
            strip="",
            base="",
            sender=Sender(
                plain,
                response_seconds=self.timeouts.response,
                idle_seconds=self.timeouts.idle,
                upgrades=pool(tunnel=True) if plain.forwards else None,
            ),
            request_headers=self._request_headers,
            response_headers=self._response_headers,
            credential=None,
            idle_seconds=self.timeouts.idle,
            placeholders=self._placeholders,
        )

    def close(self) -> None:
        """Close what is idle now, and the rest as it comes back."""
        for route in self._routes.values():
            route.sender.pool.close()


@dataclass(frozen=True, slots=True, eq=False)
class Inside:
    """What the requests on one connection are answered by, or refused; the limits are in bytes."""

    guard: Guard
    routes: RouteTable[Route]
    header_bytes: int
    body_bytes: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ForwardSite:
    """What the forward listener serves by.

    `secure` and `plain` have what each https and http origin of a route is answered by; `unmatched` is None
    where other hosts are refused. `leaves` makes certificates; `sni_of` tells which host a client has named
    in its handshake. `handshake_seconds` is how long that may take, the first byte included. `trust_hint`
    says how a client comes to trust our certificates.
    """

    guard: ForwardGuard
    own: OwnListeners
    secure: Mapping[Place, Site] = field(default_factory=dict)
    plain: Mapping[Place, Site] = field(default_factory=dict)
    unmatched: Unmatched | None = None
    leaves: Leaves | None = None
    sni_of: Callable[[ssl.SSLObject], str | None] = lambda _ssl_object: None
    handshake_seconds: float = 10.0
    trust_hint: Callable[[], str] = str

    def check(self, place: Place) -> None:
        """Raise `Forbidden` for one of our own listeners, by any name."""
        if self.own.named(place.host, place.port):
            raise refuse_own(place)

    def context(self, place: Place) -> ssl.SSLContext:
        """Return how to speak TLS as `place`. Raises `NoCertificate`."""
        try:
            if self.leaves is not None:
                return self.leaves.context(place.host)
        except (ValueError, OSError) as error:
            raise NoCertificate(f"no certificate can be made for {place.host}: {error}") from error
        raise NoCertificate("there is no authority to make certificates")

    def way_to(self, place: Place) -> Unmatched:
        """Return the way to a host that is no route's. Raises `Forbidden` where there is none."""
        if self.unmatched is None:
            raise Forbidden(
                f"no route's upstream is {place}, and `forward.unmatched` is refuse", hint=REFUSED_HINT
            )
        return self.unmatched
