"""What an upstream says of itself in JSON, said of the proxy, while it streams by.

    the head    may this body be changed? ─┬─ it is none of ours: as it is
                                           ├─ it should be, and cannot: as it is, and counted
                                           └─ what is no longer true of it goes from the head (RFC 9110 §7.7)
    the body    json_scanner.py: string values that begin with one of the targets' prefixes; or a plain text

A target is this route, or another one with the same credential: what an upstream writes must lead nobody to
where another credential is added.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from time import perf_counter
from typing import Protocol

from authproxy.proxy.context import RequestContext
from authproxy.proxy.entity_tags import EntityTags
from authproxy.proxy.json_scanner import JSONScanner, TextScanner
from authproxy.proxy.rewrite import asked_for, origin_parts
from authproxy.proxy.upstream.reply import Reply, ReplyHeaders
from authproxy.proxy.url_prefixes import Prefix, Prefixes
from authproxy.values import DEFAULT_PORTS

MAX_HOSTS = 64  # names of ours whose patterns are remembered, where the upstream is told of them

# What describes the body as the upstream has sent it. Ranges of it would not fit into what the client has.
UNTRUE = frozenset(b"content-length digest content-digest repr-digest content-md5 accept-ranges".split())
NO_RANGES = (b"Accept-Ranges", b"none")

_CHARSET = re.compile(rb""";[ \t]*charset[ \t]*=[ \t]*["']?([^;"' \t]+)""", re.IGNORECASE)
_UTF_8 = frozenset({b"utf-8", b"utf8", b"us-ascii"})
_NO_TRANSFORM = re.compile(rb"(?:\A|,)[ \t]*no-transform[ \t]*(?:,|\Z)", re.IGNORECASE)
_DIGITS = re.compile(rb"[0-9]+")


class Place(Protocol):
    """Where a route is called."""

    def authority(self, asked: str) -> str:
        """Return its host and port, for one who has `asked` by these."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """What is replaced, and by what: what begins with `prefix` is at `place`, below the path `mount`."""

    prefix: Prefix
    place: Place
    mount: str


class BodyRewriting:
    """How the bodies of one route's answers are made to point at the proxy.

    `types` are patterns of media types, in lower case; a body that is announced with more than `limit` bytes
    passes. An earlier one of `targets` goes before a later one; the first is the route itself. With
    `preserve_host` the upstream knows itself by the caller's `Host` too. `secure` says that callers speak TLS
    to us. What should have been changed and was not is told to `untouched`, with the reason.
    """

    def __init__(
        self,
        types: Iterable[str],
        *,
        limit: int,
        targets: Sequence[Target],
        preserve_host: bool = False,
        secure: bool = False,
        untouched: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        alternatives = "|".join(re.escape(each).replace(r"\*", r"[^/;,\s]*") for each in types)
        self._types = re.compile(rf"(?:{alternatives})\Z".encode(), re.IGNORECASE)
        self._limit = limit
        self._targets = targets
        self.tags = EntityTags()
        self._preserve_host = preserve_host
        self._scheme = "https" if secure else "http"
        self._untouched = untouched
        self._prefixes = lru_cache(maxsize=MAX_HOSTS)(self._prefixes_for)

    def begin(self, context: RequestContext, reply: Reply) -> JSONScanner | TextScanner | None:
        """Make the head of `reply` ready for a body that is changed, and return what changes that.

        Returns None, and leaves `reply` alone, where the body goes as it is.
        """
        told = _Told(reply.headers)
        if not self._concerns(reply.status, told):
            return None
        reason = self._obstacle(reply.status, told)
        if reason is not None:
            self._tell(context, reason)
            return None
        reply.headers = self._changed(reply.headers)
        reply.plain, reply.length = None, None
        return self._scanner(context, told.media_type)

    # ── the head ─────────────────────────────────────────────────────────────────────────────────

    def _concerns(self, status: int, told: "_Told") -> bool:
        """Tell whether the body is one to be changed, or one that nobody could (multipart)."""
        media_type = told.media_type
        if not media_type and status == 304:
            return True  # it does not say of what: a weak tag is true of that as well
        return self._types.match(media_type) is not None or media_type.startswith(b"multipart/")

    def _obstacle(self, status: int, told: "_Told") -> str | None:
        """Return why a body cannot be changed; None where it can."""
        charset = _CHARSET.search(told.one(b"content-type"))
        length = told.one(b"content-length")
        if status == 206:
            return "partial"
        if told.media_type.startswith(b"multipart/"):
            return "multipart"
        if told.one(b"content-encoding").strip().lower() not in {b"", b"identity"}:
            return "encoded"
        if charset is not None and charset[1].lower() not in _UTF_8:
            return "charset"
        if _NO_TRANSFORM.search(told.one(b"cache-control")):
            return "no_transform"
        return "too_large" if _DIGITS.fullmatch(length) and int(length) > self._limit else None

    def _changed(self, headers: ReplyHeaders) -> ReplyHeaders:
        """Return a header section without what is no longer true."""
        kept = [
            (name, self.tags.weakened(value) if name.lower() == b"etag" else value)
            for name, value in headers
            if name.lower() not in UNTRUE
        ]
        return [*kept, NO_RANGES]

    def _tell(self, context: RequestContext, reason: str) -> None:
        context.notes().steps.append(("rewrite", f"the body passes untouched: {reason}", perf_counter()))
        self._untouched(reason)

    # ── the body ─────────────────────────────────────────────────────────────────────────────────

    def _scanner(self, context: RequestContext, media_type: bytes) -> JSONScanner | TextScanner:
        request = context.request
        asked = asked_for(request)[0]
        replacements = [self._written(each, asked) for each in self._targets]
        prefixes, own = self._prefixes(request.authority if self._preserve_host else "")
        replacements = [replacements[0]] * own + replacements
        if media_type == b"text/plain":
            return TextScanner(prefixes, replacements)
        return JSONScanner(prefixes, replacements, lambda: self._tell(context, "charset"))

    def _written(self, target: Target, asked: str) -> bytes:
        """Return what `target` becomes, as it stands in a JSON string."""
        url = f"{self._scheme}://{target.place.authority(asked)}{target.mount}"
        return json.dumps(url)[1:-1].encode("ascii")

    def _prefixes_for(self, host: str) -> tuple[Prefixes, int]:
        """Return what is looked for, and how many of these are this route by the caller's `host`."""
        itself = self._targets[0].prefix
        parts = [origin_parts(scheme, host) for scheme in DEFAULT_PORTS] if host else []
        own = [Prefix.of(*each, itself.path, itself.closed) for each in parts if each is not None]
        return Prefixes([*own, *(each.prefix for each in self._targets)]), len(own)


class _Told:
    """What a header section says."""

    def __init__(self, headers: ReplyHeaders) -> None:
        self._values: dict[bytes, list[bytes]] = {}
        for name, value in headers:
            self._values.setdefault(name.lower(), []).append(value)

    def one(self, name: bytes) -> bytes:
        """Return the value of a header, several joined as a list (RFC 9110 §5.3), "" for none."""
        return b", ".join(self._values.get(name, ()))

    @property
    def media_type(self) -> bytes:
        """The media type, in lower case, without parameters."""
        return self.one(b"content-type").partition(b";")[0].strip().lower()
