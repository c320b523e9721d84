"""Where a route's token goes in a request, put there when it is sent.

    headers    lines of their own, behind all others       encoded once a token
    query      appended to the target                      the rest of it stays to the byte
    cookies    behind the caller's in the one `Cookie`     (RFC 6265 §5.4)

What the caller brought in such a place is replaced, or the request goes as it came: `incoming` says.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import quote, unquote_plus

from authproxy.errors import BadTokenReply
from authproxy.masking import SCHEMES
from authproxy.tokens.token import Token
from authproxy.values import any_spelling

COOKIE = "Cookie"
MAX_RECENT = 8  # values: more than one token is at work only while it is renewed

_SEPARATOR = re.compile(b"([&;])")
_COOKIES = re.compile(rb"\r\n(cookie)[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE)

Fill = Callable[[Token], str]


@dataclass(frozen=True, slots=True)
class Injection:
    """The places of a route's token: `headers`, parameters of the `query` and `cookies`, by name.

    What is there for a token, the callables say; they raise `BadTokenReply` for one that does not go there.
    `scheme` is the one sent in `Authorization`, "" for none; None where nothing is sent there. `setting`
    is the key of the configuration that says so.
    """

    headers: Mapping[str, Fill]
    query: Mapping[str, Fill]
    cookies: Mapping[str, Fill]
    scheme: str | None = None
    setting: str = "scheme"
    recent: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_RECENT), repr=False, compare=False)
    """What the query got lately, which links of answers may repeat."""

    @property
    def edits(self) -> bool:
        """Whether more is to be done than to add lines."""
        return bool(self.query or self.cookies)

    @property
    def said(self) -> str:
        """The places in words."""
        return " and ".join(self._words(self.headers, self.query, self.cookies))

    def values(self, token: Token) -> Iterator[str]:
        """Yield what of `token` is sent, in each place: without the scheme before it."""
        for fill in (*self.headers.values(), *self.query.values(), *self.cookies.values()):
            with suppress(BadTokenReply):
                value = fill(token)
                word, _, rest = value.partition(" ")
                yield rest if word.lower() in SCHEMES else value

    def lines(self, token: Token) -> bytes:
        """Return the header lines for `token`, the one for cookies aside."""
        pairs = [f"{name}: {fill(token)}\r\n" for name, fill in self.headers.items()]
        return "".join(pairs).encode("latin-1")

    def edited(self, head: bytes, token: Token) -> bytes:
        """Return `head`, a request line and header lines, with `token` in its query and its cookies."""
        if self.query:
            method, target, rest = head.split(b" ", 2)
            head = b"%b %b %b" % (method, self._with_query(target, token), rest)
        return self._with_cookies(head, token) if self.cookies else head

    def _with_query(self, target: bytes, token: Token) -> bytes:
        path, question, query = target.partition(b"?")
        if path == b"*":  # the whole server is asked (RFC 9112 §3.2.4), which takes no query
            return target
        if question:
            query = self._without_ours(query)
        pairs = [(name, fill(token)) for name, fill in self.query.items()]
        self.recent.extend(value for _, value in pairs if value not in self.recent)
        added = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)
        between = b"&" if query and not query.endswith(b"&") else b""
        return b"%b?%b%b%b" % (path, query, between, added.encode())

    def _without_ours(self, query: bytes) -> bytes:
        """Return a query without parameters of our names, the rest of it to the byte."""
        parts = [b"&", *_SEPARATOR.split(query)]  # each behind its separator
        kept = [
            separator + part
            for separator, part in zip(parts[::2], parts[1::2], strict=True)
            if parameter(part) not in self.query
        ]
        return b"".join(kept)[1:]

    def _with_cookies(self, head: bytes, token: Token) -> bytes:
        kept = b"; ".join(filter(None, map(self._others, _COOKIES.finditer(head))))
        added = "; ".join(f"{name}={fill(token)}" for name, fill in self.cookies.items()).encode("latin-1")
        value = b"; ".join(filter(None, (kept, added)))
        match = _COOKIES.search(head)
        if match is None:
            return b"%b%b: %b\r\n" % (head, COOKIE.encode(), value)
        rest = _COOKIES.sub(b"", head[match.end() :])
        return b"%b\r\n%b: %b%b" % (head[: match.start()], match[1], value, rest)

    def _others(self, header: re.Match[bytes]) -> bytes:
        """Return the caller's own cookies of one header, to the byte, without those that we send."""
        pairs = [pair for pair in header[2].split(b";") if cookie_name(pair) not in self.cookies]
        return b";".join(pairs).strip(b" \t;")

    # ── what the caller brings ───────────────────────────────────────────────────────────────────

    def brought(
        self, headers: Mapping[str, str], target: str, goes: Callable[[str], bool] = lambda _name: True
    ) -> str | None:
        """Return in words which of the places the caller has filled; None for none.

        `goes` tells whether the header of a name goes on at all.
        """
        filled = [name for name in self.headers if name in headers and goes(name)]
        query = target.partition("?")[2].encode("utf-8", "surrogateescape")
        pieces = _SEPARATOR.split(query)[::2] if self.query and query else []
        parameters = set(map(parameter, pieces))
        cookies = set()
        if self.cookies and COOKIE in headers and goes(COOKIE):
            cookies = {cookie_name(pair) for value in _all(headers) for pair in value.split(b";")}
        words = self._words(filled, parameters & self.query.keys(), cookies & self.cookies.keys())
        return " and ".join(words) or None

    def may_be_brought(self, target: str, names: Iterable[bytes]) -> bool:
        """Tell whether a plain request may have something in the query or in a cookie of ours.

        `names` are those of its headers.
        """
        return bool(
            (self.query and "?" in target)
            or (self.cookies and any(any_spelling(name.decode("latin-1")) == "cookie" for name in names))
        )

    def _words(self, headers: Iterable[str], query: Iterable[str], cookies: Iterable[str]) -> list[str]:
        return [
            *headers,
            *(f"the query parameter {name}" for name in query),
            *(f"the cookie {name}" for name in cookies),
        ]


def parameter(text: bytes) -> str:
    """Return the name of a parameter of a query, decoded."""
    return unquote_plus(text.partition(b"=")[0].decode("utf-8", "surrogateescape"), errors="surrogateescape")


def cookie_name(pair: bytes) -> str:
    """Return the name in a pair of a `Cookie` header."""
    return pair.partition(b"=")[0].strip(b" \t").decode("utf-8", "surrogateescape")


def _all(headers: Mapping[str, str]) -> Iterable[bytes]:
    getall = getattr(headers, "getall", None)
    values = getall(COOKIE) if getall is not None else [headers[COOKIE]]
    return [value.encode("utf-8", "surrogateescape") for value in values]
