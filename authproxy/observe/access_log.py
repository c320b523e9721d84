"""The access log: one line a request, as text or JSON, written in batches.

2026-01-01T12:00:00+00:00 info request route=up42 method=GET path=/v2/assets status=200 bytes=150 ms=3.1 id=…
"""

import asyncio
import json
import re
import sys
from collections.abc import Container
from urllib.parse import urlsplit

from authproxy.logs import as_text, exact_stamp, stamp
from authproxy.masking import origin_in, without_query
from authproxy.observe.advice import advice
from authproxy.observe.inspection import request_lines
from authproxy.observe.record import RequestRecord

_LOCATION = re.compile(rb"\r\nlocation:([^\r]*)", re.IGNORECASE)


class AccessLog:
    """One line a request, written in batches: a `write` a request would cost more than the line."""

    DELAY = 0.05  # seconds a line may wait for others

    def __init__(self, style: str) -> None:
        self._make = _access_json if style == "json" else _access_text
        self._lines: list[str] = []
        self._proven: set[str | None] = set()  # routes that have had a success
        self._loop = asyncio.get_running_loop()

    def __call__(self, record: RequestRecord) -> None:
        if not self._lines:
            self._loop.call_later(self.DELAY, self.flush)
        if record.status < 300:
            self._proven.add(record.route)
        self._lines.append(self._make(record, self._proven))

    def flush(self) -> None:
        """Write what waits."""
        lines, self._lines = self._lines, []
        if lines:
            sys.stderr.write("".join(lines))
            sys.stderr.flush()


def _access_text(record: RequestRecord, proven: Container[str | None]) -> str:
    at, seconds, route, method, path, status, sent, retried, cause = record[:9]
    more = " retried=yes" if retried else ""
    if status >= 300 or cause is not None:
        more += "".join([f" {key}={as_text(value)}" for key, value in _more(record, proven).items()])
    return (
        f"{stamp(int(at + seconds))} info request route={route or '-'} method={method} "
        f"path={as_text(path)} status={status} bytes={sent} ms={seconds * 1000:.1f} id={record.id}{more}\n"
    )


def _access_json(record: RequestRecord, proven: Container[str | None]) -> str:
    line = {
        "time": exact_stamp(record.ended),
        "level": "info",
        "event": "request",
        "route": record.route,
        "method": record.method,
        "path": record.path,
        "status": record.status,
        "bytes": record.sent,
        "ms": round(record.seconds * 1000, 1),
        "retried": record.retried,
        "id": record.id,
    }
    return json.dumps(line | _more(record, proven)) + "\n"


def redirect_of(record: RequestRecord) -> str | None:
    """Return the scheme and the host to which an upstream sends a client away from all routes."""
    found = _LOCATION.search(record.answer)
    location = found[1].decode("latin-1").strip() if found is not None else ""
    try:
        host = urlsplit(location).netloc.rpartition("@")[2].lower()
    except ValueError:
        return None
    if record.facts is None or not host:
        return None
    own = (each.lower() for each in _hosts_of(record))
    return None if host in own or host in record.facts.hosts else origin_in(location)


def _hosts_of(record: RequestRecord) -> list[str]:
    """Return the `Host` that the client asked: what leads there leads to us."""
    return [
        line[5:].decode("latin-1").strip() for line in request_lines(record) if line[:5].lower() == b"host:"
    ]


def _more(record: RequestRecord, proven: Container[str | None]) -> dict[str, object]:
    """Return what is to be said of a request that did not go well."""
    if record.status < 300 and record.cause is None:
        return {}
    notes, facts = record.notes, record.facts
    problem = notes.problem if notes is not None and notes.problem is not None else {}
    redirect = redirect_of(record) if record.status < 400 else None
    leads = facts is not None and (record.status >= 400 or record.cause is not None)
    upstream = without_query(facts.url_of(record.path)) if facts is not None and leads else None
    more = {
        "host": (record.origin.rpartition("/")[2] or None) if facts is None else None,
        "upstream": upstream,
        "redirect": redirect,
        "cause": record.cause,
        "hint": problem.get("hint") or advice(record, proven, redirect=redirect, upstream=upstream),
        "origin": notes.page if notes is not None else None,
    }
    return {key: value for key, value in more.items() if value is not None}
