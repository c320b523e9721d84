"""A redirect that means: this credential will not do. Sites for people send one instead of a 401.

302, Location: /login?next=%2Fjobs      redirects: ["/login**"]
303, Location: https://sso.example/…    redirects: ["https://sso.example/**"]
"""

import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote, urljoin, urlsplit

from authproxy.proxy.allow import compiled
from authproxy.proxy.rewrite import OriginParts, origin_parts

_HOST = re.compile(rb"\r\nhost:[ \t]*([^\r\n]*)", re.IGNORECASE)
REDIRECTS = frozenset({301, 302, 303, 307, 308})
OWN = "the upstream's own"


class LoginRedirects:
    """Patterns for where an upstream at `origin` sends who has to log in.

    One that begins with `/` is for paths on the upstream's own origin, one with a scheme for the origin that
    it names, in whatever spelling. With `preserve_host` the upstream knows itself by the caller's `Host` too.
    """

    def __init__(self, patterns: Iterable[str], origin: str, *, preserve_host: bool = False) -> None:
        self._patterns = list(map(_read, patterns))
        self._origin = origin.lower()
        self._preserve_host = preserve_host

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def fit(self, headers: Iterable[tuple[bytes, bytes]], head: bytes) -> bool:
        """Tell whether a redirect in answer to a request with this `head` leads there."""
        locations = [value.decode("latin-1") for name, value in headers if name.lower() == b"location"]
        if len(locations) != 1:
            return False
        target = head.split(b" ", 2)[1].decode("utf-8", "surrogateescape")
        try:
            parts = urlsplit(urljoin(f"{self._origin}{target}", locations[0].strip(" \t")))
            authority = parts.netloc.rpartition("@")[2].lower()
        except ValueError:
            return False
        path = unquote(parts.path) or "/"
        there = origin_parts(parts.scheme, authority)
        if there is None:
            return False
        is_own = there in self._own(head)
        return any(
            pattern.match(path) and (is_own if origin == OWN else origin == there)
            for origin, pattern in self._patterns
        )

    def _own(self, head: bytes) -> Iterator[OriginParts | None]:
        """Yield what the upstream calls itself, in answer to a request with this `head`."""
        scheme, _, authority = self._origin.partition("://")
        yield origin_parts(scheme, authority)
        match = _HOST.search(head) if self._preserve_host else None
        if match is not None:
            yield origin_parts(scheme, match[1].decode("latin-1"))


def _read(pattern: str) -> tuple[OriginParts | str | None, re.Pattern[str]]:
    """Return the origin that a pattern is for (None: it is none), and the pattern of the path there."""
    if pattern.startswith("/"):
        return OWN, compiled(pattern)
    scheme, _, rest = pattern.partition("://")
    authority, slash, path = rest.partition("/")
    return origin_parts(scheme, authority), compiled(slash + path)
