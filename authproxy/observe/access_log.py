"""The access log: one line a request, as text or JSON, written in batches.

2026-01-01T12:00:00+00:00 info request route=up42 method=GET path=/v2/assets status=200 bytes=150 ms=3.1
"""

import asyncio
import json
import sys

from authproxy.logs import as_text, exact_stamp, stamp
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
    retried = " retried=yes" if record.retried else ""
    cause = f" cause={as_text(record.cause)}" if record.cause else ""
    return (
        f"{stamp(int(record.ended))} info request route={record.route or '-'} method={record.method} "
        f"path={as_text(record.path)} status={record.status} bytes={record.sent} "
        f"ms={record.seconds * 1000:.1f}{retried}{cause}\n"
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
    }
    return json.dumps(line | ({"cause": record.cause} if record.cause else {})) + "\n"
