"""Which HTTP proxy leads to a URL: the route's `http_proxy`, or the environment's.

    http_proxy: URL     that one
    http_proxy: none    none at all
    (not set)           HTTPS_PROXY or HTTP_PROXY, else ALL_PROXY, unless NO_PROXY names the host,
                        or it is authproxy itself: it is set for the tools that should come to us

Both wings ask here, so that a token takes the same way as the requests it is for. The environment is read as
curl and Go read it. No message, and no `repr`, holds a proxy's user or password.
"""

import os
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network
from typing import Literal
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from authproxy.net.own_listeners import NOBODY, OwnListeners
from authproxy.values import bracketed, is_loopback, port_of

Setting = SecretStr | Literal["none"] | None
"""A route's `http_proxy`; None leaves it to the environment."""


ADVICE = "check `http_proxy`, or HTTP_PROXY, HTTPS_PROXY and NO_PROXY in the environment"
NOT_A_PROXY = "should be http://HOST:PORT, with USER:PASSWORD@ before the host if need be"
OTHER_KIND = "should begin with http://; proxies that speak TLS or SOCKS are not supported"

_HOST = re.compile(r"[A-Za-z0-9._\-]+\Z|[0-9a-fA-F:.]+\Z")  # a name or an IPv4 address, or an IPv6 address
_PORT = re.compile(r"(.*):(\d+)\Z")


@dataclass(frozen=True, slots=True)
class HTTPProxy:
    """A proxy that knows CONNECT (RFC 9110 §9.3.6). `user` is None where it wants to know nobody."""

    host: str
    port: int
    user: str | None = field(default=None, repr=False)
    password: str = field(default="", repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """The header that says who we are (RFC 7617), if the proxy wants to know."""
        if self.user is None:
            return {}
        credentials = b64encode(f"{self.user}:{self.password}".encode()).decode()
        return {"Proxy-Authorization": f"Basic {credentials}"}

    @property
    def header_lines(self) -> bytes:
        """The same, as it is sent."""
        return b"".join(f"{name}: {value}\r\n".encode("ascii") for name, value in self.headers.items())

    def __str__(self) -> str:
        return f"http://{bracketed(self.host)}:{self.port}"


def read_proxy(text: str) -> HTTPProxy:
    """Read `http://[USER:PASSWORD@]HOST:PORT`; raise ValueError, which never quotes it.

    The scheme may be left out, as it often is in the environment.
    """
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(NOT_A_PROXY) from None
    if parts.scheme != "http":
        raise ValueError(OTHER_KIND)
    if (
        not host
        or not port
        or not _HOST.match(host)
        or parts.path.strip("/")
        or parts.query
        or parts.fragment
    ):
        raise ValueError(NOT_A_PROXY)
    user = unquote(parts.username) if parts.username is not None else None
    if user is not None and ":" in user:
        raise ValueError("should not have a colon in the user's name (RFC 7617 §2)")
    return HTTPProxy(host, port, user, unquote(parts.password or ""))


def proxy_for(
    url: str,
    setting: Setting = None,
    environ: Mapping[str, str] = os.environ,
    *,
    own: OwnListeners = NOBODY,
) -> HTTPProxy | None:
    """Return the proxy that leads to `url`, or None for the direct way.

    The environment's is passed over when it is one of `own`.

    Raises ValueError for one that cannot be used; it names the environment's variable if it came from there.
    """
    if setting == "none":
        return None
    if setting is not None:
        return read_proxy(setting.get_secret_value())
    found = environment_proxy(url, environ)
    return None if found is not None and own.named(found.host, found.port) else found


def environment_proxy(url: str, environ: Mapping[str, str] = os.environ) -> HTTPProxy | None:
    """Return the proxy that the environment names for `url`; loopback is never asked of a proxy."""
    parts = urlsplit(url)
    host, port = (parts.hostname or "").rstrip("."), port_of(parts)
    if is_loopback(host) or _is_excepted(host, port, _first(environ, "no_proxy", "NO_PROXY")[1]):
        return None
    names = [f"{parts.scheme}_proxy", f"{parts.scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY"]
    if "REQUEST_METHOD" in environ:
        names.remove(f"{parts.scheme.upper()}_PROXY")  # in CGI HTTP_PROXY is a client's `Proxy` header
    name, value = _first(environ, *names)
    if not value:
        return None
    try:
        return read_proxy(value)
    except ValueError as error:
        raise ValueError(f"{name}, in the environment, {error}") from None


def _first(environ: Mapping[str, str], *names: str) -> tuple[str, str]:
    """Return the first of the variables that is there and not empty."""
    return next(((name, environ[name]) for name in names if environ.get(name)), ("", ""))


def _is_excepted(host: str, port: int, no_proxy: str) -> bool:
    entries = re.split(r"[\s,]+", no_proxy.lower())
    return any(entry and _fits(entry, host, port) for entry in entries)


def _fits(entry: str, host: str, port: int) -> bool:
    """Tell whether an entry of NO_PROXY is for `host`: a name, an address or a block, with a port or not."""
    if entry == "*":
        return True
    if not _is_network(entry) and (found := _PORT.match(entry)):
        if int(found[2]) != port:
            return False
        entry = found[1]
    if _is_network(entry):
        return _is_network(host) and ip_address(host) in ip_network(entry.strip("[]"), strict=False)
    name = entry.removeprefix("*").strip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def may_except(entry: str, host: str) -> bool:
    """Tell whether anybody who reads NO_PROXY might take `entry` to be for `host`, a name or an address.

    Readers differ: some do not look at a port, some take any end of a name, some know wildcards and blocks.
    """
    entry, host = entry.lower(), host.lower().strip("[].")
    if not _is_network(entry) and (found := _PORT.match(entry)):
        entry = found[1]
    if _is_network(entry):
        return _is_network(host) and ip_address(host) in ip_network(entry.strip("[]"), strict=False)
    name = entry.lstrip("*").strip(".")
    return (host.endswith(name) or fnmatchcase(host, name)) if name else "*" in entry


def _is_network(text: str) -> bool:
    """Tell whether `text` is an IP address or a block of them (CIDR)."""
    try:
        ip_network(text.strip("[]"), strict=False)
    except ValueError:
        return False
    return True
