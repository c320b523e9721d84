"""Making token requests: forms, queries, headers, Basic (RFC 7617)."""

import base64
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode

from authproxy.masking import sound

FORM = "application/x-www-form-urlencoded"

Parameters = Mapping[str, str | tuple[str, ...]]
"""Of a request; a value that is a tuple is several."""


def basic_value(username: str, password: str) -> str:
    """Return `username:password` as Basic carries it (RFC 7617, UTF-8)."""
    return base64.b64encode(f"{username}:{password}".encode()).decode()


def base32(text: str) -> bytes:
    """Return what `text` encodes (RFC 4648 §6), padded or not; raise ValueError."""
    bare = text.rstrip("=")
    return base64.b32decode(bare + "=" * (-len(bare) % 8))


def with_defaults(headers: Mapping[str, str], defaults: Mapping[str, str]) -> dict[str, str]:
    """Return `headers` and those of `defaults` that are not among them, in whatever case."""
    names = {name.lower() for name in headers}
    return {name: value for name, value in defaults.items() if name.lower() not in names} | dict(headers)


def in_pairs(parameters: Parameters) -> list[tuple[str, str]]:
    """Return `parameters` as they are sent; one with several values comes several times."""
    return [
        (name, each)
        for name, value in parameters.items()
        for each in ((value,) if isinstance(value, str) else value)
    ]


def with_query(url: str, pairs: list[tuple[str, str]]) -> str:
    """Return `url` with `pairs` added to its query."""
    if not pairs:
        return url
    return f"{url}{'&' if '?' in url else '?'}{urlencode(pairs)}"


def callback_query(text: str) -> dict[str, str]:
    """Return the query of `text`: the URL that a browser came back to, or what follows its `?`.

    Raises ValueError when there is none, or when a parameter comes twice (RFC 6749 §3.1).
    """
    query = sound(text).strip().partition("#")[0]
    query = query.partition("?")[2] if "?" in query else query
    pairs = parse_qsl(query, keep_blank_values=True)
    found = dict(pairs)
    if "state" not in found or len(found) < len(pairs):
        raise ValueError(
            "should be the whole URL that the browser was redirected to, with code= and state= in it"
        )
    return found
