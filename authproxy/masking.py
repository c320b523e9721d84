"""The one place that knows what must never be printed.

`as_data` walks settings, however deep they are nested, and tells of each leaf whether it is secret; `masked`
and `leaves` are what most callers want of it. `is_secret_name` knows the headers, parameters and fields whose
values are secrets by their name; `shown_header` and `shown_query` are what of them may be seen. `scrub` takes
known secrets out of a foreign text, in each spelling in which a server may echo them, `Hiding` out of many
or long ones; `replaced` puts another text where they are; `without_query` takes the query off a URL; `sound`
takes out what cannot be encoded.
"""

import base64
import html
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import Field, dataclass, field, fields, is_dataclass
from itertools import pairwise
from typing import Any
from urllib.parse import quote, quote_plus, unquote_plus

from pydantic import SecretStr

from authproxy.escapes import layers

MASK = "••••"
FOREIGN_TEXT = 300  # characters of somebody else's message that we repeat
SHORT_SECRET = 8  # characters
SCALARS = (str, int, float, SecretStr, type(None))  # leaves, whatever else is known of them

_ABSOLUTE = re.compile(
    r"((?:https?:)?//)(?:[^/?#@]*@)?([\w.\[\]:-]{1,253})(?:[/?#]|\Z)", re.ASCII | re.IGNORECASE
)
_HALF = re.compile("[\ud800-\udfff]")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_ESCAPE = re.compile("%[0-9A-F]{2}")


# Letters next to which an ASCII one could be part of a word: where words are not set apart, nothing is.
_WORD = re.compile(r"[0-9A-Za-z_\u00c0-\u024f]")
_ESCAPED = re.compile(r"(?:%[0-9A-Fa-f]{2}|\\[bfnrt]|\\u[0-9A-Fa-f]{4})\Z")  # %3Dword, \nword, \u0022word

MAX_ESCAPE = 6  # characters


# ── settings ─────────────────────────────────────────────────────────────────────────────────────


VALUE = "value"


@dataclass(slots=True)  # and not frozen, which takes a third longer: there are very many
class Leaf:
    """A value that is not walked any further, and what is known of it.

    `declared` is the dataclass field that it is in, `name` its key if it is in a mapping. `hidden` says that
    the field does not print. `place` is where it was written, an `authproxy.config.document.Item`, if that
    is known.
    """

    value: Any = field(repr=False)
    declared: Field[Any] | None = None
    name: str = ""
    hidden: bool = False
    place: Any = None

    @property
    def is_secret(self) -> bool:
        """Whether it is by its type, by its field, or because a reference gave it."""
        return self.is_declared_secret or (self.value is not None and self.is_from_reference)

    @property
    def is_declared_secret(self) -> bool:
        """Whether it is by its type or by its field."""
        return self.value is not None and (self.hidden or isinstance(self.value, SecretStr))

    @property
    def is_from_reference(self) -> bool:
        return self.place is not None and bool(self.place.sources)

    def part(self, part: str | int, value: Any, declared: Field[Any] | None = None) -> "Leaf":
        """Return what is known of `value`, which this one holds as its `part`."""
        return Leaf(
            value,
            declared or self.declared,
            part if declared is None and isinstance(part, str) else "",
            self.hidden or (declared is not None and not declared.repr),
            self._place_of(part),
        )

    def _place_of(self, part: str | int) -> Any:
        """Return where a part was written: what a preset calls `value` may be one or another key's."""
        if self.place is None:
            return None
        return self.place.child(part) or self.place.child(VALUE)


def as_data(
    value: Any,
    shown: Callable[[Leaf], Any],
    *,
    place: Any = None,
    keep: Callable[[Field[Any], Any], bool] = lambda _field, _data: True,
) -> Any:
    """Return `value` as dicts and lists, each leaf as `shown` has it.

    `keep` is asked, with what came of it, for each field of a dataclass whether it stays. What a reference
    gave is a leaf, whatever was made of it; a field that is None stays that.
    """

    def walk(here: Leaf) -> Any:
        if isinstance(here.value, SCALARS) or here.is_from_reference:
            return shown(here)
        if is_dataclass(here.value):
            found = {}
            for each in fields(here.value):
                value = getattr(here.value, each.name)
                data = walk(here.part(each.name, value, each)) if value is not None else None
                if keep(each, data):
                    found[each.name] = data
            return found
        if isinstance(here.value, Mapping):
            return {str(name): walk(here.part(str(name), each)) for name, each in here.value.items()}
        if isinstance(here.value, list | tuple):
            return [walk(here.part(index, each)) for index, each in enumerate(here.value)]
        return shown(here)

    return walk(Leaf(value, place=place))


def leaves(value: Any, place: Any = None) -> list[Leaf]:
    """Return all that `value` comes to, in order, but for fields that are None."""
    found: list[Leaf] = []
    as_data(value, found.append, place=place)
    return found


def masked(value: Any, place: Any = None) -> Any:
    """Return `value` as plain data for people: secrets masked, fields that say nothing left out."""
    return as_data(
        value,
        lambda leaf: MASK if leaf.is_secret else leaf.value,
        place=place,
        keep=lambda _, data: data is not None and data not in ([], {}),
    )


# ── names ────────────────────────────────────────────────────────────────────────────────────────

SECRET_WORDS = frozenset({
    "assertion", "auth", "authorization", "cookie", "credential", "credentials", "jwt", "otp", "passcode",
    "passphrase", "passwd", "password", "pin", "pwd", "secret", "session", "sessionid", "sid", "sig",
    "signature", "token", "tokens", "totp",
})  # fmt: skip
"""Words of a name that make its value a secret."""
SECRET_ENDS = (
    "token",
    "secret",
    "password",
    "passwd",
    "apikey",
    "accesskey",
    "secretkey",
    "cookie",
    "sessionid",
    "sessid",
)
SECRET_KEYS = frozenset(
    {"access", "api", "auth", "authproxy", "private", "secret", "subscription", "shared", "signing"}
)
"""What a key is of when it is a secret: an `Idempotency-Key` is none."""
SECRET_PARAMETERS = frozenset({"code", "key"})
"""Query parameters that are secrets although headers and fields of that name are not."""
SCHEMES = frozenset({"actiontoken", "apikey", "basic", "bearer", "digest", "dpop", "negotiate", "token"})
URL_HEADERS = frozenset({"content-location", "link", "location", "referer", "refresh"})
"""Headers that hold URLs, with queries of their own."""

_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
_PARTS = re.compile(r"[^\s;,=\"]{8,}")  # of `Bearer x`, of `session=x; other=y`
_IN_URL = re.compile(r"\?([^\s<>\"'#,]*)")
_FLAG = re.compile(r"[A-Za-z_-]{1,24}\Z")


def is_secret_name(name: str) -> bool:
    """Whether the value of a header, a parameter or a field called `name` is a secret."""
    words = [word.lower() for word in _WORDS.findall(name)]
    return (
        not SECRET_WORDS.isdisjoint(words)
        or any(word.endswith(SECRET_ENDS) for word in words)
        or any(word == "key" and before in SECRET_KEYS for before, word in pairwise(words))
    )


def is_secret_parameter(name: str) -> bool:
    """Whether the value of a query's parameter, as it stands there, is a secret."""
    plain = unquote_plus(name)
    return plain.lower() in SECRET_PARAMETERS or is_secret_name(plain)


def holds_secret_parameter(query: str) -> bool:
    """Whether a query has a parameter whose value is a secret."""
    parts = re.split("[&;]", query)
    return any(
        is_secret_parameter(name) for name, equals, _ in (part.partition("=") for part in parts) if equals
    )


def shown_query(query: str) -> str:
    """Return a query with its values masked; what may be a value without a name is one."""
    return "&".join(map(_shown_part, query.split("&")))


def _shown_part(part: str) -> str:
    name, equals, value = part.partition("=")
    if equals:
        return f"{name}={MASK if value else ''}"
    return name if not name or (_FLAG.match(name) and not is_secret_name(name)) else MASK


def is_secret_header(name: str, value: str, also: AbstractSet[str] = frozenset()) -> bool:
    """Whether a header must not be kept as it is; `also` are names that are secrets here, in lower case."""
    if name.lower() in also or is_secret_name(name):
        return True
    if name.lower() not in URL_HEADERS:
        return False
    return any(holds_secret_parameter(query) for query in _IN_URL.findall(value))


def shown_header(name: str, value: str, also: AbstractSet[str] = frozenset()) -> str:
    """Return as much of a header's value as may be seen."""
    if name.lower() in also or is_secret_name(name):
        scheme, space, _ = value.partition(" ")
        return f"{scheme} {MASK}" if space and scheme.lower() in SCHEMES else MASK
    if name.lower() in URL_HEADERS:
        return _IN_URL.sub(lambda found: f"?{shown_query(found[1])}", value)
    if name.lower() == "host" and "@" in value:  # none, but somebody has put a password there
        return f"{MASK}@{value.rpartition('@')[2]}"
    return value


def secrets_of_header(name: str, value: str, also: AbstractSet[str] = frozenset()) -> Iterator[str]:
    """Yield what is not shown of a header, whole and in parts: somebody else may repeat it."""
    if name.lower() in URL_HEADERS:
        for query in _IN_URL.findall(value):
            yield from secrets_of_query(query)
    elif shown_header(name, value, also) != value:
        yield from (value, *_PARTS.findall(value))


def secrets_of_query(query: str) -> Iterator[str]:
    """Yield the values in a query that are long enough to be masked wherever they stand."""
    for part in query.split("&"):
        value = unquote_plus(part.partition("=")[2])
        if len(value) >= SHORT_SECRET:
            yield value


# ── texts ────────────────────────────────────────────────────────────────────────────────────────


def without_query(url: str) -> str:
    """`url` fit for a log: user information, query and fragment taken off."""
    bare = url.partition("#")[0].partition("?")[0]
    scheme, separator, rest = bare.partition("//")
    if not separator or (scheme and not scheme.endswith(":")):
        return bare
    authority, slash, path = rest.partition("/")
    return f"{scheme}//{authority.rpartition('@')[2]}{slash}{path}"


def origin_in(location: str) -> str | None:
    """Return the scheme and the host of a foreign `location`, if it has any: the rest may repeat a secret."""
    found = _ABSOLUTE.match(location)
    return found[1] + found[2] if found is not None else None


def sound(text: str) -> str:
    """`text` without the lone surrogates that JSON can bring, and that cannot be sent or printed."""
    return _HALF.sub("\ufffd", text)


def one_line(text: str) -> str:
    """`text` without control characters, which a terminal obeys."""
    return _CONTROLS.sub(" ", text)


def scrub(text: str, secrets: Iterable[str]) -> str:
    """Somebody else's `text` made fit to repeat: one line, not too long, `secrets` masked.

    A secret is masked in each spelling in which a server may echo it. One that is shorter than
    `SHORT_SECRET` is part of other words by chance: it is masked when it is a word by itself.
    """
    text = one_line(Hiding(secrets)(text)).strip()
    return text if len(text) <= FOREIGN_TEXT else text[: FOREIGN_TEXT - 1] + "…"


class Hiding:
    """Masks `secrets` as `scrub` does it, in texts however long; their spellings are worked out once."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._spellings = {each for secret in secrets for each in _spellings(secret)}
        self._shortest = min(map(len, self._spellings), default=1)

    def __call__(self, text: str) -> str:
        text = sound(text)
        return text if len(text) < self._shortest else replaced(text, self.places(text), MASK)

    def places(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield where `text` holds a secret, in one of its spellings, percent-encoded however often."""
        for layer in layers(text):
            for spelling in self._spellings:
                for start, end in _places_of(layer.text, spelling):
                    yield layer.place(start), layer.place(end)


def replaced(text: str, places: Iterable[tuple[int, int]], by: str) -> str:
    """Return `text` with `by` in the `places`; those that overlap are one: no rest is left."""
    kept, behind = [], 0
    for start, end in merged(places):
        kept += [text[behind:start], by]
        behind = end
    return "".join([*kept, text[behind:]]) if kept else text


def merged(places: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return `places` in order, those that overlap or touch as one."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(places):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return found


def _places_of(text: str, secret: str) -> Iterator[tuple[int, int]]:
    start = text.find(secret)
    while start >= 0:
        end = start + len(secret)
        if len(secret) >= SHORT_SECRET or _is_word(text, start, end):
            yield start, end
        start = text.find(secret, end)


def _is_word(text: str, start: int, end: int) -> bool:
    """Whether no word that begins before `start` or ends behind `end` holds what is in between."""
    if _WORD.match(text, end - 1) and _WORD.match(text, end):
        return False
    before = text[max(0, start - MAX_ESCAPE) : start]
    goes_on = _WORD.match(before[-1:]) and _WORD.match(text, start)
    return not goes_on or _ESCAPED.search(before) is not None


def _spellings(secret: str) -> set[str]:
    """Return `secret` as it is, percent-encoded, in Base64, and escaped for JSON and HTML."""
    if not secret:
        return set()
    raw = secret.encode("utf-8", "replace")
    found = {
        secret,
        html.escape(secret),
        html.escape(secret).replace("&#x27;", "&#39;").replace("&quot;", "&#34;"),
    }
    for safe in ("", "/", "!'()*"):  # forms, paths, and what JavaScript leaves alone
        found |= {quote(raw, safe), quote_plus(raw, safe)}
    found |= {_ESCAPE.sub(lambda escape: escape[0].lower(), each) for each in found}
    found |= {base64.b64encode(raw).decode().rstrip("="), base64.urlsafe_b64encode(raw).decode().rstrip("=")}
    for ascii_only in (True, False):
        escaped = json.dumps(secret, ensure_ascii=ascii_only)[1:-1]
        found |= {escaped, escaped.replace("/", "\\/")}
    return found
