"""Who may use the forward proxy, and for which host: CONNECT, the TLS handshake and `Host` must say the same.

    at the listener    ForwardGuard      the form of the request, the key (`Proxy-Authorization`)
    in a tunnel        OriginGuard       `Host` is the tunnel's host, and no page but its own asks
                       MisdirectedGuard  no request at all: the TLS handshake named another host

A browser sends neither Origin nor Sec-Fetch-Site with a CONNECT. So it is in the tunnel, and with a URL of
plain http, that pages are judged.
"""

import binascii
from base64 import b64decode
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

from multidict import istr

from authproxy.errors import BadRequest, Forbidden, Misdirected, ProxyKeyRequired
from authproxy.proxy.guard import (
    CONTENT_LENGTH,
    HOST,
    REFUSED_METHODS,
    TE,
    Asked,
    Guard,
    is_safe_target,
    plain_host,
    read_authority,
    split_absolute,
)
from authproxy.proxy.plain import HTTP_1_0
from authproxy.values import DEFAULT_PORTS, bracketed

PROXY_AUTHORIZATION = istr("Proxy-Authorization")

NO_ORIGIN_FORM = (
    "this address is an HTTP proxy: set HTTPS_PROXY and HTTP_PROXY to http://ADDRESS for a program, or use "
    "curl -x; to call a route by its path, use the address of `listen`"
)
NO_HTTPS = "a proxy is asked for https:// by CONNECT, so that nobody on the way can read it"
NO_KEY = "no key was sent in Proxy-Authorization"
WRONG_KEY = "the key in Proxy-Authorization is wrong"
KEY_HINT = "send one of `access.tokens` as the password of the proxy's URL: http://any:KEY@ADDRESS"
RUNS_KEY_HINT = "use the proxy URL in HTTPS_PROXY as it is, user name and password included"
MISDIRECTED_HINT = "send each request on a connection to its own host"
REFUSED_INSIDE = REFUSED_METHODS | {"CONNECT": "ask the proxy itself, not the host of a tunnel"}


class Place(NamedTuple):
    """A host, as hosts are compared, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{bracketed(self.host)}:{self.port}"


def host_key(host: str) -> str:
    """Return `host` as hosts are compared; an address in its shortest spelling."""
    plain = plain_host(host)
    try:
        return str(ip_address(plain))
    except ValueError:
        return plain


def place_of(authority: str, default_port: int | None = None) -> Place | None:
    """Return where an authority leads; None for one that is malformed, or has no port and needs one."""
    found = read_authority(authority)
    port = (found[1] or default_port) if found is not None else None
    return Place(host_key(found[0]), port) if found is not None and port is not None else None


def key_in(sent: str) -> str:
    """Return the key in a `Proxy-Authorization`, "" for none: a Basic password, or a Bearer token."""
    scheme, _, value = sent.strip().partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        return b64decode(value.strip(), validate=True).decode("utf-8", "replace").partition(":")[2]
    except (ValueError, binascii.Error):
        return ""


class ForwardGuard(Guard):
    """Judges what comes to the forward listener. `access_keys` empty means that no key is needed.

    `key_hint` says how a caller comes by one.
    """

    def __init__(self, *, access_keys: Iterable[str] = (), key_hint: str = KEY_HINT) -> None:
        super().__init__(access_keys=access_keys)
        self._key_hint = key_hint

    def admits_all_of(self, before: "ForwardGuard") -> bool:
        """Whether whoever was let in by `before` is let in still."""
        keys, keys_before = self._access_keys, before._access_keys  # noqa: SLF001 - one of us
        return not keys or (bool(keys_before) and set(keys_before) <= set(keys))

    def check_connect(self, request: Asked) -> Place:
        """Return where a CONNECT wants to go. Raises `BadRequest`, `Misdirected`."""
        self._check_head(request)
        if TE in request.headers or request.headers.get(CONTENT_LENGTH, "0") != "0":
            raise BadRequest("a CONNECT has no body")
        place = place_of(request.target)
        if place is None:
            raise BadRequest("the target of a CONNECT should be HOST:PORT")
        hosts = request.headers.getall(HOST, ())
        if hosts or request.version != HTTP_1_0:  # older clients send none
            self._check_agreement(self._one(hosts), place)
        return place

    def check_absolute(self, request: Asked) -> tuple[Place, str]:
        """Return where a request wants to go, and its target in origin form.

        Raises `BadRequest`, `Forbidden`.
        """
        self._check_head(request)
        self._check_method(request)
        target = request.target
        if target.lower().startswith("https://"):
            raise BadRequest("an https:// URL is not forwarded in the clear", hint=NO_HTTPS)
        if not target.lower().startswith("http://"):
            raise BadRequest(
                "the request target should be an absolute URL (http://HOST/PATH), or CONNECT the method: "
                "this is a forward proxy",
                hint=NO_ORIGIN_FORM,
            )
        authority, path = split_absolute(target)
        if request.method == "OPTIONS" and target.partition("://")[2] == authority:
            path = "*"  # of the server as a whole (RFC 9112 §3.2.4)
        place = place_of(authority, DEFAULT_PORTS["http"])
        if place is None or not is_safe_target(path):
            raise BadRequest("the request target is no URL that could be asked for")
        if HOST in request.headers or request.version != HTTP_1_0:
            self._one(request.headers.getall(HOST, ()))
        return place, path

    def check_proxy_key(self, request: Asked) -> None:
        """Raise `ProxyKeyRequired` unless the caller sent one of the keys, if any is needed."""
        sent = request.headers.getall(PROXY_AUTHORIZATION, ())
        if not self.is_admitted(key_in(sent[0]) if len(sent) == 1 else ""):
            raise ProxyKeyRequired(WRONG_KEY if sent else NO_KEY, hint=self._key_hint)

    def _check_head(self, request: Asked) -> None:
        self._check_version(request)
        self._check_framing(request, request.headers)

    @staticmethod
    def _one(hosts: Sequence[str]) -> str:
        if len(hosts) != 1:
            raise BadRequest("the Host header should be there, once")
        return hosts[0]

    @staticmethod
    def _check_agreement(host: str, place: Place) -> None:
        named = place_of(host, place.port)
        if named is None:
            raise BadRequest("the Host header is malformed")
        if named != place:
            raise Misdirected("Host and the target of CONNECT name different hosts", hint=MISDIRECTED_HINT)


class OriginGuard(Guard):
    """Judges the requests to one origin, `scheme` and `place`: they name it, and no page but its own asks.

    `origins` are the web origins whose pages may ask as well.
    """

    refused_methods = REFUSED_INSIDE

    def __init__(self, scheme: str, place: Place, *, origins: "tuple[str, ...]" = ()) -> None:
        super().__init__(origins=origins)
        self._scheme = scheme
        self._place = place

    def _check_host(self, authority: str, request: Asked) -> str:  # noqa: ARG002 - whoever asks
        named = place_of(authority, DEFAULT_PORTS[self._scheme])
        if named is None:
            raise BadRequest("the Host header is malformed")
        if named != self._place:
            raise Misdirected(
                f"this connection is for {self._place}, but the request says {named}", hint=MISDIRECTED_HINT
            )
        self._remember(authority, named.host)
        return named.host

    def _absolute(self, request: Asked, target: str, authority: str, host: str) -> tuple[str, str, str]:
        scheme, found, _ = target.partition("://")
        if found and scheme.lower() != self._scheme and scheme.lower() in DEFAULT_PORTS:
            raise Misdirected(f"this connection is for {self._scheme}:// only", hint=MISDIRECTED_HINT)
        return super()._absolute(request, target, authority, host)

    def wrong_path(self, request: Asked) -> None:
        """Leave it to the routes: a whole URL is in its place here."""

    def _is_own(self, origin: str, authority: str) -> bool:  # noqa: ARG002 - it has been judged
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        return (
            parts.scheme == self._scheme
            and place_of(parts.netloc, DEFAULT_PORTS[self._scheme]) == self._place
        )


class MisdirectedGuard(Guard):
    """Refuses every request of a connection; `why` says so."""

    def __init__(self, why: str) -> None:
        super().__init__()
        self._why = why

    def check(self, request: Asked, *, from_any_site: bool = False) -> tuple[str, str]:  # noqa: ARG002
        """Raise `Misdirected`."""
        raise Misdirected(self._why, hint=MISDIRECTED_HINT)


def refuse_own(place: Place) -> Forbidden:
    """Return the error for a place that is ours."""
    return Forbidden(
        f"{place} is one of authproxy's own listeners: it is not reached through the forward proxy",
        hint="call it directly; NO_PROXY names what a program asks without its proxy",
    )
