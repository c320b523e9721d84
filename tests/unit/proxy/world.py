"""A request's way with both its peers faked: what the tests of the data path share."""

import asyncio
import json
from types import SimpleNamespace

from aiohttp.http import HttpVersion11
from aiohttp.streams import EMPTY_PAYLOAD
from multidict import CIMultiDict, CIMultiDictProxy

from authproxy.errors import ConnectFailure
from authproxy.observe.counters import Counters
from authproxy.proxy.context import Answered, Waiting
from authproxy.proxy.guard import Guard
from authproxy.proxy.handler import ProxyHandler
from authproxy.proxy.headers import RequestHeaders, ResponseHeaders
from authproxy.proxy.renewal import Credential
from authproxy.proxy.request import Request
from authproxy.proxy.route import Route
from authproxy.proxy.router import RouteTable
from authproxy.proxy.send import Sender
from authproxy.proxy.upstream.reply import Reply
from authproxy.tokens.token import Token
from tests.support.clock import settle
from tests.support.injection import header_injection
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
