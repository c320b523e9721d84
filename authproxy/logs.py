"""The log: one line an event, its facts behind it, as text or JSON, on stderr.

    2026-01-01T12:00:00+0000 info token renewed route=up42 seconds=0.210

This is also the one place that knows what must never be printed: `scrub` takes known secrets out of a
foreign text, `without_query` takes the query off a URL. A fact's value is never a token, a password, an
`Authorization` or a `Cookie`; nobody else decides that differently at debug level.
"""

import asyncio
import base64
import html
import json
import logging
import re
import sys
import time
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Protocol
from urllib.parse import quote, quote_plus

MASK = "••••"
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
FOREIGN_TEXT = 300  # characters of somebody else's message that we repeat
SHORT_SECRET = 8  # characters

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_UNPRINTABLE = re.compile(r"[\x7f-\x9f\u2028-\u202e\ud800-\udfff]")  # what JSON does not escape by itself
_ESCAPE = re.compile("%[0-9A-F]{2}")
# Letters next to which an ASCII one could be part of a word: where words are not set apart, nothing is.
_WORD = re.compile(r"[0-9A-Za-z_\u00c0-\u024f]")
_ESCAPED = re.compile(r"(?:%[0-9A-Fa-f]{2}|\\[bfnrt]|\\u[0-9A-Fa-f]{4})\Z")  # %3Dword, \nword, \u0022word
LONGEST_ESCAPE = 6  # characters
_PLAIN = re.compile(r"[^\s\"=\\\x00-\x1f\x7f-\x9f\u2028-\u202e\ud800-\udfff]+\Z")

logger = logging.getLogger("authproxy")


def log(level: int, event: str, /, **facts: object) -> None:
    """Log `event` with its facts; those that are None are left out."""
    if logger.isEnabledFor(level):
        logger.log(level, event, extra={"facts": {k: v for k, v in facts.items() if v is not None}})


def debug(event: str, /, **facts: object) -> None:
    log(logging.DEBUG, event, **facts)


def info(event: str, /, **facts: object) -> None:
    log(logging.INFO, event, **facts)


def warning(event: str, /, **facts: object) -> None:
    log(logging.WARNING, event, **facts)


def error(event: str, /, **facts: object) -> None:
    log(logging.ERROR, event, **facts)


def set_up(level: str, style: str) -> None:
    """Send the log to stderr, at `level` (a key of `LEVELS`) and in `style` (`text` or `json`)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(style))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logger.setLevel(LEVELS[level])
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    # aiohttp's own lines would repeat what a client sent, header values included.
    for name in ("aiohttp.server", "aiohttp.access", "aiohttp.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def dropped_lines(style: str, lines: int) -> str:
    """Return the line that tells how many lines the log had to drop."""
    facts = {"lines": lines, "hint": "whatever reads standard error was too slow, or its disk is full"}
    record = {"msg": "log lines dropped", "levelname": "WARNING", "facts": facts}
    return _formatter(style).format(logging.makeLogRecord(record)) + "\n"


def _formatter(style: str) -> logging.Formatter:
    return _JSONLines() if style == "json" else _TextLines()


class AccessLog:
    """One line a request, written in batches: a `write` a request would cost more than the line."""

    DELAY = 0.05  # seconds a line may wait for others

    def __init__(self, style: str) -> None:
        self._make = _access_json if style == "json" else _access_text
        self._lines: list[str] = []
        self._loop = asyncio.get_running_loop()

    def __call__(self, method: str, seen: "RequestFacts", seconds: float) -> None:
        if not self._lines:
            self._loop.call_later(self.DELAY, self.flush)
        self._lines.append(self._make(time.time(), method, seen, seconds))

    def flush(self) -> None:
        """Write what waits."""
        lines, self._lines = self._lines, []
        if lines:
            sys.stderr.write("".join(lines))
            sys.stderr.flush()


class RequestFacts(Protocol):
    """What an access line says of a request besides its method and duration."""

    @property
    def route_name(self) -> str | None: ...

    path: str
    status: int
    sent: int
    retried: bool
    cause: str | None


def _access_text(now: float, method: str, seen: RequestFacts, seconds: float) -> str:
    retried = " retried=yes" if seen.retried else ""
    cause = f" cause={_as_text(seen.cause)}" if seen.cause else ""
    return (
        f"{_stamp(int(now))} info request route={seen.route_name or '-'} method={method} "
        f"path={_as_text(seen.path)} status={seen.status} bytes={seen.sent} "
        f"ms={seconds * 1000:.1f}{retried}{cause}\n"
    )


def _access_json(now: float, method: str, seen: RequestFacts, seconds: float) -> str:
    line = {
        "time": round(now, 3),
        "level": "info",
        "event": "request",
        "route": seen.route_name,
        "method": method,
        "path": seen.path,
        "status": seen.status,
        "bytes": seen.sent,
        "ms": round(seconds * 1000, 1),
        "retried": seen.retried,
    }
    return json.dumps(line | ({"cause": seen.cause} if seen.cause else {})) + "\n"


@lru_cache(maxsize=4)
def _stamp(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(second))


class _TextLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        facts: dict[str, object] = getattr(record, "facts", {})
        line = f"{_stamp(int(record.created))} {record.levelname.lower()} {record.getMessage()}"
        line += "".join(f" {key}={_as_text(value)}" for key, value in facts.items())
        return line + _traceback(record)


class _JSONLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        facts: dict[str, object] = getattr(record, "facts", {})
        line: dict[str, object] = {"time": round(record.created, 3), "level": record.levelname.lower()}
        line |= {"event": record.getMessage()} | facts
        if trace := _traceback(record):
            line["trace"] = trace.strip()
        return _as_json(line)


def _as_text(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text if _PLAIN.match(text) else _as_json(text)


def _as_json(value: object) -> str:
    """Return `value` as JSON, on one line and with nothing in it that a terminal would obey."""
    document = json.dumps(value, default=str, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", document)


def _traceback(record: logging.LogRecord) -> str:
    """Where it happened, without the exception's text: that may quote what a peer sent."""
    if not record.exc_info or record.exc_info[1] is None:
        return ""
    kind, _, trace = record.exc_info
    frames = []
    while trace is not None:
        code = trace.tb_frame.f_code
        frames.append(f"{code.co_filename}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return f"\n{kind.__name__ if kind else 'Exception'} at " + " < ".join(reversed(frames))


def without_query(url: str) -> str:
    """`url` fit for a log: user information, query and fragment taken off."""
    bare = url.partition("#")[0].partition("?")[0]
    scheme, separator, rest = bare.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}" if separator else bare


def sound(text: str) -> str:
    """`text` without the lone surrogates that JSON can bring, and that cannot be sent or printed."""
    return text.encode("utf-8", "replace").decode()


def scrub(text: str, secrets: Iterable[str]) -> str:
    """Somebody else's `text` made fit to repeat: one line, not too long, `secrets` masked.

    A secret is masked in each spelling in which a server may echo it. One that is shorter than
    `SHORT_SECRET` is part of other words by chance: it is masked when it is a word by itself.
    """
    text = sound(text)
    kept, behind = [], 0
    for start, end in _places(text, {each for secret in secrets for each in _spellings(secret)}):
        kept += [text[behind:start], MASK]
        behind = end
    text = _CONTROLS.sub(" ", "".join([*kept, text[behind:]])).strip()
    return text if len(text) <= FOREIGN_TEXT else text[: FOREIGN_TEXT - 1] + "…"


def _places(text: str, secrets: Iterable[str]) -> list[tuple[int, int]]:
    """Return where `text` holds one of `secrets`; places that overlap are one, so that no rest is left."""
    places: list[tuple[int, int]] = []
    for start, end in sorted(place for secret in secrets for place in _places_of(text, secret)):
        if places and start <= places[-1][1]:
            places[-1] = places[-1][0], max(end, places[-1][1])
        else:
            places.append((start, end))
    return places


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
    before = text[max(0, start - LONGEST_ESCAPE) : start]
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
