"""What an answer would tell the caller of the credential that we sent in a query or in a cookie.

Location: /jobs/?page=2&api_key=…      without the parameter, wherever the link leads
Location: /login?next=%2Fjobs%3Fapi_key%3D…      nor as a part of another one
Set-Cookie: JSESSIONID=…               not at all: the session is ours
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import quote

from authproxy import masking
from authproxy.masking import MASK
from authproxy.proxy.injection import cookie_name

LINKS = frozenset({b"location", b"content-location", b"link", b"refresh"})
SET_COOKIE = b"set-cookie"
LEAST = 8  # characters of a value that is looked for wherever it stands

# What stands around a parameter, plainly or escaped once, as in a URL that is a parameter of another one.
_MARK = rb"(?:\?|#|%3[fF]|%23)"  # the first one follows it
_AND = rb"(?:[&;]|%26|%3[bB])"
_VALUE = rb"(?:=[^&;#\s\"<>]*|%3[dD](?:(?!%26|%23|%3[bB])[^&;#\s\"<>])*)"
_END = rb"(?=[&;#\s\"<>]|%26|%23|%3[bB]|\Z)"
_ENDS_IN_AND = re.compile(_AND + rb"\Z")


class Hiding:
    """Takes the parameters `query` out of links, and the `cookies` out of what an upstream sets.

    What was `sent` in the query lately goes out of links in whatever spelling: it may stand there under
    another name.
    """

    def __init__(
        self, *, query: Iterable[str] = (), cookies: Iterable[str] = (), sent: Iterable[str] = ()
    ) -> None:
        self._cookies = frozenset(cookies)
        self._sent = sent
        names = b"|".join(_any_escape(name) for name in query)
        one = b"(?:%b)(?:%b|%b)" % (names, _VALUE, _END)
        some = b"(?P<mark>%b)?(?:(?(mark)|%b)%b)" % (_MARK, _AND, one)
        self._parameters = re.compile(b"%b(?:%b%b)*%b?" % (some, _AND, one, _AND)) if names else None

    def concerns(self, name: bytes) -> bool:
        """Tell whether a header, by its name in lower case, may tell of what is hidden."""
        return (self._parameters is not None and name in LINKS) or (
            bool(self._cookies) and name == SET_COOKIE
        )

    def value(self, name: bytes, value: bytes) -> bytes | None:
        """Return the value of a header without what is hidden; None where nothing of it is left."""
        name = name.lower()
        if name == SET_COOKIE and cookie_name(value.partition(b";")[0]) in self._cookies:
            return None
        if self._parameters is None or name not in LINKS:
            return value
        if sent := tuple(each for each in self._sent if len(each) >= LEAST):
            text = _masking(sent)(value.decode("utf-8", "surrogateescape"))
            value = text.replace(MASK, "").encode("utf-8", "surrogateescape")
        return self._parameters.sub(_what_is_left, value)


@lru_cache(maxsize=64)
def _masking(secrets: tuple[str, ...]) -> masking.Hiding:
    return masking.Hiding([*secrets, *(quote(each, safe="") for each in secrets)])


def _what_is_left(match: re.Match[bytes]) -> bytes:
    """Return what joins the text before some parameters to the text behind them."""
    separator = _ENDS_IN_AND.search(match[0])
    if match["mark"] is None:
        return separator[0] if separator is not None else b""
    return match["mark"] if separator is not None else b""


def _any_escape(name: str) -> bytes:
    """Return a pattern for `name`, any character of which may be escaped, once or twice, as URLs have it."""
    plain = {byte: b"[ +]" if byte == ord(" ") else re.escape(bytes([byte])) for byte in name.encode()}
    return b"".join(b"(?:%b|(?i:%%(?:25)?%02x))" % (plain[byte], byte) for byte in name.encode())
