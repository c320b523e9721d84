"""The access log: one line a request, written in batches."""

import asyncio
import contextlib
import io
import json
from datetime import datetime

import pytest

from authproxy.observe.access_log import AccessLog
from authproxy.observe.record import Notes, RouteFacts
from tests.support.records import record


class Stderr(io.StringIO):
    def take(self, log):
        """Let an access log write here, as a terminal would."""
        with contextlib.redirect_stderr(self):
            log.flush()


@pytest.fixture
def stderr():
    return Stderr()


async def test_a_request_is_one_line(stderr):
    log = AccessLog("text")
    log(record(seconds=0.01234))
    stderr.take(log)
    _, _, line = stderr.getvalue().partition(" ")
    known = record(seconds=0.01234).id
    assert line == f"info request route=up42 method=GET path=/v2/x status=200 bytes=12 ms=12.3 id={known}\n"


async def test_a_request_that_went_wrong_says_why(stderr):
    log = AccessLog("text")
    notes = Notes("known")
    notes.problem, notes.page = {"hint": "mend it"}, "https://page.example"
    log(record(seconds=0, route=None, status=404, retried=True, cause="no route", notes=notes))
    stderr.take(log)
    assert "route=- " in stderr.getvalue()
    ends = 'ms=0.0 id=known retried=yes cause="no route" hint="mend it" origin=https://page.example\n'
    assert stderr.getvalue().endswith(ends)


@pytest.mark.parametrize(("status", "named"), [(200, False), (302, False), (400, True), (503, True)])
@pytest.mark.parametrize("style", ["text", "json"])
async def test_what_was_refused_names_the_upstream_without_its_query(stderr, style, status, named):
    log = AccessLog(style)
    facts = RouteFacts("up42", lambda path: f"https://u:p@up.example/base{path}")
    log(record(status=status, facts=facts, target="/v2/x?key=s3cr3t"))
    stderr.take(log)
    assert ("https://up.example/base/v2/x" in stderr.getvalue()) == named
    assert not {"s3cr3t", "u:p"} & set(stderr.getvalue().split())
    assert "s3cr3t" not in stderr.getvalue()


async def test_a_request_as_json(stderr):
    log = AccessLog("json")
    log(record(seconds=0.01234))
    log(record(cause="it broke"))
    stderr.take(log)
    first, second = map(json.loads, stderr.getvalue().splitlines())
    assert datetime.fromisoformat(first.pop("time")).timestamp() > 1_600_000_000
    assert first == {
        "level": "info",
        "event": "request",
        "route": "up42",
        "method": "GET",
        "path": "/v2/x",
        "status": 200,
        "bytes": 12,
        "ms": 12.3,
        "retried": False,
        "id": record(seconds=0.01234).id,
    }
    assert second["cause"] == "it broke"


@pytest.mark.parametrize(
    ("location", "named"),
    [
        ("https://login.example/start?next=s3cr3t#x", "https://login.example"),
        ("//login.example/start", "//login.example"),
        ("https://login.example/s3cr3t/start", "https://login.example"),  # a server may repeat what was sent
        ("//user:s3cr3t@login.example:8443", "//login.example:8443"),
        ("https://user:s3cr3t@login.example/", "https://login.example"),
        ("https://UP.example/v2/y", None),  # a route's
        ("http://localhost:8080/up42/y", None),  # ours
        ("/v2/y", None),
        ("", None),
        ("https://[broken", None),
    ],
)
async def test_a_redirect_to_where_no_route_leads_is_named(stderr, location, named):
    log = AccessLog("json")
    facts = RouteFacts("up42", lambda path: f"https://up.example{path}", hosts=frozenset({"up.example"}))
    answer = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\n".encode()
    log(record(status=302, facts=facts, head=b"Host: localhost:8080\r\n", answer=answer))
    stderr.take(log)
    assert json.loads(stderr.getvalue()).get("redirect") == named
    assert "s3cr3t" not in stderr.getvalue()


@pytest.mark.parametrize("style", ["text", "json"])
async def test_a_path_cannot_talk_to_the_terminal_nor_break_the_line(stderr, style):
    log = AccessLog(style)
    log(record(path="/\x9b31m\u2028/\udc80"))
    stderr.take(log)
    assert not set(stderr.getvalue()) & set("\x9b\u2028\udc80")
    assert len(stderr.getvalue().splitlines()) == 1


async def test_lines_are_written_together(stderr, monkeypatch):
    writes = []
    monkeypatch.setattr(stderr, "write", writes.append)
    log = AccessLog("text")
    for _ in range(100):
        log(record())
    assert writes == []
    stderr.take(log)
    stderr.take(log)
    assert len(writes) == 1
    assert writes[0].count("\n") == 100


async def test_a_line_waits_for_others_but_not_for_long(stderr, monkeypatch):
    timers = []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "call_later", lambda *timer: timers.append(timer))
    log = AccessLog("text")
    log(record())
    log(record())
    assert timers == [(AccessLog.DELAY, log.flush)]  # one for all that come meanwhile
    stderr.take(log)
    log(record())
    assert len(timers) == 2


@pytest.mark.parametrize("style", ["text", "json"])
async def test_a_404_has_a_hint_until_its_route_has_had_a_success(stderr, style):
    log = AccessLog(style)
    facts = RouteFacts("up42", url_of=lambda path: f"https://api.example{path}")
    for status in (404, 200, 404):
        log(record(status=status, facts=facts))
    stderr.take(log)
    first, _, later = stderr.getvalue().splitlines()
    assert "is that URL right?" in first
    assert "hint" not in later


async def test_a_redirect_to_another_host_has_a_hint(stderr):
    log = AccessLog("text")
    answer = b"HTTP/1.1 302 Found\r\nLocation: https://sso.example/login?s=1\r\n"
    log(record(status=302, facts=RouteFacts("up42", url_of=str), answer=answer))
    stderr.take(log)
    assert 'redirect=https://sso.example hint="redirects are passed on, not followed' in stderr.getvalue()
