"""A request that is sent again: what of it is sent, what is not, and by which way."""

import asyncio
from types import SimpleNamespace

import pytest

from authproxy.errors import ConnectionLimit, NotReplayable
from authproxy.observe.record import BodyBudget, KeptBody, Notes, RouteFacts
from authproxy.proxy.context import Answered
from authproxy.proxy.downstream.replay import replay, request_of
from authproxy.proxy.downstream.server import ProxyServer
from authproxy.proxy.judge import JUDGED, READ_PLAINLY
from authproxy.proxy.plain import PlainReader
from tests.support.clock import settle
from tests.support.records import record

FACTS = RouteFacts("up42", str, frozenset({"x-door", "x-added"}))


def noted(data=None, *, limit=100, **changes):
    notes = Notes()
    if data is not None:
        notes.request_body = KeptBody(limit, BodyBudget())
        notes.request_body.add(data)
    for name, value in changes.items():
        setattr(notes, name, value)
    return notes


def made(*lines, **changes):
    return record(**{"facts": FACTS, "head": b"".join(f"{line}\r\n".encode() for line in lines)} | changes)


# ── what is sent ─────────────────────────────────────────────────────────────────────────────────


def test_a_request_is_as_it_was():
    sent = request_of(
        made("Host: localhost", "x-Odd:spaced", "Origin: https://a.example", target="/a//%2e?x=1&y")
    )
    assert sent == (
        b"GET /a//%2e?x=1&y HTTP/1.1\r\nHost: localhost\r\nx-Odd:spaced\r\nOrigin: https://a.example\r\n\r\n"
    )


def test_a_plain_one_too():
    assert (
        request_of(record(head=SimpleNamespace(lines=[b"Host: a"])))
        == b"GET /v2/x HTTP/1.1\r\nHost: a\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("head", "data", "sent"),
    [
        ("Content-Length: 0", None, b""),
        ("Content-Length: 5", b"hello", b"hello"),
        ("Transfer-Encoding: chunked", b"hello", b"5\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", b"", b"0\r\n\r\n"),
    ],
)
def test_a_body_that_was_kept_whole_is_framed_as_it_was(head, data, sent):
    again = request_of(made("Host: a", head, received=len(data or b""), notes=noted(data)))
    assert again.partition(b"\r\n\r\n")[2] == sent


@pytest.mark.parametrize(
    "changes",
    [
        {"notes": None, "received": 5},
        {"notes": noted(), "received": 5},
        {"notes": noted(b"hello", limit=3), "received": 5},
        {"notes": noted(b"hel"), "received": 3},  # the client broke off
        {"notes": noted(b"hello"), "received": 7},
    ],
)
def test_a_body_that_was_not_kept_whole_is_not_made_up(changes):
    with pytest.raises(NotReplayable, match="body"):
        request_of(made("Content-Length: 5", **changes))


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("Cookie: a=b", "Cookie"),
        ("Authorization: Bearer s3cr3t", "Authorization"),
        ("X-Added: s3cr3t", "X-Added"),  # where the route puts its own
        ("X-Api-Key: s3cr3t", "X-Api-Key"),
        ("Referer: https://a.example/?token=s3cr3t", "Referer"),
        ("Upgrade: websocket", "protocol"),
    ],
)
def test_a_secret_of_its_own_is_named_and_not_told(line, named):
    with pytest.raises(NotReplayable, match=named) as caught:
        request_of(made("Host: a", line))
    assert "s3cr3t" not in caught.value.detail


def test_a_secret_in_the_query_is_named_and_not_told():
    with pytest.raises(NotReplayable, match="access_token") as caught:
        request_of(made(target="/x?page=2&access%5Ftoken=s3cr3t"))
    assert "s3cr3t" not in caught.value.detail


@pytest.mark.parametrize("changes", [{"target": ""}, {"status": 101}, {"notes": noted(cut=True)}])
def test_what_is_not_all_there_is_not_sent(changes):
    with pytest.raises(NotReplayable):
        request_of(made(**changes))


def test_a_login_that_was_answered_here_is_not_sent_again():
    with pytest.raises(NotReplayable, match="login"):
        request_of(made("Host: a", notes=noted(login=True)))


def test_who_had_a_good_key_has_one_again():
    again = request_of(made("Host: a", "x-door: theirs"), access_header="X-Door", access_keys=["ours"])
    assert b"\r\nx-door: ours\r\n" in again
    assert b"theirs" not in again


def test_who_had_a_wrong_key_gets_no_other():
    with pytest.raises(NotReplayable, match="X-Door"):
        request_of(made("X-Door: wrong", facts=None), access_header="X-Door", access_keys=["ours"])


def test_who_was_refused_before_a_route_was_found_has_a_key_again_if_it_was_a_good_one():
    refused = made("Host: a", "X-Door: old", facts=None, status=404)
    again = request_of(refused, access_header="X-Door", access_keys=["ours", "old"])
    assert again.endswith(b"\r\nX-Door: ours\r\n\r\n")


# ── how it is sent ───────────────────────────────────────────────────────────────────────────────


class Answerer:
    """Notes what it is asked; answers at once, or when it is told to."""

    def __init__(self, *, at_once=True):
        judged = {name.lower() for name in JUDGED} - READ_PLAINLY
        self.reader = PlainReader(judged, limit=1000)
        self.at_once = at_once
        self.asked = []
        self.lost_ones = 0

    def start(self, request):
        self.asked.append(request)
        request.connection.transport.write(b"HTTP/1.1 200 OK\r\n\r\n")
        return Answered(keep_alive=True) if self.at_once else request

    def lost(self, _context):
        self.lost_ones += 1

    def refused(self, error, began):
        return b""


@pytest.fixture
async def server():
    return ProxyServer(Answerer(), limit=1, keepalive=75, header_bytes=1000, header_seconds=10)


PLAIN, PARSED = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n", "GET /x HTTP/1.1\r\nHost: a\r\nOrigin: null\r\n\r\n"


@pytest.mark.parametrize("data", [PLAIN, PARSED])
async def test_it_goes_the_way_of_any_request_under_the_id_it_was_given(server, data):
    replay(server, made("Host: a"), data.encode(), "known")
    [request] = server.answerer.asked
    assert (request.target, request.notes.id) == ("/x", "known")
    await settle()
    assert server.connections == set()


async def test_it_is_in_flight_until_it_is_answered(server):
    server.answerer.at_once = False
    replay(server, made("Host: a"), PLAIN.encode(), "known")
    await settle()
    [connection] = server.connections
    assert connection.in_flight
    connection.answered(keep_alive=True)
    await settle()
    assert server.connections == set()


async def test_at_the_limit_it_is_refused_as_anybody_is(server):
    server.answerer.at_once = False
    replay(server, made("Host: a"), PLAIN.encode(), "one")
    with pytest.raises(ConnectionLimit):
        replay(server, made("Host: a"), PLAIN.encode(), "other")
    assert len(server.answerer.asked) == 1


async def test_what_is_no_request_is_not_replayed(server):
    with pytest.raises(NotReplayable):
        replay(server, made("Host: a"), b"nothing of the kind\r\n\r\n", "known")
    await settle()
    assert server.connections == set()


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1:8080", "127.0.0.1"),
        ("10.1.2.3", "10.1.2.3"),
        ("[::1]:8080", "::1"),
        ("[::1]", "::1"),
        ("a", None),
    ],
)
async def test_who_came_by_an_address_comes_by_it_again(server, host, address):
    replay(server, made(f"Host: {host}"), PLAIN.encode(), "known")
    assert server.answerer.asked[0].local_address == address


async def test_who_was_refused_is_given_no_address(server):
    replay(server, made("Host: 10.1.2.3", facts=None), PLAIN.encode(), "known")
    assert server.answerer.asked[0].local_address is None
    await asyncio.sleep(0)


async def test_it_comes_in_at_the_listener_of_before_or_not_at_all(server):
    server.own["127.0.0.1:8091"] = other = Answerer()
    at = RouteFacts("a", str, listener="127.0.0.1:8091")
    replay(server, made("Host: a", facts=at), PLAIN.encode(), "known")
    assert (len(other.asked), len(server.answerer.asked)) == (1, 0)
    await settle()
    notes = Notes()
    notes.listener = "127.0.0.1:8091"
    replay(server, made("Host: a", facts=None, notes=notes), PLAIN.encode(), "again")
    assert (len(other.asked), len(server.answerer.asked)) == (2, 0)
    await settle()
    server.own.clear()
    with pytest.raises(NotReplayable, match="not there any more"):
        replay(server, made("Host: a", facts=at), PLAIN.encode(), "other")
    assert (len(other.asked), len(server.answerer.asked)) == (2, 0)


@pytest.mark.parametrize("changes", [{"method": "CONNECT"}, {"notes": noted(forward="forwarded")}])
def test_what_no_route_was_for_is_not_sent_again(changes):
    with pytest.raises(NotReplayable):
        request_of(made("Host: far.example", **changes))
