"""What the answer of a token endpoint looks like, told without its values.

what_it_is     "an HTML page", "an empty body", "text that is not JSON"; "" for JSON
words_in       what a server says went wrong: its codes, its sentences
fields_in      the names of a document's fields, as JSON Pointers (RFC 6901)
clock_skew     how far this machine's clock is from the server's
wants_tls      whether it says that plain http came to where https is spoken
"""

import re
from collections import deque
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

from authproxy.grants.reply import find, is_page, read_json
from authproxy.grants.steps import Answer

PAGE_CAME = "an HTML page"
CODES = ("error", "primaryErrorKey", "errorCode", "error_code", "code", "name")
SENTENCES = ("error_description", "message", "detail", "description")
MAX_WORDS = 3
MAX_NODES = 40  # of a document that are looked through
MAX_FIELDS = 12
MAX_DEPTH = 3
KINDS: tuple[tuple[type, str], ...] = (
    (type(None), "null"),
    (bool, "a boolean"),  # before the numbers, of which it is one
    (float, "a fraction"),
    (dict, "an object"),
    (list, "a list"),
)
"""What may stand in a field, and is neither text nor a whole number."""
NOTABLE_SKEW = 30.0  # seconds: as long as an answer may take, and a one-time code is good
WANT_TLS = (  # how nginx, Apache and Go say it
    b"plain HTTP request was sent to HTTPS port",
    b"speaking plain HTTP to an SSL-enabled server port",
    b"sent an HTTP request to an HTTPS server",
)

_NAME = re.compile(r"[A-Za-z_$@][\w.$@:-]{0,39}\Z", re.ASCII)
_VENDOR_CODE = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\Z")
_MANY_DIGITS = re.compile(r"(?:\d.*){5}")
_MAY_BE_A_TOKEN = re.compile(r"token|jwt|ticket|session", re.IGNORECASE)
_IS_NONE = re.compile(r"refresh|type|expir|scope|id_?token", re.IGNORECASE)


def what_it_is(answer: Answer) -> str:
    """Return what came where JSON was due, in words; "" if it is JSON."""
    if is_page(answer):
        return PAGE_CAME
    if not answer.body.strip():
        return "an empty body"
    return "text that is not JSON" if read_json(answer) is None else ""


def words_in(document: object) -> list[str]:
    """Return what `document` says went wrong, what stands at its top first. It is still the server's text."""
    found: list[str] = []
    nodes, seen = deque([document]), 0
    while nodes and seen < MAX_NODES and len(found) < MAX_WORDS:
        node, seen = nodes.popleft(), seen + 1
        if isinstance(node, dict):
            found += [text for text in _words_of(node) if text not in found]
            nodes += [each for each in node.values() if isinstance(each, dict | list)]
        elif isinstance(node, list):
            nodes += node[:MAX_NODES]
    return found[:MAX_WORDS]


def _words_of(node: dict[str, object]) -> Iterator[str]:
    for key in (*CODES, *SENTENCES):
        text = node.get(key)
        if isinstance(text, str) and text and (key != "name" or _VENDOR_CODE.match(text)):
            yield text


def fields_in(document: object) -> list[str]:
    """Return the places of the values in `document`, by name only; what may be no name is `…`.

    Behind a name stands what cannot be a token: `/access_token (null)`.
    """
    found = list(_fields(document, "", MAX_DEPTH))
    return found if len(found) <= MAX_FIELDS else [*found[:MAX_FIELDS], "…"]


def _fields(node: object, place: str, depth: int) -> Iterator[str]:
    if depth and isinstance(node, dict) and node:
        for name, value in list(node.items())[: MAX_FIELDS + 1]:
            yield from _fields(value, f"{place}/{_shown(name)}", depth - 1)
    elif depth and isinstance(node, list) and node:
        yield from _fields(node[0], f"{place}/0", depth - 1)
    elif place:
        yield f"{place}{_why_no_token(node)}"


def _why_no_token(node: object) -> str:
    """Return behind a field's name why it holds no token; "" where it may."""
    if node == "":
        return " (empty)"
    return next((f" ({name})" for kind, name in KINDS if isinstance(node, kind)), "")


def _shown(name: str) -> str:
    """Return a field's name, unless it may be a value that somebody made a key of."""
    return name if _NAME.match(name) and not _MANY_DIGITS.search(name) else "…"


def likely_token(document: object) -> str | None:
    """Return the one place in `document` that is called as tokens are, and holds text; else None."""
    found = [
        place
        for place in fields_in(document)
        if _MAY_BE_A_TOKEN.search(place)
        and not _IS_NONE.search(place.rpartition("/")[2])
        and isinstance(find(document, place), str)
    ]
    return found[0] if len(found) == 1 else None


def skew_of(answer: Answer) -> float | None:
    """Return how many seconds the server's clock is ahead of ours, by its `Date`; None without one."""
    try:
        return parsedate_to_datetime(answer.headers.get("Date", "")).timestamp() - answer.asked_at
    except (ValueError, OverflowError):
        return None


def clock_skew(answer: Answer) -> float:
    """Return the same; 0 if that is not much."""
    skew = skew_of(answer)
    return skew if skew is not None and abs(skew) > NOTABLE_SKEW else 0.0


def wants_tls(answer: Answer) -> bool:
    """Tell whether a server says that it was asked over plain http where it speaks https."""
    return answer.status == 400 and says_tls(answer.body)


def says_tls(body: bytes) -> bool:
    """Tell whether the body of a 400 says so."""
    return any(words in body for words in WANT_TLS)
