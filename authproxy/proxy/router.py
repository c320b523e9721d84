r"""Which route a request belongs to, what `allow` says, and what the upstream is asked for.

The *decoded* path is judged, the *raw* one is sent. Servers do not agree on what a path says, so it is
judged in every way in which one may read it:

    /a/../b          nginx and Go walk the dots, Django and Express leave them alone
    /a//b            nginx, Apache and Tomcat merge empty segments, Express and Envoy keep them
    /a%2fb           to nginx, Go and Django these are two segments, to Express they are one
    /a;x/b           Tomcat and Jetty take parameters off a segment, most others do not
    /a\b, /a%5cb     to IIS, and to who parses URLs as browsers do, a backslash is a slash

and in any order in which one may do so. No reading may leave the route's prefix; `allow` must allow them all.
"""

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Generic, Protocol, TypeVar
from urllib.parse import unquote

from authproxy.errors import Forbidden, NoRoute

NEEDS_CARE = re.compile(r"%|//|/\.|\\|;").search  # what makes a path readable in more ways than one
_EMPTY_SEGMENTS = re.compile("//+")
_PARAMETERS = re.compile(r";[^/]*")


# More bytes than UTF-8 takes for a character (RFC 3629 §3), and what only IIS takes for one: a dot or a slash
# to some, nothing to others.
_HIDDEN = re.compile(r"%(?:(?:c[01]%[89ab]|e0%[89]|f0%8)[0-9a-f]|u[0-9a-f]{4})", re.IGNORECASE)


# Characters that matter, and what stands for an escaped one until it is decoded: no text holds surrogates.
_ESCAPED = {plain: chr(0xD800 + ord(plain)) for plain in "/\\.;"}
_ESCAPES = {f"%{ord(plain):02x}": escaped for plain, escaped in _ESCAPED.items()}
_ESCAPE = re.compile("|".join(_ESCAPES), re.IGNORECASE)
_AS_JUDGED = str.maketrans({escaped: plain for plain, escaped in _ESCAPED.items()} | {_ESCAPED["/"]: "%2F"})

_STEPS = frozenset({".", ".."})
_BLANKS = dict.fromkeys([*range(0x21), 0x7F])

MAX_READINGS = 128  # of one path; what people ask for has a handful
MAX_TO_READ = 256 << 10  # characters of all of them: whoever makes up a long path must not hold us up


class Mounted(Protocol):
    """What the table needs to know of a route."""

    @property
    def name(self) -> str: ...
    @property
    def host(self) -> str | None: ...
    @property
    def path(self) -> str: ...


R = TypeVar("R", bound=Mounted)


class RouteTable(Generic[R]):
    """The routes, the longest match first: one with `host` before one without, then the longer `path`.

    `at` is the host of an upstream at whose own URLs they are asked: there a path is of its base path.
    """

    def __init__(self, routes: Iterable[R], *, at: str = "") -> None:
        self._at = at
        self._routes = list(routes)
        self._mounted: dict[str | None, dict[str, R]] = {}  # by host, and by path
        for route in self._routes:
            self._mounted.setdefault(route.host, {}).setdefault(route.path, route)
        # If it is the only one, and at the root of every host, nothing has to be looked up.
        self._root = self._routes[0] if set(self._mounted) == {None} and len(self._routes) == 1 else None
        if self._root is not None and self._root.path != "/":
            self._root = None
        self._depth = max((route.path.count("/") for route in self._routes), default=0)

    def match(self, host: str, path: str) -> R:
        """Return the route for a raw `path` (no query) asked of `host`. Raises `NoRoute`."""
        plain = (
            path if is_plain(path) else "/".join(["", *(_one_segment(each) for each in path.split("/")[1:])])
        )
        if (route := self.find(host, plain)) is not None:
            return route
        if not self._routes:
            raise NoRoute("no route is mounted here", hint="each has an address of its own: call it there")
        raise self._no_route()

    def _no_route(self) -> NoRoute:
        prefixes = ", ".join(
            f"{route.host or ''}{route.path}"
            for route in sorted(self._routes, key=lambda route: (route.path, route.host is None))
        )
        if self._at:
            return NoRoute(
                f"no route covers this path of {self._at}; base paths covered there: {prefixes}",
                hint="shorten the base path in the route's `upstream`, or add a route",
            )
        return NoRoute(
            f"no route is mounted there; the routes are: {prefixes}",
            hint="begin the path with one of them (`path`, `host`)",
        )

    def find(self, host: str, path: str) -> R | None:
        """Return the route for a decoded path asked of `host`, if there is one."""
        if self._root is not None:
            return self._root
        parts = path.split("/", self._depth + 1)
        for mounted in (self._mounted.get(host), self._mounted.get(None)):
            if mounted is None:
                continue
            for count in range(min(len(parts), self._depth + 1), 1, -1):
                if (route := mounted.get("/".join(parts[:count]))) is not None:
                    return route
            if (route := mounted.get("/")) is not None:
                return route
        return None


def is_plain(path: str) -> bool:
    """Whether a raw path can be read in one way only."""
    return not NEEDS_CARE(path)


def _is_under(path: str, prefix: str) -> bool:
    """Whether `path` is `prefix`, which is not the root, or below it, on a segment boundary."""
    return path.startswith(prefix) and (len(path) == len(prefix) or path[len(prefix)] == "/")


def _one_segment(raw: str) -> str:
    """Decode a segment; an encoded slash must not make two of it, so it stays encoded."""
    return unquote(raw, errors="surrogateescape").replace("/", "%2F")


def path_interpretations(path: str, prefix: str) -> set[str]:
    """Return the path below `prefix` in each way in which a server may understand it, decoded.

    A slash that was encoded, and is none, stands there as `%2F`. Raises `Forbidden` for a path that can be
    understood to step out of `prefix`, or in too many ways.
    """
    if is_plain(path):
        below = path if prefix == "/" else path[len(prefix) :]
        return {below if below.startswith("/") else "/"}
    depth = 0 if prefix == "/" else prefix.count("/")
    below = "/" + "/".join(path.split("/")[1 + depth :])
    if _HIDDEN.search(path):
        raise Forbidden("the path hides characters in an overlong or unusual encoding")
    held = _ESCAPE.sub(lambda escape: _ESCAPES[escape[0].lower()], below)
    waiting = {unquote(held, errors="surrogateescape")}
    found: set[str] = set()
    while waiting:
        found |= waiting
        if len(found) > MAX_READINGS or len(found) * len(below) > MAX_TO_READ:
            raise Forbidden("the path can be read in too many ways")
        waiting = {read(each) for each in waiting for read in _WAYS} - found
    if any(_hides_a_step(each) for each in found):
        raise Forbidden("the path hides a step, `.` or `..`, behind white space or control characters")
    return {each.translate(_AS_JUDGED) for each in found}


def _hides_a_step(path: str) -> bool:
    """Tell whether who takes white space and control characters off a segment gets a step."""
    bare = path.translate(_BLANKS)
    return bare != path and any(
        part not in _STEPS and part.translate(_BLANKS) in _STEPS for part in path.split("/")
    )


def _walked(path: str) -> str:
    if "/." not in path:
        return path
    walked: list[str] = []
    parts = path.split("/")[1:]
    for part in parts:
        if part == "..":
            if not walked:
                raise Forbidden("the path steps out of its route")
            walked.pop()
        elif part != ".":
            walked.append(part)
    if parts[-1] in {".", ".."}:
        walked.append("")
    return "/" + "/".join(walked)


def _replacing(old: str, new: str) -> Callable[[str], str]:
    return lambda path: path.replace(old, new)


_WAYS: tuple[Callable[[str], str], ...] = (
    _walked,
    partial(_EMPTY_SEGMENTS.sub, "/"),
    partial(_PARAMETERS.sub, ""),
    _replacing("\\", "/"),
    *(_replacing(escaped, plain) for plain, escaped in _ESCAPED.items()),
)


def upstream_target(target: str, *, strip: str, base: str) -> str:
    """Return the raw target for the upstream: `strip` (a prefix, or "") taken off, `base` put before it."""
    if target == "*":  # OPTIONS, of the whole server (RFC 9112 §3.2.4), or of all that is ours of it
        return base or target
    path, question, query = target.partition("?")
    if strip and _is_under(path, strip):
        path = path[len(strip) :]
    elif strip:  # it stands there in another spelling
        segments = path.split("/")
        rest = segments[strip.count("/") + 1 :]
        path = "/" + "/".join(rest) if rest else ""
    path = base + path
    return f"{path or '/'}{question}{query}"
