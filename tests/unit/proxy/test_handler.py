"""One request's way through the proxy, both its peers faked: what goes out, what comes back, and when."""

import asyncio
import json
import socket
import struct
from types import SimpleNamespace

import pytest
from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpVersion10, HttpVersion11
from aiohttp.http_parser import HttpRequestParser
from aiohttp.streams import EMPTY_PAYLOAD
from multidict import CIMultiDict, CIMultiDictProxy

from authproxy.errors import BadReply, BadRequest, ConnectFailure, Forbidden, TokenUnavailable
from authproxy.observe.counters import Counters
from authproxy.observe.record import RouteFacts
from authproxy.proxy.allow import Allow
from authproxy.proxy.context import Answered, RequestContext, Waiting
from authproxy.proxy.downstream.server import ProxyServer
from authproxy.proxy.guard import Guard
from authproxy.proxy.handler import ProxyHandler
from authproxy.proxy.headers import RequestHeaders, ResponseHeaders
from authproxy.proxy.injection import header_injection
from authproxy.proxy.renewal import Credential
from authproxy.proxy.request import Request, Whole
from authproxy.proxy.respond import CLIENT_GONE
from authproxy.proxy.route import Route
from authproxy.proxy.router import RouteTable
from authproxy.proxy.send import Sender
from authproxy.proxy.upstream.reply import Reply
from authproxy.tokens.token import Token
from tests.support import client_side
from tests.support.both_doors import without_ids
from tests.support.cases import every_case
from tests.support.clock import settle
from tests.support.token_sources import CachedTokens

A, B = Token("t0k3n-a"), Token("t0k3n-b")
PAGE = "https://page.example"


# ── the client's side ────────────────────────────────────────────────────────────────────────────


class Transport:
    def __init__(self):
        self.written = b""
        self.closing = False
        self.untaken = 0
        self.options = []

    def write(self, data):
        assert not self.closing
        self.written += data

    def writelines(self, pieces):
        self.write(b"".join(pieces))

    def get_write_buffer_size(self):
        return self.untaken

    def is_closing(self):
        return self.closing

    def close(self):
        self.closing = True

    def can_write_eof(self):
        return True

    def write_eof(self):
        pass

    def get_extra_info(self, name):
        return self if name == "socket" else None

    def setsockopt(self, *option):
        self.options.append(option)


class Client:
    """Stands in for `ClientConnection`."""

    def __init__(self):
        self.transport = Transport()
        self.writing_paused = False
        self.draining = False
        self.stall_seconds = None
        self.sent = self.handed = self.kept = self.tunnel = None
        self.waits = []
        self.taken = asyncio.Event()

    def answered(self, *, keep_alive):
        assert self.kept is None, "it is answered once"
        self.kept = keep_alive

    def proceed(self, context):
        assert self.handed is None, "one task goes on with it"
        self.handed = context

    async def drained(self, seconds):
        self.waits.append(seconds)
        await self.taken.wait()
        self.writing_paused = False

    def join(self, tunnel):
        self.tunnel = tunnel


# ── the upstream's side ──────────────────────────────────────────────────────────────────────────


class Upstream:
    """Stands in for a pool, and for the connections that it lends: gives its answers in turn."""

    def __init__(self, *answers, idle=9):
        self.answers = list(answers)
        self.idle = idle
        self.lent = []

    def take(self, *, check_liveness):
        if not self.idle:
            return None
        self.idle -= 1
        return self._lend()

    async def connect(self):
        await asyncio.sleep(0)
        if self.answers and isinstance(self.answers[0], ConnectFailure):
            raise self.answers.pop(0)
        return self._lend()

    def _lend(self):
        self.lent.append(Lent(self.answers.pop(0)))
        return self.lent[-1]

    @property
    def heads(self):
        return [lent.said.partition(b"\r\n\r\n")[0].decode() for lent in self.lent]

    @property
    def tokens(self):
        return [head.partition("Authorization: Bearer ")[2].partition("\r\n")[0] for head in self.heads]


class Lent:
    exchanges = 0

    def __init__(self, answer):
        self.answer = answer
        self.said = b""
        self.aborted = False
        self.resumed = 0
        self.failure = None

    def begin(self, data, *, may_switch, **_):
        self.said += data
        self.may_switch = may_switch
        self.reply = Reply(self)
        asyncio.get_running_loop().call_soon(self.answer, self.reply)
        return self.reply

    async def send(self, data):
        self.said += data
        return True

    def sent(self, _seconds):
        pass

    def fail(self, failure):
        self.failure = failure
        self.reply.end(failure)

    def resume(self):
        self.resumed += 1

    def abort(self):
        self.aborted = True

    def join(self, pipe_to):
        self.transport = Transport()
        return pipe_to(self.transport)


def whole(status=200, body=b"yes", headers=(), *, length=None, sized=True):
    """Return an answer that is all there at once."""

    def answer(reply):
        reply.head_came(status, b"Fine", list(headers), (length or len(body)) if sized else None)
        if body:
            reply.feed(body)
        reply.end()
        reply.show()

    return answer


def begun(status=200, headers=(), length=None):
    """Return an answer of which only the head is there."""

    def answer(reply):
        reply.head_came(status, b"Fine", list(headers), length)
        reply.show()

    return answer


def failing(failure):
    def answer(reply):
        reply.end(failure)
        reply.show()

    return answer


def silent(_reply):
    """Say nothing."""


# ── all together ─────────────────────────────────────────────────────────────────────────────────


class World:
    """A proxy with one route, `/api`, and the client that asks it."""

    def __init__(
        self,
        *answers,
        source=None,
        idle=9,
        guard=None,
        limits=None,
        credential=True,
        subscribers=(),
        **route,
    ):
        self.upstream = Upstream(*answers, idle=idle)
        self.client = Client()
        self.source = source or CachedTokens(B, current=A)
        self.lines = []
        added = None
        if credential:
            added = Credential(
                self.source,
                injection=header_injection("Authorization", "Bearer"),
                statuses=frozenset({401}),
                idempotent_only=False,
                cooldown=30,
                clock=lambda: 0.0,
            )
        self.route = Route(
            **{
                "name": "api",
                "host": None,
                "path": "/api",
                "strip": "/api",
                "base": "",
                "sender": Sender(self.upstream, response_seconds=60, idle_seconds=60),
                "request_headers": RequestHeaders(credentials=["Authorization"], host="up.example"),
                "response_headers": ResponseHeaders(),
                "credential": added,
                "keep_body": 100,
                "idle_seconds": 77.0,
            }
            | route
        )
        site = SimpleNamespace(
            guard=guard or Guard(),
            routes=RouteTable([self.route]),
            **{"header_bytes": 1000, "body_bytes": None} | (limits or {}),
        )
        counters = Counters()
        self.handler = ProxyHandler(site, counters, subscribers or [counters.request, self.log])

    def log(self, record):
        assert record.seconds >= 0
        self.lines.append(
            (record.method, record.route, record.path, record.status, record.sent, record.cause)
        )
        self.record = record

    def incoming(
        self, target="/api/x", *, method="GET", body=None, version=HttpVersion11, close=False, **headers
    ):
        pairs = {"Host": "localhost"} | {name.replace("_", "-"): value for name, value in headers.items()}
        raw = tuple((name.encode(), value.encode()) for name, value in pairs.items())
        message = SimpleNamespace(
            method=method,
            path=target,
            version=version,
            headers=CIMultiDictProxy(CIMultiDict(pairs)),
            raw_headers=raw,
            should_close=close,
        )
        return Request.parsed(message, EMPTY_PAYLOAD if body is None else body, self.client)

    def start(self, request):
        """Begin with `request`, as the connection does."""
        self.asked = request
        step = self.handler.start(request)
        match step:
            case Answered(keep_alive):
                self.client.answered(keep_alive=keep_alive)
            case Waiting(context):
                self.client.proceed(context)
            case context:
                self.client.sent = context

    async def quick(self, target="/api/x", **request):
        """Ask, and see how far that goes without a task."""
        self.start(self.incoming(target, **request))
        await settle()

    async def ask(self, target="/api/x", **request):
        """Ask; return the answer's status, head lines and body."""
        await self.quick(target, **request)
        if self.client.handed is not None:
            await self.go_on()
        return self.answer

    async def go_on(self):
        """Go on in the task."""
        handed, self.client.handed = self.client.handed, None
        self.client.answered(keep_alive=await self.handler.finish(handed))

    @property
    def answer(self):
        head, _, body = self.client.transport.written.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        return int(first.split()[1]), lines, body

    @property
    def problem(self):
        status, lines, body = self.answer
        assert any(line.startswith("Proxy-Status: authproxy; error=") for line in lines)
        document = json.loads(body)
        assert document["status"] == status
        return status, document["detail"]


@pytest.fixture
def payload():
    """Return a maker of a request's body, of which some has come."""

    def make(*pieces, end=True):
        loop = asyncio.get_running_loop()
        protocol = BaseProtocol(loop)
        protocol.transport = asyncio.Transport()
        body = StreamReader(protocol, limit=1 << 16, loop=loop)
        for piece in pieces:
            body.feed_data(piece)
        if end:
            body.feed_eof()
        return body

    return make


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


# ── a credential that the caller brings ──────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("route", "sent"),
    [
        ({"incoming": "keep"}, "Bearer own"),
        ({"incoming": "replace"}, "Bearer t0k3n-a"),
        (
            {
                "incoming": "keep",
                "request_headers": RequestHeaders(credentials=["Authorization"], remove=["Authorization"]),
            },
            "Bearer t0k3n-a",
        ),
    ],
    ids=["keep", "replace", "removed anyway"],
)
async def test_a_callers_own_credential_is_kept_or_replaced_but_never_sent_beside_ours(route, sent):
    world = World(whole(), **route)
    await world.ask(Authorization="Bearer own")
    lines = [line for line in world.upstream.heads[0].split("\r\n") if line.startswith("Authorization")]
    assert lines == [f"Authorization: {sent}"]


async def test_a_callers_own_credential_that_is_refused_is_not_replaced_by_ours():
    world = World(whole(401))
    assert (await world.ask(Authorization="Bearer own"))[0] == 401
    assert world.upstream.tokens == ["own"]


async def test_a_route_may_refuse_callers_that_bring_a_credential():
    world = World(incoming="reject")
    await world.ask(Authorization="Bearer own")
    assert world.problem == (403, "requests to this route must not carry Authorization")
    assert world.upstream.lent == []


# ── refused before anything is sent ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("settings", "request_", "status", "reason"),
    [
        ({}, {"Host": "evil.example"}, 403, "forbidden"),
        ({}, {"Origin": "https://evil.example"}, 403, "forbidden"),
        ({}, {"target": "/elsewhere"}, 404, "no_route"),
        ({}, {"target": "/api/../x"}, 403, "forbidden"),
        ({"allow": Allow(methods=["GET"])}, {"method": "DELETE"}, 403, "forbidden"),
        ({"allow": Allow(paths=["/v2/**"])}, {"target": "/api/v3/x"}, 403, "forbidden"),
        ({"allow": Allow(paths=["/v2/**"])}, {"target": "/api/v2/../v3"}, 403, "forbidden"),
        ({"guard": Guard(access_header="X-Key", access_keys=["k"])}, {}, 401, "key_required"),
        ({}, {"X-Long": "x" * 1000}, 431, "headers_too_large"),
        ({"limits": {"body_bytes": 9}}, {"Content-Length": "10", "method": "PUT"}, 413, "body_too_large"),
        ({}, {"Content-Length": "1" * 19, "method": "PUT"}, 400, "bad_request"),
        ({}, {"Content-Length": "1", "Expect": "a miracle", "method": "PUT"}, 400, "bad_request"),
    ],
)
async def test_of_a_refused_request_nothing_reaches_the_upstream(settings, request_, status, reason):
    world = World(**settings)
    await world.ask(**request_)
    assert world.problem[0] == status
    assert world.upstream.lent == []
    assert world.handler.counters.refused == {(reason,): 1}
    assert world.client.kept is (status not in {400, 413, 431})  # after those nobody knows what comes next
    assert [line[3] for line in world.lines] == [status]


async def test_what_was_let_through_is_judged_below_the_routes_prefix():
    world = World(whole(), allow=Allow(paths=["/v2/**"]))
    assert (await world.ask("/api/v2/x"))[0] == 200
    world = World(whole(), allow=Allow(paths=["/api/v2/**"]), strip="")
    assert (await world.ask("/api/v2/x"))[0] == 200


@pytest.mark.parametrize("request_", [{"close": True}, {"method": "CONNECT"}])
async def test_after_a_refusal_the_connection_ends_where_what_follows_may_be_no_request(request_):
    world = World()
    _, lines, _ = await world.ask("/elsewhere", **request_)
    assert "Connection: close" in lines
    assert world.client.kept is False


async def test_after_a_refusal_the_connection_goes_on_though_the_body_is_still_coming(payload):
    world = World()
    await world.ask("/elsewhere", method="PUT", body=payload(b"x", end=False), Content_Length="9")
    assert world.client.kept is True  # the rest of it is dropped: in how many pieces it comes says nothing


async def test_a_refusal_of_a_head_has_no_body():
    world = World()
    status, lines, body = await world.ask("/elsewhere", method="HEAD")
    assert (status, body) == (404, b"")
    assert any(line.startswith("Content-Length: ") and line != "Content-Length: 0" for line in lines)


async def test_a_fault_of_our_own_is_a_500_that_tells_nothing(caplog):
    def fails(**_):
        raise RuntimeError("s3cr3t")

    world = World()
    world.upstream.take = fails
    await world.ask()
    assert world.problem[0] == 500
    assert b"s3cr3t" not in world.client.transport.written
    assert world.client.kept is False
    assert [record.getMessage() for record in caplog.records] == ["internal error"]


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


async def test_a_client_that_goes_away_takes_its_request_along():
    world = World(silent)
    world.upstream.idle = 0
    await world.quick()
    task = asyncio.create_task(world.go_on())
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [lent.aborted for lent in world.upstream.lent] == [True]
    assert world.lines == [("GET", "api", "/api/x", 0, 0, CLIENT_GONE)]


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


# ── a request's body ─────────────────────────────────────────────────────────────────────────────


async def test_a_body_is_sent_as_it_is_framed(payload):
    world = World(whole(), whole())
    await world.ask(method="PUT", body=payload(b"body"), Content_Length="4")
    assert world.upstream.lent[0].said.endswith(b"\r\n\r\nbody")
    world.client.kept = None
    await world.ask(method="PUT", body=payload(b"body"), Transfer_Encoding="chunked")
    assert world.upstream.heads[1].count("Transfer-Encoding: chunked") == 1
    assert world.upstream.lent[1].said.endswith(b"\r\n\r\n4\r\nbody\r\n0\r\n\r\n")


async def test_a_refused_request_with_a_body_is_sent_once_more_with_all_of_it(payload):
    world = World(whole(401), whole(200))
    assert (await world.ask(method="POST", body=payload(b"body"), Content_Length="4"))[0] == 200
    assert [lent.said.rpartition(b"\r\n\r\n")[2] for lent in world.upstream.lent] == [b"body"] * 2


@pytest.mark.parametrize(
    ("end", "version", "told"),
    [(False, HttpVersion11, True), (True, HttpVersion11, False), (False, HttpVersion10, False)],
)
async def test_a_client_that_waits_for_it_is_told_to_go_on(payload, end, version, told):
    world = World(silent)
    body = payload(b"", end=end)
    await world.quick(method="PUT", body=body, version=version, Content_Length="4", Expect="100-continue")
    assert world.client.transport.written == (b"HTTP/1.1 100 Continue\r\n\r\n" if told else b"")
    assert "Expect" not in world.upstream.heads[0]
    world.client.sent.give_up()


async def test_a_client_is_not_told_to_go_on_with_a_body_that_is_refused(payload):
    world = World(limits={"body_bytes": 3})
    body = payload(end=False)
    assert (await world.ask(method="PUT", body=body, Content_Length="4", Expect="100-continue"))[0] == 413


async def test_an_upload_is_broken_off_before_we_answer_ourselves(payload):
    world = World(failing(BadReply("no HTTP")))
    body = payload(b"some", end=False)
    await world.ask(method="PUT", body=body, Content_Length="9")
    assert world.problem[0] == 502
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "upload"]


# ── pages of other origins ───────────────────────────────────────────────────────────────────────

PREFLIGHT = {"method": "OPTIONS", "Origin": PAGE, "Access-Control-Request-Method": "PUT"}
MAY_READ = f"Access-Control-Allow-Origin: {PAGE}"


async def test_a_preflight_is_answered_here_and_needs_no_key():
    world = World(guard=Guard(origins=[PAGE], access_header="X-Key", access_keys=["k"]))
    status, lines, body = await world.ask(**PREFLIGHT, Access_Control_Request_Headers="X-Key")
    assert (status, body) == (204, b"")
    assert {MAY_READ, "Access-Control-Allow-Methods: PUT", "Access-Control-Allow-Headers: X-Key"} <= set(
        lines
    )
    assert world.upstream.lent == []
    assert world.client.kept is True


async def test_a_preflight_of_any_other_origin_is_refused():
    world = World(guard=Guard(origins=[PAGE]))
    status, lines, _ = await world.ask(**PREFLIGHT | {"Origin": "https://evil.example"})
    assert status == 403
    assert not any(line.startswith("Access-Control") for line in lines)


async def test_a_page_may_read_what_it_asked_for_and_why_it_was_refused():
    guard = Guard(origins=[PAGE])
    _, lines, _ = await World(whole(), guard=guard).ask(Origin=PAGE)
    assert MAY_READ in lines
    status, lines, _ = await World(guard=guard).ask("/elsewhere", Origin=PAGE)
    assert status == 404
    assert MAY_READ in lines
    _, lines, _ = await World(whole(), guard=guard).ask()
    assert MAY_READ not in lines


# ── another protocol ─────────────────────────────────────────────────────────────────────────────


def upgrade(protocol, **more):
    return {"Connection": "Upgrade", "Upgrade": protocol, **more}


@pytest.mark.parametrize(
    ("protocol", "passes"),
    [("websocket", True), ("WebSocket", True), ("other/1", True), ("h2c", False), ("websocket, h2c", False),
     ("TLS/1.2", False), ("HTTP/2.0", False)],
)  # fmt: skip
async def test_a_protocol_is_asked_for_unless_it_is_http_itself(protocol, passes):
    world = World(whole())
    await world.ask(**upgrade(protocol))
    assert (f"Upgrade: {protocol}" in world.upstream.heads[0]) is passes
    assert world.upstream.lent[0].may_switch is passes


@pytest.mark.parametrize("protocol", ["websocket", "other/1", "h2c"])
async def test_after_a_switch_that_did_not_come_the_connection_goes_on(protocol):
    world = World(whole())
    await world.ask(**upgrade(protocol))
    assert world.client.kept is True


async def test_a_protocol_that_is_not_listed_or_asked_for_in_http_1_0_goes_no_further():
    world = World(whole(), whole())
    await world.ask(Upgrade="websocket")
    world.client.kept = None
    await world.ask(**upgrade("websocket"), version=HttpVersion10)
    assert not any("Upgrade" in head for head in world.upstream.heads)


async def test_after_the_switch_both_sides_are_joined_and_the_connection_ends_with_them():
    world = World(begun(101, [(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade")]))
    await world.quick(**upgrade("websocket"))
    task = asyncio.create_task(world.go_on())
    await settle()
    status, lines, _ = world.answer
    assert status == 101
    assert lines == ["Connection: Upgrade", "Upgrade: websocket"]
    tunnel = world.client.tunnel
    tunnel.feed("upstream", b"hello")
    tunnel.feed("client", b"hi")
    assert world.client.transport.written.endswith(b"\r\n\r\nhello")
    assert world.upstream.lent[0].transport.written == b"hi"
    tunnel.end("client")
    tunnel.end("upstream")
    await task
    assert world.client.kept is False
    assert world.lines == [("GET", "api", "/api/x", 101, 5, None)]


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket, h2c", b""])
async def test_a_switch_to_what_was_not_asked_for_is_a_502(protocol):
    world = World(begun(101, [(b"Upgrade", protocol)]))
    await world.ask(**upgrade("websocket"))
    assert world.problem == (502, "the upstream switched to a protocol that was not asked for")
    assert world.client.tunnel is None


# ── plain requests ───────────────────────────────────────────────────────────────────────────────


def plainly(world, data):
    head, rest = world.handler.reader.read(data)
    payload = Whole(rest) if head.section.length else EMPTY_PAYLOAD
    return Request(world.client, head.method, head.target, payload, head)


def by_the_parser(world, data):
    loop = asyncio.get_running_loop()
    [(message, payload)], _, _ = HttpRequestParser(client_side.NoProtocol(), loop, 1 << 16).feed_data(data)
    return Request.parsed(message, payload, world.client)


async def outcome(read, data, times=6, **settings):
    """Return all that comes of a request, each of the `times` that it is asked."""
    world = World(*[whole(headers=[(b"Content-Length", b"3")])] * times, **settings)
    found = []
    for _ in range(times):
        client = world.client = Client()
        world.start(read(world, data))
        await settle()
        if client.handed is not None:
            await world.go_on()
        found.append((without_ids(client.transport.written), client.kept, client.stall_seconds))
    return found, [lent.said for lent in world.upstream.lent], world.lines, world.handler.counters.refused


KEYED = {"access_header": "X-Key", "access_keys": ["k"]}
PLAIN_REQUESTS = {
    "a path": ("GET /api/x", [], b""),
    "the mount itself": ("GET /api", [], b""),
    "a query": ("GET /api/x?a=/../b%2f//c;d", [], b""),
    "another method": ("DELETE /api/x", [], b""),
    "a path to be read in several ways": ("GET /api/%78//y", [], b""),
    "a path that steps out": ("GET /api/../x", [], b""),
    "a hidden step": ("GET /api/%2e%2e/x", [], b""),
    "a path that is not allowed": ("GET /api/v3/x", [], b""),
    "nobody's path": ("GET /elsewhere", [], b""),
    "a segment that only begins alike": ("GET /apix", [], b""),
    "a body": ("PUT /api/x", ["Content-Length: 5"], b"hello"),
    "a body of nothing": ("PUT /api/x", ["Content-Length: 0"], b""),
    "a long body": ("PUT /api/x", ["Content-Length: 10"], b"0123456789"),
    "a key": ("GET /api/x", ["X-Key: k"], b""),
    "a wrong key": ("GET /api/x", ["X-Key: K"], b""),
    "a credential": ("GET /api/x", ["authorization: Bearer own"], b""),
    "a host of others": ("GET /api/x", ["Host: evil.example"], b""),
    "an address": ("GET /api/x", ["Host: 127.0.0.1:8080"], b""),
    "a last request": ("GET /api/x", ["Connection: close"], b""),
    "lines that go no further": ("GET /api/x", ["Keep-Alive: 5", "Proxy-Authorization: x", "Cookie: a"], b""),
    "a head that is large": ("GET /api/x", ["X: " + "x" * 900], b""),
    "a head that is too large with ours": ("GET /api/x", ["X: " + "x" * 940], b""),
}
SITES = {
    "plain forwarding": {"credential": False},
    "a credential": {},
    "a credential that replaces": {"incoming": "replace"},
    "a credential that rejects": {"incoming": "reject"},
    "a credential that is removed": {
        "incoming": "reject",
        "request_headers": RequestHeaders(credentials=["Authorization"], remove=["Authorization"]),
    },
    "a key": {"guard": Guard(**KEYED)},
    "origins": {"guard": Guard(origins=[PAGE])},
    "allowed hosts": {"guard": Guard(hosts=["evil.example"])},
    "allow": {"allow": Allow(methods=["GET"], paths=["/v2/**", "/x"])},
    "a base": {"base": "/v2"},
    "a header that is set": {
        "request_headers": RequestHeaders(credentials=["Authorization"], set_pairs=[("X-Team", "g" * 99)])
    },
    "not stripped": {"strip": "", "allow": Allow(paths=["/api/x"])},
    "a limit of bodies": {"limits": {"body_bytes": 9}},
    "a host of its own": {"host": "localhost"},
    "mounted at the root": {"path": "/", "strip": ""},
}


@pytest.mark.parametrize("site", SITES)
async def test_a_plain_request_fares_as_any_other(site):
    with every_case() as case:
        for name, (line, more, body) in PLAIN_REQUESTS.items():
            lines = [*([] if more and more[0].startswith("Host") else ["Host: localhost"]), *more]
            data = "\r\n".join([f"{line} HTTP/1.1", *lines, "", ""]).encode() + body
            with case(name):
                found = await outcome(plainly, data, **SITES[site])
                assert found == await outcome(by_the_parser, data, **SITES[site])


async def test_what_is_worked_out_of_a_section_is_kept_with_it_once_its_host_is_known():
    world = World(whole(), whole(), whole())
    data = b"GET /api/x HTTP/1.1\r\nHost: localhost\r\n\r\n"
    kept = []
    for _ in range(3):
        world.client = Client()
        world.start(plainly(world, data))
        await settle()
        kept.append(dict(world.asked.head.section.worked_out))
    assert kept == [{}, *[{world.route: b"Host: up.example\r\n"}] * 2]
    assert len(set(world.upstream.heads)) == 1


async def test_what_was_worked_out_for_one_route_is_not_taken_for_another():
    world = World(*[whole()] * 4, credential=False)
    other = Route(
        **{name: getattr(world.route, name) for name in Route.__slots__}
        | {"path": "/other", "strip": "/other", "request_headers": RequestHeaders(host="other.example")}
    )
    world.handler.serve(
        SimpleNamespace(
            guard=Guard(), routes=RouteTable([world.route, other]), header_bytes=1000, body_bytes=None
        )
    )
    for path in ("/api", "/other") * 2:
        world.client = Client()
        world.start(plainly(world, f"GET {path}/x HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()))
        await settle()
    hosts = [head.split("\r\n")[1] for head in world.upstream.heads]
    assert hosts == ["Host: up.example", "Host: other.example"] * 2


async def test_a_site_that_was_replaced_is_asked_no_more_and_what_it_has_begun_it_ends():
    world = World(silent, guard=Guard(**KEYED))
    data = b"GET /api/x HTTP/1.1\r\nHost: localhost\r\nX-Key: k\r\n\r\n"
    world.start(plainly(world, data))
    await settle()
    before = world.client.sent
    world.handler.serve(
        SimpleNamespace(guard=Guard(), routes=RouteTable([]), header_bytes=1000, body_bytes=None)
    )
    world.client = Client()
    world.start(plainly(world, data))
    assert world.problem[0] == 404
    assert before.site is not world.handler.site
    before.give_up()


async def test_a_reply_that_comes_before_the_whole_body_went_out_is_left_to_the_task(payload):
    world = World(whole(), credential=False)
    body = payload(b"some", end=False)
    await world.quick(method="PUT", body=body, Content_Length="9")
    assert world.client.handed is not None
    await world.go_on()
    assert world.answer[0] == 200
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "upload"]


async def test_a_client_that_goes_while_the_upstream_has_its_request_is_told_of_once():
    world = World(whole())
    world.start(world.incoming())
    world.handler.lost(world.client.sent)
    await settle()  # the reply that was on its way changes nothing
    assert world.client.transport.written == b""
    assert (world.client.kept, world.client.handed) == (None, None)
    assert world.lines == [("GET", "api", "/api/x", 0, 0, CLIENT_GONE)]
    assert [lent.aborted for lent in world.upstream.lent] == [True]


@pytest.mark.parametrize("rounds", range(6))
@pytest.mark.parametrize("answer", [silent, begun(length=6), whole(), whole(401), failing(BadReply("no"))])
async def test_whenever_a_client_goes_its_request_is_told_of_once_and_nothing_is_left_open(rounds, answer):
    world = World(answer, silent)
    server = ProxyServer(world.handler, limit=9, keepalive=75, header_bytes=1000, header_seconds=10)
    connection = server()
    transport = client_side.Transport(connection)
    connection.connection_made(transport)
    connection.data_received(b"GET /api/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
    loop = asyncio.get_running_loop()

    def goes(left):
        if left:
            loop.call_soon(goes, left - 1)
        else:
            connection.connection_lost(None)

    goes(rounds)
    for _ in range(5):
        await settle()
    assert len(world.lines) == 1
    [(*_, status, _sent, cause)] = world.lines
    assert (cause == CLIENT_GONE) or (transport.written and status in {200, 502})
    assert all(lent.aborted or lent.reply.complete or lent.reply.failure for lent in world.upstream.lent)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_request_that_was_not_judged_is_a_fault_of_ours(caplog):
    world = World()
    assert await world.handler.finish(RequestContext(world.incoming(), world.handler.site, 0.0, 0.0)) is False
    assert world.problem[0] == 500


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
    handler.refused(error)
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
    known = world.handler.refused(BadRequest("the request is not valid HTTP/1.1"))
    assert world.lines == [("-", None, "-", 400, 0, "the request is not valid HTTP/1.1")]
    assert world.record.id == known == world.record.notes.problem["id"]
    assert world.handler.counters.refused == {("bad_request",): 1}


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
