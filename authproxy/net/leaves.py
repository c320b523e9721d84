"""The certificates that a forward proxy shows for the hosts of others, made when they are asked for.

    context("api.example")  ─▶ known, and good for a while yet?  ─▶ that one
                            └▶ a new leaf, signed by who may sign for it, on an SSLContext of its own

What none of the authorities may sign for is never made, nor is a wildcard. A leaf's key is in memory only, as
far as `ssl` allows, which reads keys from files: there it is sealed, and in memory where that can be.
"""

import re
import secrets
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from weakref import WeakKeyDictionary

from cachetools import LRUCache

from authproxy.capabilities import passed_as_file
from authproxy.net.authority import Authority, address_of
from authproxy.net.name_constraints import permit
from authproxy.net.tls import without_certificate

LIFETIME = timedelta(days=7)
RENEWED = timedelta(days=3)  # before its end another one takes its place
MAX_CONTEXTS = 256
LEAST_SECONDS = 60.0  # between two leaves for one host, of an authority that has hardly any time left
MAX_NAME = 253  # characters (RFC 1035 §2.3.4)

_LABEL = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\Z")

_named: "WeakKeyDictionary[ssl.SSLObject, str]" = WeakKeyDictionary()


class NotPermitted(ValueError):
    """No authority may sign for this host."""


@dataclass(frozen=True, slots=True)
class _Made:
    """A context, and from when till when it is the one to show; epoch seconds."""

    context: ssl.SSLContext
    begins: float
    due: float


class Leaves:
    """Server contexts for any host that one of `authorities` may sign for; `clock` is in epoch seconds.

    Of several the first one signs that lasts for as long as a leaf does.
    """

    def __init__(
        self,
        authorities: Sequence[Authority],
        *,
        clock: Callable[[], float] = time.time,
        contexts: int = MAX_CONTEXTS,
    ) -> None:
        self._authorities = tuple(authorities)
        self._clock = clock
        self._made: LRUCache[str, _Made] = LRUCache(contexts)

    def __repr__(self) -> str:
        return f"<Leaves of {len(self._authorities)} authorities: {len(self._made)} made>"

    def context(self, host: str) -> ssl.SSLContext:
        """Return how to speak TLS as `host`, a name or an address, to who trusts our root.

        Raises `NotPermitted`, and one of `key_pair.UNUSABLE`.
        """
        name, now = certified_name(host), self._clock()
        made = self._made.get(name)
        if made is None or not made.begins <= now < made.due:
            made = self._made[name] = self._make(name, now)
        return made.context

    def _make(self, name: str, seconds: float) -> _Made:
        now = datetime.fromtimestamp(seconds, UTC)
        leaf = self._signer(name, now).leaf(
            [name], lifetime=LIFETIME, now=now, passphrase=secrets.token_hex().encode()
        )
        context = without_certificate()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.sni_callback = _note
        with passed_as_file(leaf.chain + leaf.key) as file:
            context.load_cert_chain(file, password=leaf.passphrase)
        due = max((leaf.not_after - RENEWED).timestamp(), seconds + LEAST_SECONDS)
        return _Made(context, leaf.not_before.timestamp(), due)

    def _signer(self, name: str, now: datetime) -> Authority:
        able = [each for each in self._authorities if permit(each.certificates, name)]
        if not able:
            raise NotPermitted(f"no authority may sign for {name}")
        lasting = (each for each in able if left(each, now) >= LIFETIME)
        return next(lasting, max(able, key=lambda each: left(each, now)))


def end_of(authority: Authority) -> datetime:
    """Return when the first of an authority's certificates ends."""
    return min(each.not_valid_after_utc for each in authority.certificates)


def left(authority: Authority, now: datetime) -> timedelta:
    """Return for how long what it signs is accepted; nothing of one that is not valid yet, by our clock."""
    if any(each.not_valid_before_utc > now for each in authority.certificates):
        return timedelta()
    return end_of(authority) - now


def certified_name(host: str) -> str:
    """Return `host` as certificates have it; one spelling for all. Raises `NotPermitted`."""
    address = address_of(host)
    if address is not None:
        return str(address)
    name = host.lower().removesuffix(".")
    if len(name) > MAX_NAME or not _HOST_NAME.match(name):
        raise NotPermitted("there are no certificates for such a name")
    return name


def sni_of(connection: ssl.SSLObject) -> str | None:
    """Return what the client has named as the server (RFC 6066 §3), once the handshake is done.

    None where it has named none, as for an address.
    """
    return _named.get(connection)


def _note(connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _context: ssl.SSLContext) -> None:
    """Remember what a client names. The handshake goes on in any case: who serves compares."""
    if name is not None and isinstance(connection, ssl.SSLObject):
        _named[connection] = name
