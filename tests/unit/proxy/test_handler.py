"""One request's way through the proxy, both its peers faked: what goes out, what comes back, and when."""

import asyncio
import json
import socket
import struct
from types import SimpleNamespace

import pytest
from aiohttp.http import HttpVersion10, HttpVersion11

from authproxy.errors import BadReply, BadRequest, ConnectFailure, Forbidden, TokenUnavailable
from authproxy.observe.record import RouteFacts
from authproxy.proxy import handler as module
from authproxy.proxy.context import RequestContext
from authproxy.proxy.headers import RequestHeaders, ResponseHeaders
from authproxy.proxy.respond import BROKEN_OFF, CLIENT_GONE
from tests.support.clock import settle
from tests.support.token_sources import CachedTokens

from .world import A, B, World, begun, failing, silent, whole

# ── without a task ────────────────────────────────────────────────────────────────────────────────


async def test_with_a_token_and_a_connection_at_hand_it_is_answered_without_a_task():
    world = World(whole(headers=[(b"Content-Length", b"3"), (b"X-Kept", b"1")]))
    await world.quick("/api/x?q=1", X_Own="2")
    assert world.upstream.heads == [
        "GET /x?q=1 HTTP/1.1\r\nHost: up.example\r\nX-Own: 2\r\nAuthorization: Bearer t0k3n-a"
    ]
    assert world.answer == (200, ["Content-Length: 3", "X-Kept: 1"], b"yes")
    assert (world.client.handed, world.client.kept) == (None, True)
    assert world.lines == [("GET", "api", "/api/x", 200, 3, None)]
    assert world.handler.counters.requests == {("api", "GET", "200"): 1}
    assert world.client.stall_seconds == 77


async def test_what_is_under_way_is_noted_so_that_it_can_be_broken_off():
    world = World(silent)
    await world.quick()
    world.client.sent.give_up()
    assert [lent.aborted for lent in world.upstream.lent] == [True]
    assert world.client.kept is None


@pytest.mark.parametrize("wants", ["a token", "a connection"])
async def test_what_has_to_be_waited_for_is_left_to_the_task_and_sent_once(wants):
    world = World(whole(), idle=0) if wants == "a connection" else World(whole(), source=CachedTokens(A))
    await world.quick()
    assert world.client.handed is not None
    assert world.upstream.lent == []
    await world.go_on()
    assert world.upstream.tokens == [A.value]
    assert world.answer[0] == 200
    assert len(world.lines) == 1


async def test_an_answer_that_is_not_all_there_is_left_to_the_task_and_not_asked_for_twice():
    world = World(begun(length=6))
    await world.quick()
    assert world.client.handed is not None
    assert world.client.transport.written == b""
    task = asyncio.create_task(world.go_on())
    await settle()
    assert world.answer[0] == 200  # the head does not wait for the body
    reply = world.upstream.lent[0].reply
    for piece in (b"abc", b"def"):
        reply.feed(piece)
        await settle()
        assert world.client.transport.written.endswith(piece)
    reply.end()
    await task
    assert len(world.upstream.lent) == 1
    assert world.lines == [("GET", "api", "/api/x", 200, 6, None)]


async def test_a_fault_in_the_log_makes_no_second_answer(caplog):
    def fails(*_):
        raise RuntimeError("s3cr3t")

    world = World(whole(), subscribers=[fails])
    await world.quick()
    assert world.client.transport.written.count(b"HTTP/1.1") == 1
    assert world.client.kept is True
    assert [record.getMessage() for record in caplog.records] == ["internal error"]


async def test_a_token_on_trial_that_does_what_it_should_is_off_trial():
    world = World(whole())
    world.route.credential._on_trial = A
    world.route.credential.standing.watching = True
    await world.quick()
    assert world.route.credential._on_trial is None
    assert not world.route.credential.standing.watching


def refused_line(details):
    return f'Proxy-Status: authproxy; received-status=401; details="{details}"'


# ── a refused token ──────────────────────────────────────────────────────────────────────────────


async def test_a_request_whose_token_is_refused_is_sent_once_more_with_another_one():
    world = World(whole(401), whole(200))
    await world.quick()
    assert world.client.transport.written == b""  # the refusal is not the client's
    await world.go_on()
    assert world.upstream.tokens == [A.value, B.value]
    assert world.answer[0] == 200
    assert world.record.retried
    assert world.handler.counters.retries == {("api", "accepted"): 1}


async def test_a_second_refusal_is_passed_on():
    world = World(whole(401, b"first"), whole(401, b"second"))
    assert await world.ask() == (401, [refused_line("a token, repeated once")], b"second")
    assert world.handler.counters.retries == {("api", "refused"): 1}
    assert len(world.upstream.lent) == 2


async def test_when_no_other_token_can_be_had_the_first_refusal_is_passed_on():
    world = World(whole(401, b"first"), source=CachedTokens(TokenUnavailable("down"), current=A))
    line = refused_line("a token, not repeated: no other token can be had")
    assert await world.ask() == (401, [line], b"first")
    assert not world.record.retried
    assert world.handler.counters.retries == {}


async def test_without_a_credential_a_401_is_an_answer_like_any_other():
    world = World(whole(401, b"who are you?"), credential=False)
    line = refused_line("no credential: this route adds none (grant: none)")
    assert await world.ask() == (401, [line], b"who are you?")
    assert world.client.handed is None


async def test_without_a_token_the_upstream_is_not_asked():
    world = World(source=CachedTokens(TokenUnavailable("the endpoint is down", retry_after=7)))
    status, lines, _ = await world.ask()
    assert status == 503
    assert "Retry-After: 7" in lines
    assert world.upstream.lent == []


# ── an upstream that fails ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("answer", "idle"), [(failing(BadReply("no HTTP")), 9), (ConnectFailure("no HTTP"), 0)]
)
async def test_an_upstream_that_fails_before_it_answers_is_a_502(answer, idle):
    world = World(answer, idle=idle)
    await world.ask()
    assert world.problem == (502, "no HTTP")
    assert world.client.kept is True
    assert world.lines == [("GET", "api", "/api/x", 502, len(world.answer[2]), "no HTTP")]
    assert world.handler.counters.refused == {}


@pytest.mark.parametrize(
    ("length", "version", "reset"),
    [
        (9, HttpVersion11, False),
        (None, HttpVersion11, False),
        (9, HttpVersion10, False),
        (None, HttpVersion10, True),
    ],
)
async def test_an_answer_that_breaks_off_is_cut_short_and_never_looks_whole(length, version, reset):
    world = World(begun(length=length))
    await world.quick(version=version)
    task = asyncio.create_task(world.go_on())
    await settle()
    reply = world.upstream.lent[0].reply
    reply.feed(b"some")
    reply.end(BadReply("the upstream closed early"))
    await task
    written = world.client.transport.written
    assert written.count(b"HTTP/1.1 ") == 1
    assert not written.endswith(b"0\r\n\r\n")
    assert world.client.transport.closing
    assert world.client.kept is False
    linger = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert world.client.transport.options == ([linger] if reset else [])
    assert world.lines == [("GET", "api", "/api/x", 200, 4, "the upstream closed early")]


async def test_a_header_that_cannot_be_passed_on_is_a_502():
    class Unreadable(ResponseHeaders):
        def head(self, *_):
            raise ValueError("s3cr3t")

    world = World(whole(), response_headers=Unreadable())
    await world.ask()
    assert world.problem == (502, "the upstream sent a header that cannot be passed on")


# ── a client that goes away, or does not read ────────────────────────────────────────────────────


async def test_nothing_is_said_to_a_client_that_is_gone():
    world = World(whole())
    transport = world.client.transport
    world.start(world.incoming())
    world.client.transport = None
    await settle()
    assert transport.written == b""
    assert world.client.kept is False
    assert world.lines == [("GET", "api", "/api/x", 0, 0, CLIENT_GONE)]


@pytest.mark.parametrize(("gone", "cause"), [(True, CLIENT_GONE), (False, BROKEN_OFF)])
async def test_what_is_broken_off_takes_its_request_along_and_says_who_has_gone(gone, cause):
    world = World(silent)
    world.upstream.idle = 0
    await world.quick()
    task = asyncio.create_task(world.go_on())
    await settle()
    if gone:
        world.client.transport = None
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [lent.aborted for lent in world.upstream.lent] == [True]
    assert world.lines == [("GET", "api", "/api/x", 0, 0, cause)]


async def test_an_answer_comes_no_faster_than_the_client_takes_it():
    world = World(begun(length=6))
    await world.quick()
    task = asyncio.create_task(world.go_on())
    await settle()
    world.client.writing_paused, world.client.transport.untaken = True, 3
    lent = world.upstream.lent[0]
    lent.reply.feed(b"abc")
    await settle()
    lent.reply.feed(b"def")
    await settle()
    assert world.client.waits == [77]
    assert world.client.transport.written.endswith(b"abc")
    world.client.taken.set()
    lent.reply.end()
    await task
    assert world.client.transport.written.endswith(b"abcdef")
    assert world.record.sent == 6


async def test_what_a_stalled_client_never_took_is_not_counted_as_sent():
    world = World(begun(length=9))
    await world.quick()
    task = asyncio.create_task(world.go_on())
    await settle()
    world.client.writing_paused, world.client.transport.untaken = True, 2
    world.upstream.lent[0].reply.feed(b"abc")
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.record.sent == 1


# ── how an answer is framed ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("version", "lines", "body", "kept"),
    [
        (HttpVersion11, ["Transfer-Encoding: chunked"], b"3\r\nyes\r\n0\r\n\r\n", True),
        (HttpVersion10, ["Connection: close"], b"yes", False),
    ],
)
async def test_an_answer_of_unknown_length_goes_in_chunks_or_ends_with_the_connection(
    version, lines, body, kept
):
    world = World(whole(sized=False))
    assert await world.ask(version=version) == (200, lines, body)
    assert world.client.kept is kept
    world = World(begun())
    await world.quick(version=version)
    world.upstream.lent[0].reply.feed(b"yes")
    world.upstream.lent[0].reply.end()
    await world.go_on()
    assert world.answer == (200, lines, body)
    assert world.client.kept is kept


@pytest.mark.parametrize("request_", [{"method": "HEAD"}, {}])
async def test_an_answer_without_a_body_has_no_frame(request_):
    world = World(whole(304 if not request_ else 200, b"", sized=False))
    assert (await world.ask(**request_))[1:] == ([], b"")
    assert world.client.kept is True


async def test_a_204_has_no_length():
    world = World(whole(204, b"", [(b"Content-Length", b"0"), (b"X-Kept", b"1")]))
    assert await world.ask() == (204, ["X-Kept: 1"], b"")


@pytest.mark.parametrize(
    ("request_", "draining", "line", "kept"),
    [
        ({"close": True}, False, "Connection: close", False),
        ({}, True, "Connection: close", False),
        ({"version": HttpVersion10}, False, "Connection: keep-alive", True),
    ],
)
async def test_a_client_is_told_whether_its_connection_goes_on(request_, draining, line, kept):
    world = World(whole())
    world.client.draining = draining
    assert (await world.ask(**request_))[1] == [line]
    assert world.client.kept is kept


# ── what is said of it ───────────────────────────────────────────────────────────────────────────


async def test_the_target_of_a_proxys_client_names_the_host():
    world = World(whole(), request_headers=RequestHeaders(credentials=["Authorization"]))
    await world.ask("http://127.0.0.1:8080/api/x", Host="localhost")
    assert world.upstream.heads[0].startswith("GET /x HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n")


@pytest.mark.parametrize(
    ("error", "counted"),
    [(Forbidden("no"), {("forbidden",): 1}), (BadReply("no"), {}), (TokenUnavailable("no"), {})],
)
def test_only_what_we_would_not_forward_is_counted_as_refused(error, counted):
    handler = World().handler
    handler.refused(error, None)
    assert handler.counters.refused == counted


async def test_its_repr_tells_no_target():
    world = World(whole())
    await world.ask("/api/x?password=s3cr3t")
    context = RequestContext(world.asked, None, 0.0, 0.0)
    assert repr(context) == "<RequestContext GET None under way>"
    assert repr(world.asked) == "<Request GET>"
    assert "s3cr3t" not in str(world.lines)


# ── who is told ──────────────────────────────────────────────────────────────────────────────────


async def test_what_is_refused_before_it_is_a_request_is_told_and_has_an_id():
    world = World()
    answer = world.handler.refused(BadRequest("the request is not valid HTTP/1.1"), None)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert world.lines == [("-", None, "-", 400, len(body), "the request is not valid HTTP/1.1")]
    assert world.record.id == json.loads(body)["id"]
    assert json.loads(body) == world.record.notes.problem
    assert (world.record.answer, world.record.seconds) == (head + b"\r\n", 0.0)
    assert world.handler.counters.refused == {("bad_request",): 1}


async def test_what_is_refused_took_its_time_since_it_began(monkeypatch):
    world = World()
    monkeypatch.setattr(module, "perf_counter", lambda: 7.5)
    monkeypatch.setattr(module, "time", lambda: 1000.0)
    world.handler.refused(BadRequest("the request is not valid HTTP/1.1"), 5.5)
    assert (world.record.at, world.record.seconds, world.record.started) == (998.0, 2.0, 5.5)


async def test_the_id_of_a_problem_is_that_of_its_record():
    world = World(source=CachedTokens(TokenUnavailable("down")))
    await world.ask()
    _, _, body = world.answer
    assert json.loads(body) == world.record.notes.problem
    assert json.loads(body)["id"] == world.record.id


async def test_who_subscribes_is_told_until_it_does_not_any_more():
    world, told = World(whole(), whole(), whole()), []
    await world.ask()
    world.handler.subscribe(told.append)
    await world.ask()
    world.handler.unsubscribe(told.append)
    await world.ask()
    assert len(told) == 1
    assert len(world.lines) == 3


async def test_a_record_refers_to_what_was_sent_and_to_the_answers_head():
    world = World(whole(headers=[(b"Content-Length", b"3")]))
    await world.ask("/api/x?q=1", X_Own="2")
    record = world.record
    assert (record.target, record.head) == ("/api/x?q=1", b"Host: localhost\r\nX-Own: 2\r\n")
    assert record.answer == b"HTTP/1.1 200 Fine\r\nContent-Length: 3\r\n"
    assert record.token == A


@pytest.mark.parametrize(
    ("changes", "origin", "steps"),
    [
        ({"source": CachedTokens(A)}, "fetched", ["token", "upstream"]),
        ({"idle": 0}, "held", ["connect", "upstream"]),
    ],
)
async def test_what_had_to_be_waited_for_is_noted(changes, origin, steps):
    world = World(whole(), **changes)
    await world.ask()
    notes = world.record.notes
    assert (notes.origin, [what for what, _, _ in notes.steps]) == (origin, steps)


async def test_a_plain_request_needs_no_notes():
    world = World(whole())
    await world.ask()
    assert world.record.notes is None


async def test_a_repeated_request_has_the_other_token_and_its_steps():
    world = World(whole(401), whole(200))
    await world.ask()
    notes = world.record.notes
    assert (world.record.token, notes.origin) == (B, "renewed")
    assert [(what, detail) for what, detail, _ in notes.steps] == [
        ("upstream", "answered 401"), ("token", "renewed"), ("upstream", "answered 200"),
    ]  # fmt: skip
    assert [moment for _, _, moment in notes.steps] == sorted(moment for _, _, moment in notes.steps)


async def test_bodies_are_kept_of_a_route_that_says_so(payload):
    facts = RouteFacts("api", str, bodies=4)
    world = World(whole(body=b"answer"), facts=facts)
    await world.ask(method="PUT", body=payload(b"some", b"thing"), Content_Length="9")
    notes = world.record.notes
    assert (bytes(notes.request_body.data), notes.request_body.size, world.record.received) == (b"some", 9, 9)
    assert (bytes(notes.response_body.data), notes.response_body.size) == (b"answ", 6)


# ── at a listener that is a route's own ──────────────────────────────────────────────────────────


async def test_one_beside_it_tells_the_same_subscribers_and_remembers_by_itself():
    world, records = World(whole(), whole(), whole()), []
    alone = SimpleNamespace(**vars(world.handler.site))
    beside = world.handler.beside(alone, "own")
    assert beside.reader is not world.handler.reader
    assert beside.counters is world.handler.counters
    world.handler.subscribe(records.append)
    beside.start(world.incoming(Host="evil.example"))
    assert [each.status for each in records] == [403]
    assert (records[0].listener, records[0].facts) == ("own", None)
    world.handler.serve(world.handler.site, [])
    beside.start(world.incoming(Host="evil.example"))
    assert len(records) == 1
    world.handler.start(world.incoming(Host="evil.example"))


async def test_what_is_refused_where_all_are_mounted_came_in_at_no_routes_own():
    world, records = World(), []
    world.handler.subscribe(records.append)
    world.handler.start(world.incoming(Host="evil.example"))
    assert records[0].listener == ""
