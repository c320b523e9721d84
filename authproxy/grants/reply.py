"""Reading what a token endpoint answered: JSON, JSON Pointers, lifetimes, moments, charsets."""

import base64
import binascii
import codecs
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Protocol

from authproxy.errors import BadTokenReply
from authproxy.grants.steps import Answer
from authproxy.masking import sound

TOTAL_TIMEOUT = 30.0  # seconds for a whole answer, a program's as well
MAX_REPLY = 1 << 20  # bytes
MAX_LIFETIME = 10 * 365 * 86400.0  # seconds; whoever says more means for ever
PASSING_TROUBLE = frozenset({408, 425, 429})
ENDS_AT = (  # where servers and programs say when a token ends, if not how long it lasts
    "/expires_at", "/expires_on", "/expiresAt", "/expiresOn", "/expiration", "/expiry", "/token_expiry",
)  # fmt: skip
FIRST_MOMENT = 1e9  # epoch seconds, in 2001: a smaller number is no moment when a token ends
FIRST_IN_MILLISECONDS = 1e11  # as seconds that were the year 5138
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
NO_TEXT = frozenset({"idna", "punycode"})  # charsets that are none; reading a long one takes for ever

_CHARSET = re.compile(r"""charset\s*=\s*["']?([\w.:-]+)""", re.IGNORECASE | re.ASCII)


class Stream(Protocol):
    """What an answer comes in; asyncio's and aiohttp's `StreamReader` are."""

    async def read(self, n: int = -1, /) -> bytes:
        """Return up to `n` bytes once there are any; none at the end."""
        ...


async def read_up_to(stream: Stream, limit: int, place: str) -> bytes:
    """Return all that `stream` brings. Raises `BadTokenReply` if that is over `limit` bytes."""
    chunks, size = [], 0
    while chunk := await stream.read(1 << 16):
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            raise BadTokenReply(
                f"{place} sent more than {limit >> 20} MiB",
                hint="a token comes in far less: is this where tokens are handed out?",
            )
    return b"".join(chunks)


def find(document: object, pointers: str | tuple[str, ...]) -> object:
    """Return what the first of `pointers` that leads anywhere leads to, or None (RFC 6901)."""
    for pointer in (pointers,) if isinstance(pointers, str) else pointers:
        found = document
        for part in pointer.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict):
                found = found.get(key)
            elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
                found = found[int(key)]
            else:
                found = None
        if found is not None:
            return found
    return None


def token_in(document: object, pointers: str | tuple[str, ...]) -> str | None:
    """Return the token at `pointers`; some servers give them as numbers."""
    value = find(document, pointers)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else None


def scope_in(document: object, asked: str | None) -> str | None:
    """Return the scope of a token reply, by some written as a list; `asked` if it does not say."""
    scope = find(document, "/scope")
    if isinstance(scope, list) and all(isinstance(each, str) for each in scope):
        return " ".join(scope)
    return scope if isinstance(scope, str) else asked


def read_lifetime(value: object) -> float | None:
    """Return `expires_in` in seconds, or None for what is no time to come: a boolean, 0, a negative, text."""
    seconds = _read_seconds(value)
    return min(seconds, MAX_LIFETIME) if seconds is not None else None


def _read_seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
    except OverflowError:
        seconds = MAX_LIFETIME if isinstance(value, int) and value > 0 else -1
    except ValueError:
        return None
    return seconds if isfinite(seconds) and seconds > 0 else None


def read_moment(value: object, *, local_time: bool = False) -> float | None:
    """Return the moment that `value` means, in epoch seconds, or None.

    It may be written as the epoch's seconds, as its milliseconds, or in ISO 8601: that is UTC, or local time,
    when it names no zone.
    """
    seconds = _read_seconds(value)
    if seconds is None and isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value.strip())
            return (moment if moment.tzinfo or local_time else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError, OSError):
            return None
    if seconds is None or seconds < FIRST_MOMENT:
        return None
    return seconds / 1000 if seconds >= FIRST_IN_MILLISECONDS else seconds


def jwt_expiry(token: str) -> float | None:
    """Return the `exp` of a JWT in epoch seconds, or None. Nothing is verified: it is only read."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return None
    return _read_seconds(claims.get("exp")) if isinstance(claims, dict) else None


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds of a `Retry-After` header, also if it is a date (RFC 9110 §10.2.3), or None."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdecimal() and len(value) < 10:
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def read_json(answer: Answer) -> object:
    """Return the JSON document in `answer`, or None. It should be in UTF-8 (RFC 8259 §8.1); not all are.

    No text in it holds a lone surrogate.
    """
    for text in (answer.body, read_text(answer)):
        try:
            return json.loads(sound(json.dumps(json.loads(text), ensure_ascii=False)))
        except (ValueError, RecursionError):
            continue
    return None


def read_text(answer: Answer) -> str:
    """Return the text in `answer`: by its byte order mark, in the charset that its head names, or UTF-8."""
    for mark, charset in BYTE_ORDER_MARKS:
        if answer.body.startswith(mark):
            return answer.body.decode(charset, "replace")
    named = _CHARSET.search(answer.headers.get("Content-Type", ""))
    try:
        charset = codecs.lookup(named[1] if named else "utf-8").name
        return answer.body.decode("utf-8" if charset in NO_TEXT else charset, "replace")
    except (LookupError, ValueError):
        return answer.body.decode("utf-8", "replace")


def is_page(answer: Answer) -> bool:
    """Tell whether `answer` is a page for people, HTML; JSON or plain words that are called so are none."""
    if answer.body.lstrip(b"\xef\xbb\xbf \t\r\n")[:14].lower().startswith((b"<!doctype html", b"<html")):
        return True
    said = answer.headers.get("Content-Type", "").lower().startswith(("text/html", "application/xhtml"))
    return said and b"<" in answer.body and read_json(answer) is None
