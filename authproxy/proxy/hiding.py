"""What an answer would tell the caller of the credential that we sent in a query or in a cookie.

Location: /jobs/?page=2&api_key=…      without the parameter, wherever the link leads
Location: /login?next=%2Fjobs%3Fapi_key%3D…      nor as a part of another one, however often it is encoded
Set-Cookie: JSESSIONID=…               not at all: the session is ours
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from authproxy import masking
from authproxy.escapes import layers
from authproxy.proxy.injection import cookie_name

LINKS = frozenset({b"location", b"content-location", b"link", b"refresh"})
SET_COOKIE = b"set-cookie"
LEAST = 8  # characters of a value that is looked for wherever it stands

# What stands around a parameter. Its value ends where one of the same level of encoding does; before it the
# encoding may be deeper, as some encode no `=` in a parameter.
_MARK = r"(?:\?|#|%(?:25)*(?:3[fF]|23))"  # the first one follows it
_AND = r"(?:[&;]|%(?:25)*(?:26|3[bB]))"
_VALUE = r"=[^&;#\s\"<>]*"
_END = rf"(?=[&;#\s\"<>]|{_AND}|%(?:25)*23|\Z)"


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
        names = "|".join(map(_any_escape, query))
        one = f"(?:{names})(?:{_VALUE}|{_END})"
        some = f"(?P<mark>{_MARK})?(?:(?(mark)|{_AND}){one})"
        pattern = f"{some}(?:{_AND}{one})*(?P<separator>{_AND})?"
        self._parameters = re.compile(pattern, re.ASCII) if names else None

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
        text = value.decode("utf-8", "surrogateescape")
        sent = _masking(tuple(each for each in self._sent if len(each) >= LEAST))
        places = [*sent.places(text), *self._places(text, self._parameters)]
        return masking.replaced(text, places, "").encode("utf-8", "surrogateescape")

    @staticmethod
    def _places(text: str, parameters: re.Pattern[str]) -> Iterator[tuple[int, int]]:
        """Yield where parameters stand in `text`, with what joins them to others that go on."""
        for layer in layers(text):
            for match in parameters.finditer(layer.text):
                start, mark, separator, end = map(
                    layer.place, (match.start(), match.end("mark"), match.start("separator"), match.end())
                )
                if match["separator"] is None:
                    yield start, end
                elif match["mark"] is not None and mark - start == end - separator:  # of one level
                    yield mark, end
                else:
                    yield start, separator


@lru_cache(maxsize=64)
def _masking(secrets: tuple[str, ...]) -> masking.Hiding:
    return masking.Hiding(secrets)


def _any_escape(name: str) -> str:
    """Return a pattern for `name`, any character of which may be escaped, however often, as URLs have it."""
    return "".join(f"(?:{_plain(each)}|{_escaped(each)})" for each in name)


def _plain(character: str) -> str:
    return "[ +]" if character == " " else re.escape(character)


def _escaped(character: str) -> str:
    return "".join(f"(?i:%(?:25)*{byte:02x})" for byte in character.encode())
