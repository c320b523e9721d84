"""The access log: one line a request, as text or JSON, written in batches.

2026-01-01T12:00:00+00:00 info request route=up42 method=GET path=/v2/assets status=200 bytes=150 ms=3.1
"""

import asyncio
import json
import sys
import time
from typing import Protocol

from authproxy.logs import as_text, exact_stamp, stamp


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
    cause = f" cause={as_text(seen.cause)}" if seen.cause else ""
    return (
        f"{stamp(int(now))} info request route={seen.route_name or '-'} method={method} "
        f"path={as_text(seen.path)} status={seen.status} bytes={seen.sent} "
        f"ms={seconds * 1000:.1f}{retried}{cause}\n"
    )


def _access_json(now: float, method: str, seen: RequestFacts, seconds: float) -> str:
    line = {
        "time": exact_stamp(now),
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
