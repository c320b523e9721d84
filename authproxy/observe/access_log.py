"""The access log: one line a request, as text or JSON, written in batches.

2026-01-01T12:00:00+00:00 info request route=up42 method=GET path=/v2/assets status=200 bytes=150 ms=3.1 id=…
"""

import asyncio
import json
import sys

from authproxy.logs import as_text, exact_stamp, stamp
from authproxy.masking import without_query
from authproxy.observe.record import RequestRecord


class AccessLog:
    """One line a request, written in batches: a `write` a request would cost more than the line."""

    DELAY = 0.05  # seconds a line may wait for others

    def __init__(self, style: str) -> None:
        self._make = _access_json if style == "json" else _access_text
        self._lines: list[str] = []
        self._loop = asyncio.get_running_loop()

    def __call__(self, record: RequestRecord) -> None:
        if not self._lines:
            self._loop.call_later(self.DELAY, self.flush)
        self._lines.append(self._make(record))

    def flush(self) -> None:
        """Write what waits."""
        lines, self._lines = self._lines, []
        if lines:
            sys.stderr.write("".join(lines))
            sys.stderr.flush()


def _access_text(record: RequestRecord) -> str:
    at, seconds, route, method, path, status, sent, retried, cause = record[:9]
    more = " retried=yes" if retried else ""
    if status >= 400 or cause is not None:
        more += "".join([f" {key}={as_text(value)}" for key, value in _more(record).items()])
    return (
        f"{stamp(int(at + seconds))} info request route={route or '-'} method={method} "
        f"path={as_text(path)} status={status} bytes={sent} ms={seconds * 1000:.1f} id={record.id}{more}\n"
    )


def _access_json(record: RequestRecord) -> str:
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
    return json.dumps(line | _more(record)) + "\n"


def _more(record: RequestRecord) -> dict[str, object]:
    """Return what is to be said of a request that did not go well."""
    if record.status < 400 and record.cause is None:
        return {}
    notes, facts = record.notes, record.facts
    problem = notes.problem if notes is not None and notes.problem is not None else {}
    more = {
        "upstream": without_query(facts.url_of(record.path)) if facts is not None else None,
        "cause": record.cause,
        "hint": problem.get("hint"),
        "origin": notes.page if notes is not None else None,
    }
    return {key: value for key, value in more.items() if value is not None}
