"""A fault of our own, put in on purpose: it is told, logged as what it was, and nothing is lost by it.

The faults are in a `sitecustomize.py`, which Python runs before the command. The route has one connection:
a second request is answered only if the first has given it back.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.command import RunningProxy, running_proxy
from tests.support.wire import Answer, Message, Upstream, Wire, chunked, connect, get, reply, request

IN_THE_HEAD = """
from authproxy.proxy.headers import ResponseHeaders
true_head = ResponseHeaders.head

def head(self, status, reason, headers, asked):
    if any(name == b"X-Fault" for name, _ in headers):
        raise {error}("amid the head")
    return true_head(self, status, reason, headers, asked)

true_plain = ResponseHeaders.plain

def plain(self, reply, asked):
    if b"X-Fault" in reply.names:
        raise {error}("amid the head")
    return true_plain(self, reply, asked)

ResponseHeaders.head, ResponseHeaders.plain = head, plain
"""
WHEN_AN_ANSWER_STANDS = """
from authproxy.proxy import respond
send_whole, times = respond.send_whole, iter(range(100))

def send(context, route, reply):
    if next(times) == 2:
        raise RuntimeError("in the upstream's callback")
    return send_whole(context, route, reply)

respond.send_whole = send
"""
IN_THE_LOG = """
from authproxy.observe.access_log import AccessLog

def write(self, record):
    raise RuntimeError("amid the log")

AccessLog.__call__ = write
"""
WHERE_IT_IS_GIVEN = """
from authproxy.proxy.upstream.connection import Connection
true_begin = Connection.begin

def begin(self, data, **how):
    if b"X-Fault" in data:
        raise RuntimeError("with a connection lent")
    return true_begin(self, data, **how)

Connection.begin = begin
"""
FAULTY = "X-Fault: yes"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\nX-Fault: yes\r\n\r\n"
UPGRADE = ("Connection: Upgrade", "Upgrade: x")
STATIC = {"grant": "static", "token": "the-token"}


@contextmanager
def faulty_proxy(directory: Path, fault: str, upstream: Upstream) -> Iterator[RunningProxy]:
    (directory / "sitecustomize.py").write_text(fault, encoding="utf-8")
    path = os.pathsep.join(filter(None, [str(directory), os.environ.get("PYTHONPATH")]))
    limits = {"max_connections": 1, "timeouts": {"connect": "1s"}}
    route = {"name": "api", "upstream": upstream.url, "auth": STATIC, **limits}
    with running_proxy({"routes": [route]}, env={"PYTHONPATH": path}) as proxy:
        yield proxy


def have_one_answered(wire: Wire, proxy: RunningProxy) -> None:
    """Have one request answered, so that the next one on `wire` is begun from callbacks."""
    assert wire.send(request()).answer().status == 200
    assert get(proxy.url).status == 200  # and the connection to the upstream is idle again


def whole(_request: Message, _wire: Wire) -> bytes:
    return reply(200, FAULTY, body=b"all of it")


def in_pieces(_request: Message, _wire: Wire) -> bytes:
    return f"HTTP/1.1 200 OK\r\n{FAULTY}\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + chunked(
        b"x", end=b""
    )


def switched(_request: Message, _wire: Wire) -> bytes:
    return SWITCH


@pytest.mark.parametrize(("error", "status"), [("RuntimeError", 500), ("ValueError", 502)])
@pytest.mark.parametrize("answer", [whole, in_pieces, switched])
def test_a_fault_amid_the_head_is_told_and_logged_as_what_it_was(
    tmp_path: Path, answer: Answer, error: str, status: int
) -> None:
    lines = UPGRADE if answer is switched else ()
    with Upstream() as upstream, faulty_proxy(tmp_path, IN_THE_HEAD.format(error=error), upstream) as proxy:
        for number in range(3):
            upstream.answer = upstream.first_answer
            assert get(proxy.url, "/fine").body == b"fine"
            upstream.answer = answer
            told = get(proxy.url, f"/faulty{number}", *lines)
            assert (told.status, told.json["status"]) == (status, status)
            assert told.proxy_error == ("proxy_internal_error" if status == 500 else "http_protocol_error")
            assert f"path=/faulty{number} status={status} bytes={len(told.body)} " in proxy.wait_for_log(
                f"path=/faulty{number}"
            )


def test_a_fault_in_the_upstreams_callback_is_told(tmp_path: Path) -> None:
    with Upstream() as upstream, faulty_proxy(tmp_path, WHEN_AN_ANSWER_STANDS, upstream) as proxy:
        with connect(proxy.url) as wire:
            have_one_answered(wire, proxy)
            told = wire.send(request()).answer()
            assert (told.status, told.proxy_error) == (500, "proxy_internal_error")
        assert get(proxy.url).status == 200
        assert upstream.connections == 1


@pytest.mark.parametrize("body", [None, b"with a body"])
def test_a_fault_amid_the_log_changes_no_answer(tmp_path: Path, body: bytes | None) -> None:
    with Upstream() as upstream, faulty_proxy(tmp_path, IN_THE_LOG, upstream) as proxy:
        with connect(proxy.url) as wire:
            have_one_answered(wire, proxy)
            for _ in range(4):
                assert wire.send(request("PUT", body=body)).answer().body == b"fine"
        assert proxy.wait_for_log("internal error")


@pytest.mark.parametrize("body", [None, b"with a body"])
def test_a_connection_that_is_lent_when_a_fault_happens_is_given_back(
    tmp_path: Path, body: bytes | None
) -> None:
    with Upstream() as upstream, faulty_proxy(tmp_path, WHERE_IT_IS_GIVEN, upstream) as proxy:
        for _ in range(3):
            with connect(proxy.url) as wire:
                have_one_answered(wire, proxy)
                assert wire.send(request("PUT", "/", FAULTY, body=body)).answer().status == 500
        assert get(proxy.url).status == 200
