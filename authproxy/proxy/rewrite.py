"""What an upstream says of itself, said of the proxy, so that a tool which follows it stays here.

    upstream    https://api.example.com  /v2     /jobs/7?page=2     base path
                                                 │                  the rest, kept to the byte
    proxy       http://localhost:8080    /up42   /jobs/7?page=2     mount

`Location`, `Content-Location` and the targets of `Link` are references (RFC 3986 §4.1). They mean one thing
to whoever asked the upstream, and may mean another to whoever asked us; only those that do are changed.
What points elsewhere, or cannot be read in one way, comes back as it is. Nothing is followed here.

Of `Set-Cookie` it is `Domain` and `Path`, and those never point elsewhere: a cookie stays with its route.
"""

import re
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote, unquote

from authproxy.proxy.guard import plain_host
from authproxy.proxy.router import upstream_target
from authproxy.values import DEFAULT_PORTS, is_address

# An upstream chooses what is matched here: a part that has begun is never tried again (`*+`), so that the
# time is linear. RFC 3986 appendix B; a backslash is a slash to some, a control nothing: no match then.
_REFERENCE = re.compile(
    r"(?:([A-Za-z][A-Za-z0-9+.-]*+):)?"
    r"(?://([^/?#\\\x00-\x1f\x7f]*+))?([^?#\\\x00-\x1f\x7f]*+)([?#].*)?\Z",
    re.DOTALL,
)
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{0,5}))?\Z")
_HOST_NAME = re.compile(r"[A-Za-z0-9._:\[\]-]*\Z")
_TARGET = re.compile(r"(?:[A-Za-z]+://([^/?]*))?([^?]*)")
# RFC 8288 §3: quoted strings are passed over; a target stands at the start or behind a comma.
_LINK = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|(?:\A|,)[ \t,]*+(?:<([^>]*+))?', re.DOTALL)
_STAY = frozenset({".", "%2e", "%2E"})
_UP = frozenset(one + two for one in _STAY for two in _STAY)
_BLANKS = " \t"
_UNQUOTED = "/:@!$&'()*+,=~"  # what a path may hold (RFC 3986 §3.3), without what ends a cookie's attribute

OriginParts = tuple[str, str, int]


Mounts = AbstractSet[tuple[str, ...]]
"""The decoded steps from one mount to others below it."""


class Asked(Protocol):
    """What has to be known of the request that is answered; `authority` is its `Host`."""

    @property
    def target(self) -> str: ...
    @property
    def authority(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Bearings:
    """Where a request was sent, seen from both sides.

    `authority` is the proxy's, as the caller wrote it, `host` the caller's `Host`. `here` and `there` are the
    directories that relative references start from, on the proxy and on the upstream; `depth` is how many
    steps up lead to the same place from both, -1 for none.
    """

    authority: str
    host: str
    here: list[str]
    there: list[str]
    depth: int


class Rewriting:
    """How one route's answers are made to point at the proxy.

    `origin` is the upstream's (`https://api.example.com`); `base`, `path` and `strip` are as in `Route`. With
    `preserve_host` the upstream knows itself by the caller's `Host` too. `secure` says that callers speak
    TLS to us. What leads to one of the mounts `closed`, below this route's, is left alone.
    """

    def __init__(
        self,
        origin: str,
        *,
        base: str = "",
        path: str = "/",
        strip: str = "",
        preserve_host: bool = False,
        secure: bool = False,
        closed: Mounts = frozenset(),
    ) -> None:
        self._closed = closed
        self._scheme, _, authority = origin.partition("://")
        self._origin = origin_parts(self._scheme, authority)
        self._base = base
        self._strip = strip
        self._preserve_host = preserve_host
        self._proxy_scheme = "https" if secure else "http"
        self._mount = as_sent(path)
        steps = _directory(path.rstrip("/") + "/")
        base_steps = _directory(base + "/")
        self._mount_depth = len(steps)
        # The upstream's paths that this route reaches begin with `_owned`. To come here, the base is taken
        # off and the stripped mount put on again.
        self._owned = [_decoded(step) for step in (base_steps if strip else base_steps + steps)]
        self._taken_off = len(base_steps)
        self._put_on = self._mount if strip else ""
        self._rules = {
            b"location": self._reference,
            b"content-location": self._reference,
            b"link": self._link,
            b"set-cookie": self._cookie,
        }

    def rewrites(self, name: bytes) -> bool:
        """Tell whether a header, by its name in lower case, is one of those that point somewhere."""
        return name in self._rules

    def bearings(self, asked: Asked) -> Bearings:
        """Return where `asked` was sent."""
        authority, path = asked_for(asked)
        here = _directory(path)
        there = _directory(upstream_target(path or "/", strip=self._strip, base=self._base))
        depth = min(len(here) - self._mount_depth, len(there) - len(self._owned))
        return Bearings(authority, asked.authority, here, there, depth)

    def value(self, name: bytes, value: bytes, at: Bearings) -> bytes:
        """Return the value of a header that `rewrites`, for the one who asked from `at`."""
        text = value.decode("utf-8", "surrogateescape")
        return self._rules[name.lower()](text, at).encode("utf-8", "surrogateescape")

    # ── references ───────────────────────────────────────────────────────────────────────────────

    def _link(self, value: str, at: Bearings) -> str:
        def target(match: re.Match[str]) -> str:
            old = match[1]
            return match[0].removesuffix(old) + self._reference(old, at) if old else match[0]

        return _LINK.sub(target, value)

    def _reference(self, value: str, at: Bearings) -> str:
        match = _REFERENCE.match(value.strip(_BLANKS))
        if match is None:
            return value
        scheme, authority, path, rest = match.groups("")
        if match[2] is not None:
            moved = self._absolute(scheme, authority, path, at)
        else:  # mailto:; or this very page, with another query or fragment
            moved = None if scheme or not path else self._relative(path, at)
        return value if moved is None else moved + rest

    def _absolute(self, scheme: str, authority: str, path: str, at: Bearings) -> str | None:
        if not self._is_own(scheme.lower() or self._scheme, authority, at):
            return None
        moved = self._moved(path.split("/")[1:])
        if moved is None or leads_to(moved[len(self._mount.rstrip("/")) :], self._closed):
            return None
        return f"{self._proxy_scheme + ':' if scheme else ''}//{at.authority}{moved}"

    def _relative(self, path: str, at: Bearings) -> str | None:
        """Return the path on the proxy; None when `path` leads there by itself, or elsewhere anyway."""
        if path.startswith("/"):
            there = path.split("/")[1:]
            here = walk(there)[1]
        else:
            climbs, steps = walk(path.split("/"))
            if climbs <= at.depth:
                return None
            here = at.here[: max(0, len(at.here) - climbs)] + steps
            there = at.there[: max(0, len(at.there) - climbs)] + steps
        moved = self._moved(there)
        if moved is None or walk(moved.split("/")[1:])[1] == here:
            return None
        if moved.startswith("//"):  # what follows would be taken for a host
            return f"{self._proxy_scheme}://{at.authority}{moved}"
        return moved

    def _is_own(self, scheme: str, authority: str, at: Bearings) -> bool:
        """Whether this is what the upstream calls itself."""
        origin = origin_parts(scheme, authority)
        return origin is not None and (
            origin == self._origin or (self._preserve_host and origin == origin_parts(scheme, at.host))
        )

    def _moved(self, steps: list[str]) -> str | None:
        """Return the path on the proxy for one on the upstream; None when it is none of this route's."""
        for path in (steps, walk(steps)[1]):  # as it stands if that will do, else with its dots walked
            top, below = path[: len(self._owned)], path[len(self._owned) :]
            if [_decoded(step) for step in top] == self._owned and not walk(below)[0]:
                return "/".join([self._put_on, *path[self._taken_off :]]) or "/"
        return None

    # ── cookies ──────────────────────────────────────────────────────────────────────────────────

    def _cookie(self, value: str, at: Bearings) -> str:
        """Follow RFC 6265 §5.2: a semicolon ends everything, quotes or not, and the last of a name counts.

        To some clients it is the first of a name that does, so none may lead to another route.
        """
        pair, *attributes = value.split(";")
        named = [_attribute(each) for each in attributes]
        if not _is_for_the_whole_host(pair, named):
            paths = [(index, text.strip('"')) for index, (name, text) in enumerate(named) if name == "path"]
            for index, path in paths:
                if path.startswith("/"):
                    attributes[index] = attributes[index].replace(path, self._cookie_path(path), 1)
            if not (paths and paths[-1][1].startswith("/")) and len(at.here) < self._mount_depth:
                # Asked for the bare mount, it would be for the directory that holds it, and all routes there.
                attributes.append(f" Path={self._mount}")
        domains = [text for name, text in named if name == "domain" and text]
        if domains and (self._is_domain(domains[-1], at) or any(_reaches(each, at) for each in domains)):
            # Many clients refuse a `Domain` of localhost or of an address: none at all means this host.
            attributes = [each for each in attributes if _attribute(each)[0] != "domain"]
        return ";".join([pair, *attributes])

    def _cookie_path(self, path: str) -> str:
        """Return the path on the proxy; one that is none of this route's is put under its mount as well."""
        steps = path.split("/")[1:]
        around = [_decoded(step) for step in (steps[:-1] if steps[-1] == "" else steps)]
        if around == self._owned[: len(around)] and (not around or len(around) < len(self._owned)):
            return self._mount  # it is for all that the route reaches
        return self._moved(steps) or self._mount.rstrip("/") + path

    def _is_domain(self, domain: str, at: Bearings) -> bool:
        """Whether the upstream may set a cookie for `domain`."""
        origins = [self._origin, origin_parts(self._scheme, at.host) if self._preserve_host else None]
        return any(_matches(origin[1], domain) for origin in origins if origin is not None)


def _is_for_the_whole_host(pair: str, named: list[tuple[str, str]]) -> bool:
    """Whether this is a `__Host-` cookie (RFC 6265bis §4.1.3.2), good with `Path=/` only."""
    paths = {text for name, text in named if name == "path"}
    return pair.lstrip(_BLANKS).lower().startswith("__host-") and paths <= {"/"}


def _reaches(domain: str, at: Bearings) -> bool:
    """Whether a client that asked us there would take `domain`, and send the cookie to other hosts as well.

    What is no plain name counts as well: clients make of it what they like.
    """
    match = _AUTHORITY.match(at.authority)
    if not _HOST_NAME.match(domain):
        return True
    return match is not None and _matches(plain_host(match[1]), domain)


def _matches(host: str, domain: str) -> bool:
    """Whether `host` domain-matches (RFC 6265 §5.1.3)."""
    wanted = plain_host(domain.removeprefix("."))
    return host == wanted or (host.endswith(f".{wanted}") and not is_address(host))


def asked_for(asked: Asked) -> tuple[str, str]:
    """Return how whoever `asked` addressed the proxy, and the path."""
    match = _TARGET.match(asked.target)
    authority, path = match.groups() if match else (None, "/")
    return authority or asked.authority, path


def as_sent(path: str) -> str:
    """Return a path of the configuration as it stands in a URL; what is escaped in it stays so."""
    return quote(path, safe=f"{_UNQUOTED}%")


def origin_parts(scheme: str, authority: str) -> OriginParts | None:
    """Return scheme, host and port as origins are compared (RFC 6454 §4), or None."""
    match = _AUTHORITY.match(authority)
    if match is None or scheme not in DEFAULT_PORTS:
        return None
    return scheme, plain_host(match[1]), int(match[2] or DEFAULT_PORTS[scheme])


def _attribute(text: str) -> tuple[str, str]:
    """Return the name, in lower case, and the value of a cookie's attribute."""
    name, _, value = text.partition("=")
    return name.strip(_BLANKS).lower(), value.strip(_BLANKS)


def _decoded(step: str) -> str:
    return unquote(step, errors="surrogateescape")


def _directory(path: str) -> list[str]:
    """Return what relative references start from (RFC 3986 §5.2.3): all before the last slash."""
    return walk([*path.split("/")[1:-1], ""])[1][:-1]


def leads_to(path: str, mounts: Mounts) -> bool:
    """Tell whether a raw `path`, put behind a mount, leads to one of `mounts` below that, or further.

    Some merge slashes before they walk the dots: no reading of it may.
    """
    if not mounts:
        return False
    parts = path.split("/")
    for reading in (parts, [each for each in parts if each]):
        steps = tuple(_decoded(step) for step in walk(reading)[1] if step)
        if any(steps[:count] in mounts for count in range(1, len(steps) + 1)):
            return True
    return False


def walk(steps: list[str]) -> tuple[int, list[str]]:
    """Walk the dot segments (RFC 3986 §5.2.4), encoded ones too (§2.3).

    Returns how many steps lead up and out, and the steps that are left.
    """
    climbs = 0
    walked: list[str] = []
    for step in steps:
        if step in _UP:
            if walked:
                walked.pop()
            else:
                climbs += 1
        elif step not in _STAY:
            walked.append(step)
    if steps and (steps[-1] in _UP or steps[-1] in _STAY):
        walked.append("")
    return climbs, walked
