"""Where a token endpoint's answer holds what: JSON Pointers, and for a token a header or a cookie as well.

token: /data/token                      a field of the JSON document (RFC 6901)
token: {header: X-Subject-Token}        as OpenStack's Keystone has it
token: {cookie: JSESSIONID}             a login's session; it lasts as long as its Max-Age or Expires says
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from pydantic import ConfigDict

from authproxy.grants.inject import CookieName
from authproxy.grants.reply import ENDS_AT, read_lifetime, token_in
from authproxy.grants.steps import Answer
from authproxy.values import HeaderName, Pointer


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPlace:
    """A place of a token that is no field of a JSON document: a `header` or a `cookie` of the answer."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    header: HeaderName | None = None
    """The header that holds the token. Example: X-Subject-Token"""
    cookie: CookieName | None = None
    """The cookie that is the token. Example: JSESSIONID"""

    def __post_init__(self) -> None:
        if (self.header is None) == (self.cookie is None):
            raise ValueError("should name a header or a cookie")

    def __str__(self) -> str:
        return f"the header {self.header}" if self.header is not None else f"the cookie {self.cookie}"

    def find(self, answer: Answer) -> tuple[str, float | None] | None:
        """Return the token in `answer` and its lifetime in seconds, if that is said; None for none."""
        if self.header is not None:
            value = answer.headers.get(self.header, "").strip()
            return (value, None) if value else None
        found = None
        for name, value, lifetime in _cookies(answer):
            if name == self.cookie:
                found = (value, lifetime) if value and (lifetime is None or lifetime > 0) else None
        return found

    def there(self, answer: Answer) -> list[str]:
        """Return the names that such a place may have in `answer`; never a value."""
        if self.header is not None:
            return sorted({name.lower() for name in answer.headers} - {"set-cookie"})
        return list(dict.fromkeys(name for name, value, _ in _cookies(answer) if value))


TokenAt = Pointer | tuple[Pointer, ...] | TokenPlace


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyPointers:
    """Where a token reply holds what: JSON Pointers (RFC 6901); of a list the first that is there."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    token: TokenAt = "/access_token"  # noqa: S105 - a place, not a token
    """The token. One that is a number is taken for its digits. `{header: NAME}` and `{cookie: NAME}` are
    places outside the document. Example: /data/token"""
    expires_in: Pointer | tuple[Pointer, ...] = "/expires_in"
    """Its lifetime in seconds. Example: /data/ttl"""
    expires_at: Pointer | tuple[Pointer, ...] = ENDS_AT
    """Where there is no lifetime: the moment when the token ends, as the epoch's seconds or milliseconds, or
    in ISO 8601 (UTC when it names no zone). Example: /data/expires"""
    token_type: Pointer | tuple[Pointer, ...] = "/token_type"  # noqa: S105
    """Its type. One that a plain token cannot serve (DPoP, MAC) is an error. Example: /data/type"""
    refresh_token: Pointer | tuple[Pointer, ...] | None = "/refresh_token"  # noqa: S105
    """The refresh token. Example: /data/refresh"""


def token_at(answer: Answer, document: object, at: TokenAt) -> tuple[str | None, float | None]:
    """Return the token at `at`, None for none, and the lifetime in seconds that stands beside it, if any.

    `document` is the JSON in `answer`.
    """
    if isinstance(at, TokenPlace):
        return at.find(answer) or (None, None)
    return token_in(document, at), None


def _cookies(answer: Answer) -> Iterable[tuple[str, str, float | None]]:
    """Yield name, value and lifetime in seconds of each cookie that `answer` sets (RFC 6265 §5.2)."""
    for text in _all(answer.headers, "Set-Cookie"):
        pair, *attributes = text.split(";")
        name, _, value = pair.partition("=")
        named = {}
        for each in attributes:
            key, _, said = each.partition("=")
            named[key.strip().lower()] = said.strip()
        yield name.strip(), value.strip(), _lifetime(named, answer.asked_at)


def _lifetime(named: Mapping[str, str], now: float) -> float | None:
    """Return what `Max-Age`, or else `Expires`, comes to; 0 for a cookie that is taken back."""
    if (age := named.get("max-age", "")).lstrip("-").isdecimal():
        return read_lifetime(age) or 0.0
    try:
        ends = parsedate_to_datetime(named.get("expires", "")).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, ends - now)


def _all(headers: Mapping[str, str], name: str) -> Iterable[str]:
    """Return each header called `name`: there may be several in what aiohttp read."""
    getall = getattr(headers, "getall", None)
    if getall is not None:
        return list(getall(name, ()))
    return [headers[name]] if name in headers else []
