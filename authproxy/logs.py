"""The log: one line an event, its facts behind it, as text or JSON, on stderr.

    2026-01-01T12:00:00+00:00 info token renewed route=up42 seconds=0.210

A fact's value is never a token, a password, an `Authorization` or a `Cookie`, at debug level neither; foreign
text comes here scrubbed (`masking.py`).
"""

import json
import logging
import re
import sys
from datetime import datetime
from functools import lru_cache

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
SECONDS_END = len("2026-01-01T12:00:00")

_UNPRINTABLE = re.compile(r"[\x7f-\x9f\u2028-\u202e\ud800-\udfff]")  # what JSON does not escape by itself
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


def dropped_lines(lines: int) -> str:
    """Return the line that tells how many lines the log had to drop, in the style that it has."""
    facts = {"lines": lines, "hint": "whatever reads standard error was too slow, or its disk is full"}
    record = {"msg": "log lines dropped", "levelname": "WARNING", "facts": facts}
    handlers = logging.getLogger().handlers
    formatter = handlers[0].formatter if handlers else None
    return (formatter or _TextLines()).format(logging.makeLogRecord(record)) + "\n"


def _formatter(style: str) -> logging.Formatter:
    return _JSONLines() if style == "json" else _TextLines()


@lru_cache(maxsize=4)
def stamp(second: int) -> str:
    """Return a moment in local time, to the second (RFC 3339)."""
    return datetime.fromtimestamp(second).astimezone().isoformat()


def exact_stamp(moment: float) -> str:
    """Return a moment in local time, to the millisecond (RFC 3339)."""
    second, thousandths = divmod(int(moment * 1000), 1000)
    whole = stamp(second)
    return f"{whole[:SECONDS_END]}.{thousandths:03d}{whole[SECONDS_END:]}"


class _TextLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        facts: dict[str, object] = getattr(record, "facts", {})
        line = f"{stamp(int(record.created))} {record.levelname.lower()} {_event(record)}"
        line += "".join(f" {key}={as_text(value)}" for key, value in facts.items())
        return line + _traceback(record)


class _JSONLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        facts: dict[str, object] = getattr(record, "facts", {})
        line: dict[str, object] = {"time": exact_stamp(record.created), "level": record.levelname.lower()}
        line |= {"event": _event(record)} | facts
        if trace := _traceback(record):
            line["trace"] = trace.strip()
        return _as_json(line)


def as_text(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text if _PLAIN.match(text) else _as_json(text)


def _as_json(value: object) -> str:
    """Return `value` as JSON, on one line and with nothing in it that a terminal would obey."""
    document = json.dumps(value, default=str, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", document)


def _event(record: logging.LogRecord) -> str:
    """Return what happened, without asyncio's further lines: those have the `repr` of an exception."""
    return record.getMessage().partition("\n")[0]


def _traceback(record: logging.LogRecord) -> str:
    """Where it happened, without the exception's text: that may quote what a peer sent."""
    if not record.exc_info or record.exc_info[1] is None:
        return ""
    return f"\n{place_of(record.exc_info[1])}"


def place_of(error: BaseException) -> str:
    """Return what kind of exception `error` is and where it comes from, without its text."""
    frames, trace = [], error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        frames.append(f"{code.co_filename}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return f"{type(error).__name__} at " + " < ".join(reversed(frames))
