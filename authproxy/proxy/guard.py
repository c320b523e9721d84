"""Who may ask at all. authproxy lends its credentials to whoever reaches it, so the door is here.

Which hosts, origins and keys a guard knows is gathered in app/site.py.

What a browser sends to a local port on behalf of somebody else's page (observed with Chromium):

    from                        Host        Origin        Sec-Fetch-Site
    image, script, no-cors      ours        -             cross-site
    form or text/plain POST     ours        the site      cross-site
    WebSocket                   ours        the site      -
    DNS rebinding, GET          the site    -             -
    DNS rebinding, POST         the site    equals Host   -

No single header catches them all: `Host`, `Sec-Fetch-Site` and `Origin` are all judged. A caller that
sends none of the latter two (curl, a script) is let through.
"""

import asyncio
import hmac
import re
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Protocol
from urllib.parse import urlsplit

from multidict import CIMultiDictProxy, istr

from authproxy.errors import BadRequest, Forbidden, KeyRequired
from authproxy.proxy.plain import HTTP_1_0, HTTP_1_1, Version
from authproxy.values import is_loopback, unmapped

HOST, ORIGIN, SITE = istr("Host"), istr("Origin"), istr("Sec-Fetch-Site")
AUTHORIZATION, TE = istr("Authorization"), istr("Transfer-Encoding")
CONTENT_LENGTH = istr("Content-Length")
JUDGED = (HOST, ORIGIN, SITE, AUTHORIZATION, TE)
"""The headers whose values the guard judges, besides that of the access key."""
NO_FORWARD_PROXY = (
    "this address is not a forward proxy (curl -x, HTTPS_PROXY): call a route by its own URL here, or use "
)
BY_EXEC = "`authproxy exec --forward`"
REFUSED_METHODS = {
    "CONNECT": "",  # `use_proxy` has it
    "TRACE": "a TRACE would show the credential; ask with another method",
}
"""Methods that are not forwarded, and what to do instead."""
CONTAINER_HOSTS = frozenset(
    {"host.docker.internal", "host.containers.internal", "host.lima.internal", "gateway.docker.internal"}
)
"""What containers call the machine that they run on."""
OWN_SITE = frozenset({"same-origin", "none"})
ANOTHER_PAGE = "no page but its own may use it: open that one in the browser, or use curl"
OTHER_ORIGIN = "if that page is yours, add its origin, as in https://app.example, to `allowed_origins`"
OTHER_SITE = f"{OTHER_ORIGIN}; to look at it yourself, type the URL into the browser or use curl"
MAX_HOSTS = 1024  # spellings of `Host` remembered,
MAX_HOST = 128  # characters each: callers may make them up

_AUTHORITY = re.compile(
    r"(\[[0-9A-Fa-f]*:[0-9A-Fa-f:.]*\]|[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?)(?::([0-9]{1,5}))?\Z"
)
_PATH_OR_QUERY = re.compile(r"[/?]")
_UNSAFE_IN_TARGET = re.compile(r"[^\x21-\x7e\x80-\xff\udc80-\udcff]|#")


class Asked(Protocol):
    """What the guard needs to know of a request."""

    @property
    def method(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def version(self) -> Version: ...
    @property
    def headers(self) -> CIMultiDictProxy[str]: ...
    @property
    def local_address(self) -> str | None:
        """The IP address at which the caller reached us; None where there is none."""


class Guard:
    """Decides whether a caller may ask. `access_keys` empty means that no key is needed.

    `forward_proxy` says what to use for who takes us for a forward proxy.
    """

    refused_methods = REFUSED_METHODS
    what = "this proxy"
    other_origin = OTHER_ORIGIN
    other_site = OTHER_SITE

    def __init__(
        self,
        *,
        hosts: Iterable[str] = (),
        origins: Iterable[str] = (),
        access_header: str = "",
        access_keys: Iterable[str] = (),
        forward_proxy: Callable[[], str] = lambda: BY_EXEC,
    ) -> None:
        self._forward_proxy = forward_proxy
        self._hosts = {plain_host(host) for host in hosts}
        self._origins = set(origins)
        self._access_header = istr(access_header)
        self._access_keys = [key.encode() for key in access_keys]
        self._known: dict[str, str] = {}

    def check(self, request: Asked, *, from_any_site: bool = False) -> tuple[str, str]:
        """Return the host (without port) and the raw target in origin form.

        `from_any_site` leaves open which page sent the request.

        Raises `BadRequest` or `Forbidden`.
        """
        headers = request.headers
        self._check_version(request)
        self._check_method(request)
        self._check_framing(request, headers)
        target = request.target
        authority = headers.get(HOST, "") or self._in_target(request)
        host = self._known.get(authority) or self._check_host(authority, request)
        if not target.startswith("/"):
            authority, host, target = self._absolute(request, target, authority, host)
        if not is_safe_target(target):
            raise BadRequest("the request target holds a space, a control character or a fragment")
        if not from_any_site and (SITE in headers or ORIGIN in headers):
            self._check_site(headers, authority)
        return host, target

    def check_key(self, request: Asked) -> None:
        """Raise `KeyRequired` unless the caller sent one of the keys, if any is needed."""
        if not self.is_admitted(request.headers.get(self._access_header, "")):
            raise KeyRequired(
                f"this proxy wants a key in {self._access_header}", hint="send one of `access.tokens`"
            )

    def is_key(self, sent: str) -> bool:
        """Whether `sent` is one of the keys."""
        # Compared with each of them, so that the time taken tells nothing.
        given = sent.encode("utf-8", "surrogateescape")
        return sum([hmac.compare_digest(given, key) for key in self._access_keys]) > 0

    def use_proxy(self) -> str:
        """Return what to do for who takes this for a forward proxy."""
        return NO_FORWARD_PROXY + self._forward_proxy()

    def wrong_path(self, request: Asked) -> str | None:
        """Return what to do for who asks for what is no route's; None where the routes say that."""
        return None if request.target.startswith(("/", "*")) else self.use_proxy()

    def known_host(self, authority: str) -> str | None:
        """Return the host, without port, of a `Host` that has passed before wherever it came in, or None."""
        return self._known.get(authority)

    @property
    def key_header(self) -> str:
        """The header that holds the access key; "" when none is needed."""
        return self._access_header if self._access_keys else ""

    def is_admitted(self, key: str) -> bool:
        """Whether who sent `key` ("" for none) may come in."""
        return not self._access_keys or self.is_key(key)

    @property
    def has_origins(self) -> bool:
        """Whether any foreign origin may call."""
        return bool(self._origins)

    def allowed_origin(self, request: Asked) -> str | None:
        """Return the foreign origin that may read the answer, or None."""
        origins = request.headers.getall(ORIGIN, ())
        return origins[0] if len(origins) == 1 and origins[0].lower() in self._origins else None

    @staticmethod
    def _in_target(request: Asked) -> str:
        """Return the authority that a URL names where nothing else does, as HTTP/1.0 has it."""
        whole = request.target.lower().startswith(("http://", "https://"))
        if not whole or HOST in request.headers or request.version != HTTP_1_0:
            raise BadRequest("the Host header is missing")
        return split_absolute(request.target)[0]

    # ── one rule each ────────────────────────────────────────────────────────────────────────────

    def _check_version(self, request: Asked) -> None:
        if request.version not in (HTTP_1_1, HTTP_1_0):
            raise BadRequest("unsupported HTTP version: send HTTP/1.1 or HTTP/1.0")

    def _check_method(self, request: Asked) -> None:
        instead = self.refused_methods.get(request.method.upper())  # to some `trace` is TRACE
        if instead is not None:
            raise Forbidden(f"{request.method} is not forwarded", hint=instead or self.use_proxy())

    def _check_framing(self, request: Asked, headers: CIMultiDictProxy[str]) -> None:
        encoding = headers.get(TE)
        if encoding is not None and (encoding.lower() != "chunked" or request.version == HTTP_1_0):
            raise BadRequest("the only transfer encoding is chunked, in HTTP/1.1 (RFC 9112 §6.1)")
        if AUTHORIZATION in headers and len(headers.getall(AUTHORIZATION)) > 1:
            raise BadRequest("there is more than one Authorization header")

    def _check_host(self, authority: str, request: Asked) -> str:
        found = read_authority(authority)
        if found is None:
            raise BadRequest("the Host header is malformed")
        host = plain_host(found[0])
        if is_loopback(host, any_spelling=False) or host in self._hosts or "*" in self._hosts:
            self._remember(authority, host)
            return host
        if _is_address(host, request.local_address):
            return host  # a literal cannot be a rebound name; another connection may have come in elsewhere
        raise Forbidden(
            f"requests to the host {host} are not answered here", hint=self._host_hint(host, request)
        )

    def _host_hint(self, host: str, request: Asked) -> str:
        """Return what to do about a host that is none of ours."""
        if not request.target.startswith("/"):
            return self.use_proxy()
        if host in CONTAINER_HOSTS:
            return f"to let containers on this machine in, add {host} to `allowed_hosts`"
        return "call it by 127.0.0.1 or localhost; or, if that name is yours, add it to `allowed_hosts`"

    def _remember(self, authority: str, host: str) -> None:
        """Know that a `Host` passes."""
        if len(self._known) < MAX_HOSTS and len(authority) <= MAX_HOST:
            self._known[authority] = host

    def _absolute(self, request: Asked, target: str, authority: str, host: str) -> tuple[str, str, str]:
        """Judge a target that is not a path (RFC 9112 §3.2.2, §3.2.4); its host overrides `Host`."""
        if target == "*" and request.method == "OPTIONS":
            return authority, host, target
        if not target.lower().startswith(("http://", "https://")):
            raise BadRequest("the request target is neither a path nor a URL")
        authority, path = split_absolute(target)
        return authority, self._check_host(authority, request), path

    def _check_site(self, headers: CIMultiDictProxy[str], authority: str) -> None:
        if len(headers.getall(ORIGIN, ())) > 1 or len(headers.getall(SITE, ())) > 1:
            raise BadRequest("Origin or Sec-Fetch-Site is there more than once")
        origin = headers.get(ORIGIN)
        if origin is not None and origin.lower() in self._origins:
            return
        if origin is not None and not self._is_own(origin, authority):
            raise Forbidden(f"a web page of another origin may not use {self.what}", hint=self.other_origin)
        if headers.get(SITE, "none") not in OWN_SITE:
            raise Forbidden(f"a web page of another site may not use {self.what}", hint=self.other_site)

    def _is_own(self, origin: str, authority: str) -> bool:
        """Whether `origin` is the proxy itself, as the caller addressed it."""
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        return parts.scheme in {"http", "https"} and parts.netloc.lower() == authority.lower()


class AdminGuard(Guard):
    """The admin listener's: no other page may call it, whatever `allowed_origins` says."""

    what = "the admin listener"
    other_origin = other_site = ANOTHER_PAGE


def split_absolute(target: str) -> tuple[str, str]:
    """Return the authority of a target in absolute form, "" for `*`, and the target in origin form."""
    rest = target.partition("://")[2]
    authority = _PATH_OR_QUERY.split(rest, maxsplit=1)[0]
    path = rest[len(authority) :]
    return authority, path if path.startswith("/") else f"/{path}"


def local_address(transport: asyncio.BaseTransport | None) -> str | None:
    """Return the IP address of our end of a connection, or None."""
    name = transport.get_extra_info("sockname") if transport is not None else None
    return str(name[0]) if isinstance(name, tuple) else None


def plain_host(host: str) -> str:
    """Return `host` as hosts are compared: lower case, without brackets and the root's dot."""
    return host.strip("[]").rstrip(".").lower()


def _is_address(host: str, address: str | None) -> bool:
    """Whether `host` is the IP address `address`, in whatever spelling; one of IPv4 may be mapped to IPv6."""
    try:
        return address is not None and _address(host) == _address(address)
    except ValueError:
        return False


def _address(text: str) -> IPv4Address | IPv6Address:
    return unmapped(ip_address(text.partition("%")[0]))


def read_authority(text: str) -> tuple[str, int | None] | None:
    """Return the host of an authority, without brackets, and the port that it names; None for none at all."""
    match = _AUTHORITY.match(text)
    if match is None or not 0 < int(match[2] or 80) <= 65535:
        return None
    return match[1].strip("[]"), int(match[2]) if match[2] else None


def is_safe_target(target: str) -> bool:
    """Tell whether a raw target holds nothing that ends it for some (RFC 9112 §3.2)."""
    return _UNSAFE_IN_TARGET.search(target) is None
