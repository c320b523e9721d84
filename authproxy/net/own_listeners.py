"""Our own listeners, by any name or spelling: a request that went to one of them would only come back.

    as it is written      `named`        for the configuration and the environment; nothing is looked up
    as it is dialled      `reached_by`   for each connection, after DNS

127.1, 0x7f000001 and 017700000001 are 127.0.0.1 to those who look up a host (`inet_aton`), so is
::ffff:127.0.0.1 (RFC 4291 §2.5.5.2), and 0.0.0.0 leads there. A listener on all addresses is reached by each
that this machine has.
"""

import re
import socket
from collections import defaultdict
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from authproxy.values import bracketed, is_loopback, reached_at, split_address, unmapped

IPAddress = IPv4Address | IPv6Address


# Besides `localhost` and what ends with it: what /etc/hosts calls the loopback interface.
LOOPBACK_NAMES = frozenset(
    {
        "localhost.localdomain", "localhost4", "localhost4.localdomain4", "localhost6",
        "localhost6.localdomain6", "ip6-localhost", "ip6-loopback",
    }
)  # fmt: skip

LOOPBACKS: tuple[IPAddress, IPAddress] = (IPv4Address("127.0.0.1"), IPv6Address("::1"))

_NUMBERS = re.compile(r"[0-9a-fx.]+\Z")

DISCARD = 9  # any port would do: nothing is sent there


class OwnListeners:
    """Where this proxy listens: the `addresses` of its configuration and the `sockets` that are open.

    `ports` has the port that each of its listeners really got.
    """

    def __init__(
        self,
        addresses: Iterable[str] = (),
        sockets: Iterable[socket.socket] = (),
        ports: Mapping[str, int] | None = None,
    ) -> None:
        self.ports = dict(ports or {})
        self._written: defaultdict[int, list[IPAddress | str]] = defaultdict(list)
        self._bound: defaultdict[int, list[IPAddress]] = defaultdict(list)
        for address in addresses:
            if (where := split_address(address)) is not None:
                self._written[where[1]].append(_meant(where[0]))
        for sock in sockets:
            if sock.family in {socket.AF_INET, socket.AF_INET6}:
                self._add(sock)

    def _add(self, sock: socket.socket) -> None:
        host, port = sock.getsockname()[:2]
        address = _meant(host)
        assert not isinstance(address, str)  # noqa: S101 - the kernel's own spelling
        here = [address]
        if address.version == 6 and address.is_unspecified and not _only_v6(sock):
            here.append(IPv4Address(0))
        self._bound[port] += here
        self._written[port] += here

    def url_of(self, listener: str, address: str) -> str:
        """Return the URL of a `listener` of plain http at `address`, with the port that it really got."""
        place = split_address(address)
        if place is None:
            return address
        host = bracketed(reached_at(place[0]))
        return f"http://{host}:{self.ports.get(listener, place[1])}"

    def named(self, host: str, port: int) -> bool:
        """Tell whether `host` and `port`, as they stand in a URL, are ours, as far as no look-up is needed.

        Addresses are compared as they are. A name of the loopback interface may lead to either family's.
        """
        there = _meant(host)
        return any(_is_same(there, here) for here in self._written.get(port, ()))

    def listens_at(self, port: int) -> bool:
        """Tell whether any of our open listeners has this `port`."""
        return port in self._bound

    def reached_by(self, address: tuple[Any, ...]) -> bool:
        """Tell whether a connection to `address`, as `getaddrinfo` returns it, would come in at our own."""
        if not (bound := self._bound.get(address[1])):
            return False
        there = _meant(address[0])
        return not isinstance(there, str) and any(_leads_to(there, here) for here in bound)

    def keep(self, before: "OwnListeners", addresses: Iterable[str]) -> None:
        """Be also where `before` listens on `addresses`."""
        self.ports = before.ports | self.ports  # of those that are gone nobody asks
        ports = {place[1] for each in addresses if (place := split_address(each)) is not None}
        for port, bound in before._bound.items():  # noqa: SLF001 - one of us
            if port in ports or 0 in ports:
                self._bound[port] += bound
                self._written[port] += bound

    def become(self, other: "OwnListeners") -> None:
        """Be where `other` is: whoever holds this one goes by that from now on."""
        self._written, self._bound = other._written, other._bound  # noqa: SLF001 - one of us
        self.ports = other.ports

    def __repr__(self) -> str:
        return f"<OwnListeners {sorted(self._written)}>"


NOBODY = OwnListeners()


def _meant(host: str) -> IPAddress | str:
    """Return the address that `host` is a spelling of, or the name in lower case."""
    text = host.strip("[]").rstrip(".").lower().partition("%")[0]
    try:
        address = ip_address(text)
    except ValueError:
        if not _NUMBERS.match(text):
            return text
        try:
            return IPv4Address(socket.inet_aton(text))
        except OSError:
            return text
    return unmapped(address)


def _is_same(there: IPAddress | str, here: IPAddress | str) -> bool:
    """Tell whether what is asked `there` is what listens `here`, the port being the same."""
    if there == here:
        return True
    if here == "" or (not isinstance(here, str) and here.is_unspecified):  # of both families, as a rule
        if isinstance(there, str):
            return _is_loopback(there) or there in _own_names()
        return there.is_unspecified or there.is_loopback or _is_ours(there)
    return bool(_loopbacks(there) & _loopbacks(here))


def _loopbacks(place: IPAddress | str) -> set[IPAddress]:
    """Return the loopback addresses that `place` is, or may lead to."""
    if isinstance(place, str):
        return set(LOOPBACKS) if _is_loopback(place) else set()
    if place.is_unspecified:  # the kernel takes that for loopback
        return {LOOPBACKS[place.version == 6]}
    return {place} if place.is_loopback else set()


def _leads_to(there: IPAddress, here: IPAddress) -> bool:
    if there.version != here.version:
        return False
    if there.is_unspecified:  # the kernel takes that for loopback
        return here.is_unspecified or here.is_loopback
    return there == here or (here.is_unspecified and (there.is_loopback or _is_ours(there)))


def _is_loopback(place: IPAddress | str) -> bool:
    return place in LOOPBACK_NAMES or is_loopback(str(place))


def _own_names() -> set[str]:
    """Return what this machine calls itself."""
    name = socket.gethostname().lower()
    bare = name.partition(".")[0]
    return {name, bare, f"{bare}.local"}


def _is_ours(address: IPAddress) -> bool:
    """Tell whether one of this machine's interfaces has `address`: then that is where one goes there from."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((str(address), DISCARD))  # of a datagram socket: no packet leaves
            return _meant(sock.getsockname()[0]) == address
    except OSError:
        return False


def _only_v6(sock: socket.socket) -> bool:
    return bool(sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
