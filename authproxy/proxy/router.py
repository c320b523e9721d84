"""Which route a request belongs to, what `allow` says, and what the upstream is asked for.

The *decoded* path is judged, the *raw* one is sent. A path is compared segment by segment; what a
server might read as a step up (`..`, `%2e%2e`, `..;x`, `..%2f`) is walked through, and may not leave
the route's prefix.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Generic, Protocol, TypeVar
from urllib.parse import unquote

from authproxy.errors import Forbidden, NoRoute

_NEEDS_CARE = re.compile(r"%|//|/\.|\\|;")
_SEPARATORS = re.compile(r"[/\\]")
# More bytes than UTF-8 takes for a character (RFC 3629 §3): a dot or a slash to some, nothing to others.
_OVERLONG = re.compile(r"%(?:c[01]%[89ab]|e0%[89]|f0%8)[0-9a-f]", re.IGNORECASE)


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
    """The routes, the longest match first: one with `host` before one without, then the longer `path`."""

    def __init__(self, routes: Iterable[R]) -> None:
        self._routes = sorted(routes, key=lambda route: (route.host is None, -len(route.path)))

    def match(self, host: str, path: str) -> R:
        """Return the route for a raw `path` (no query) asked of `host`. Raises `NoRoute`."""
        plain = (
            path if is_plain(path) else "/".join(["", *(_one_segment(each) for each in path.split("/")[1:])])
        )
        for route in self._routes:
            if (route.host is None or route.host == host) and _is_under(plain, route.path):
                return route
        prefixes = ", ".join(
            f"{route.host or ''}{route.path}" for route in sorted(self._routes, key=lambda route: route.path)
        )
        raise NoRoute(f"no route is mounted there; there are: {prefixes}")


def is_plain(path: str) -> bool:
    """Whether a raw path can be read in one way only."""
    return not _NEEDS_CARE.search(path)


def _is_under(path: str, prefix: str) -> bool:
    """Whether `path` is `prefix` or below it, on a segment boundary."""
    if prefix == "/":
        return True
    return path.startswith(prefix) and (len(path) == len(prefix) or path[len(prefix)] == "/")


def _one_segment(raw: str) -> str:
    """Decode a segment; an encoded slash must not make two of it, so it stays encoded."""
    return unquote(raw, errors="surrogateescape").replace("/", "%2F")


def judged_paths(path: str, prefix: str) -> set[str]:
    """Return the path below `prefix` in each way in which a server may understand it.

    Decoded, with its steps walked; and the same without the parameters (`;x=1`) that some servers take off
    a segment first. Raises `Forbidden` for a path that steps out of `prefix`.
    """
    depth = 0 if prefix == "/" else prefix.count("/")
    below = path.split("/")[1 + depth :]
    if is_plain(path):
        return {"/" + "/".join(below)}
    if _OVERLONG.search(path):
        raise Forbidden("the path hides characters in an overlong encoding")
    parts: list[str] = []
    for segment in below:
        parts += _SEPARATORS.split(unquote(segment, errors="surrogateescape"))
    return {_walked(parts), _walked([part.partition(";")[0] for part in parts])}


def _walked(parts: list[str]) -> str:
    walked: list[str] = []
    for part in parts:
        if part == "..":
            if not walked:
                raise Forbidden("the path steps out of its route")
            walked.pop()
        elif part not in {"", "."}:
            walked.append(part)
    trailing = "/" if walked and parts[-1] in {"", ".", ".."} else ""
    return "/" + "/".join(walked) + trailing


class Allow:
    """Least privilege: what a route lets out. Patterns know `*` (within a segment), `**` and a leading `!`.

    The first pattern that fits decides; `!` refuses. What fits none is refused.
    """

    def __init__(
        self,
        *,
        methods: Sequence[str] | None = None,
        paths: Sequence[str] | None = None,
        hint: str | None = None,
    ) -> None:
        self._methods = frozenset(methods) if methods is not None else None
        self._paths = (
            None if paths is None else [(_pattern(path), not path.startswith("!")) for path in paths]
        )
        self._hint = hint

    def check(self, method: str, path: str) -> None:
        """Raise `Forbidden` unless `method` and the judged `path` may leave."""
        if self._methods is not None and method not in self._methods:
            raise Forbidden(f"this route does not allow {method}", hint=self._hint)
        if self._paths is None:
            return
        for pattern, verdict in self._paths:
            if pattern.match(path):
                if verdict:
                    return
                break
        raise Forbidden("this route does not allow that path", hint=self._hint)


def _pattern(glob: str) -> re.Pattern[str]:
    """Compile a glob; `/a/**` fits `/a/` and everything below it, `/**` everything."""
    parts = re.split(r"(\*\*|\*)", glob.removeprefix("!"))
    words = {"**": ".*", "*": "[^/]*"}
    return re.compile("".join(words.get(part, re.escape(part)) for part in parts) + r"\Z", re.DOTALL)


def upstream_target(target: str, *, strip: str, base: str) -> str:
    """Return the raw target for the upstream: `strip` (a prefix, or "") taken off, `base` put before it."""
    if target == "*":  # OPTIONS, of the whole server (RFC 9112 §3.2.4), or of all that is ours of it
        return base or target
    path, question, query = target.partition("?")
    if strip:
        segments = path.split("/")
        rest = segments[strip.count("/") + 1 :]
        path = "/" + "/".join(rest) if rest else ""
    path = base + path
    return f"{path or '/'}{question}{query}"
