"""Placeholders: what stands in for a token where a client wants to have one of its own.

A placeholder is made of a route's name alone, so that every process and replica makes the same one, whatever
becomes of the token. It is no secret and worth nothing: a request without a credential gets as much.

    a request ─▶ is_noticed()? ── no, as a rule ─▶ goes on as it is
                      │
                     yes ─▶ taken_out(): its route's own ─▶ out with it, as if it had never been there
                                         any other       ─▶ 403

No placeholder goes on in a header, a cookie or the query, however it is written there.
"""

import json
import re
from base64 import b64decode, b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from itertools import chain
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote_to_bytes

from authproxy.errors import Forbidden

if TYPE_CHECKING:
    from authproxy.proxy.context import RequestContext

PREFIX = "authproxy-p-"
PLACEHOLDER = re.compile(r"authproxy-p-[A-Za-z0-9_-]{43}")

SHORTEST = len(PREFIX) + 43  # characters, and in what way it may be written, it takes no fewer
MAX_LAYERS = 3  # of one way of writing over another
NO_JWT_HEADER = {"alg": "none", "typ": "JWT"}
FRAMING = b"host"  # the one header that no request can go without
FORGOTTEN = "the configuration has changed since: have the client log in again"
ELSEWHERE = "send it to that route, or let the client log in at this one"
ONLY_THERE = "a placeholder stands for a token in a header, a cookie or the query"

_RAW = re.compile(PLACEHOLDER.pattern.encode())
_BASIC = re.compile(rb"basic[ \t]+([A-Za-z0-9+/_-]+)", re.IGNORECASE)
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{72,}")
_IN_A_QUERY = re.compile("([&;])")
_PIECES_OF = {b"cookie": b";", b"sec-websocket-protocol": b","}
"""Headers of which a piece can go without the rest, and what is between the pieces."""


class Credentialed(Protocol):
    """A route: its name, and the key that it shares with the routes of the same credential."""

    @property
    def name(self) -> str: ...
    @property
    def key(self) -> str: ...


def placeholder(name: str) -> str:
    """Return the placeholder of the credential whose first configured route is called `name`."""
    return PREFIX + urlsafe_b64encode(sha256(name.encode()).digest()).decode().rstrip("=")


def placeholders(routes: Iterable[Credentialed]) -> dict[str, str]:
    """Return each route's placeholder by the route's name, of routes in the order of their configuration."""
    first: dict[str, str] = {}
    return {route.name: placeholder(first.setdefault(route.key, route.name)) for route in routes}


# ── one that looks like a token ──────────────────────────────────────────────────────────────────


def as_jwt(mark: str, token: str, *, issued_at: int, expires_at: int) -> str | None:
    """Return `token`, a JWT, with moments of its own (epoch seconds) and `mark` as signature; else None."""
    parts = token.split(".")
    header, claims = map(_json_object, parts[:2]) if len(parts) == 3 else (None, None)
    if header is None or claims is None:
        return None
    return f"{parts[0]}.{_encoded(claims | {'iat': issued_at, 'exp': expires_at})}.{mark}"


def bare_jwt(mark: str, *, issued_at: int, expires_at: int) -> str:
    """Return a JWT that claims nothing but its moments."""
    return f"{_encoded(NO_JWT_HEADER)}.{_encoded({'iat': issued_at, 'exp': expires_at})}.{mark}"


def _json_object(part: str) -> dict[str, Any] | None:
    try:
        found = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _encoded(claims: Mapping[str, Any]) -> str:
    return urlsafe_b64encode(json.dumps(claims, separators=(",", ":")).encode()).decode().rstrip("=")


# ── found ────────────────────────────────────────────────────────────────────────────────────────


def _in_base64(text: bytes) -> Iterator[bytes]:
    """Yield what Base64 always makes of `text`, wherever in a longer one it begins."""
    for before in range(3):
        first, last = -(-8 * before // 6), 8 * (before + len(text)) // 6
        yield b64encode(bytes(before) + text)[first:last]


_PLAIN = PREFIX.encode()
_FIRST, _SECOND, _THIRD = _in_base64(_PLAIN)


def is_noticed(text: bytes, layers: int = MAX_LAYERS) -> bool:
    """Whether there may be a placeholder in `text`: plain, in Base64, percent-encoded or escaped."""
    find = text.find  # a third of the time of `in`, for each section that is seen for the first time
    if find(_PLAIN) >= 0 or find(_FIRST) >= 0 or find(_SECOND) >= 0 or find(_THIRD) >= 0:
        return True
    if find(b"%") < 0 and find(b"\\") < 0 and text.lower().find(b"basic") < 0:
        return False  # as a rule
    return layers > 0 and any(is_noticed(each, layers - 1) for each in _simply_read(text))


def _simply_read(text: bytes) -> Iterator[bytes]:
    """Yield `text` as whoever undoes one way of writing reads it."""
    if b"%" in text and (plain := unquote_to_bytes(text)) != text:
        yield plain
    if b"\\" in text:  # a quoted pair (RFC 9110 §5.6.4)
        yield text.replace(b"\\", b"")
    for match in _BASIC.finditer(text):
        yield _decoded(match[1])


def _read(text: bytes) -> Iterator[bytes]:
    """Yield the same, and whatever in it may be Base64."""
    yield from _simply_read(text)
    for run in _BASE64.findall(text):
        for start in range(4):
            yield _decoded(run[start:])


def _decoded(run: bytes) -> bytes:
    """Return what a run of Base64's letters, of either alphabet, stands for; a last one alone is nothing."""
    letters = run.translate(_STANDARD)
    letters = letters[:-1] if len(letters) % 4 == 1 else letters
    return b64decode(letters + b"=" * (-len(letters) % 4))


_STANDARD = bytes.maketrans(b"-_", b"+/")


def placeholders_in(text: bytes, layers: int = MAX_LAYERS) -> set[str]:
    """Return every placeholder in `text`, however it is written."""
    found = {match.decode() for match in _RAW.findall(text)}
    if layers > 0 and is_noticed(text, layers):
        found = found.union(*(placeholders_in(each, layers - 1) for each in _read(text)))
    return found


# ── taken out ────────────────────────────────────────────────────────────────────────────────────


class Placeholders:
    """What one route makes of them: `own` is its credential's, or None; `owners` names a route for each."""

    def __init__(self, own: str | None = None, owners: Mapping[str, str] | None = None) -> None:
        self.own = own
        self._owners = owners or {}

    def taken_out(self, context: "RequestContext", target: str) -> str:
        """Take the route's own out of the request; return `target`, the request's in origin form, without.

        Raises `Forbidden` for any other, and where one cannot be taken out.
        """
        request = context.request
        named = target.encode("utf-8", "surrogateescape")
        if not is_noticed(named) and not any(map(is_noticed, chain.from_iterable(request.raw_headers))):
            return target
        self._refuse_in_path(named.partition(b"?")[0])
        places: list[str] = []
        pairs = tuple(self._headers(request.raw_headers, places))
        rest = self._target(target, places)
        if places:
            request.replace(self._target(request.target, []), pairs)
            context.notes().steps.append(
                ("placeholder", f"taken out of {', '.join(dict.fromkeys(places))}", perf_counter())
            )
        return rest

    def _is_own(self, text: bytes, place: str) -> bool:
        """Tell whether there is one in `text`. Raises `Forbidden` if it is another's."""
        found = placeholders_in(text)
        self._refuse_others(found, place)
        return bool(found)

    def _refuse_others(self, found: Iterable[str], place: str) -> None:
        for each in sorted(found):
            if each != self.own:
                raise self._others(each, place)

    def _others(self, found: str, place: str) -> Forbidden:
        owner = self._owners.get(found)
        if owner is None:
            return Forbidden(f"there is a placeholder in {place} that no route gave", hint=FORGOTTEN)
        return Forbidden(
            f"there is the placeholder of another credential in {place}, that of the route {owner}",
            hint=ELSEWHERE,
        )

    def _refuse_in_path(self, path: bytes) -> None:
        """Raise `Forbidden` if there is one in a path: no part of that can go."""
        if found := placeholders_in(unquote_to_bytes(path), 0):
            self._refuse_others(found, "the path")
            raise Forbidden("there is a placeholder in the path", hint=ONLY_THERE)

    def _headers(
        self, pairs: Iterable[tuple[bytes, bytes]], places: list[str]
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield the headers that are left, each to the byte; note the `places` that held one."""
        for name, value in pairs:
            place = "the name of a header" if placeholders_in(name) else name.decode("latin-1")
            if not self._is_own(b"%b: %b" % (name, value), place):
                yield name, value
                continue
            if name.lower() == FRAMING:
                raise Forbidden("there is a placeholder in Host", hint=ONLY_THERE)
            places.append(place)
            mark = _PIECES_OF.get(name.lower().replace(b"_", b"-"))
            left = self._pieces(value, mark) if mark is not None else b""
            if left:
                yield name, left

    def _pieces(self, value: bytes, mark: bytes) -> bytes:
        """Return the pieces of a header that hold none."""
        pieces = [piece for piece in value.split(mark) if not placeholders_in(piece)]
        return mark.join(pieces).strip(b" \t")

    def _target(self, target: str, places: list[str]) -> str:
        """Return a target without the parameters that hold one, the rest to the character."""
        path, question, query = target.partition("?")
        if not self._is_own(query.encode("utf-8", "surrogateescape"), "the query"):
            return target
        places.append("the query")
        parts = ["&", *_IN_A_QUERY.split(query)]  # each behind its mark
        kept = [
            (mark, part)
            for mark, part in zip(parts[::2], parts[1::2], strict=True)
            if not placeholders_in(part.encode("utf-8", "surrogateescape"))
        ]
        left = "".join(chain.from_iterable(kept))[1:]
        return f"{path}{question}{left}" if left else path
