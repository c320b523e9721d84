"""Requests to be answered, their connections and replies faked: what tests of answers share."""

from types import SimpleNamespace

from aiohttp.http import HttpVersion11
from aiohttp.streams import EMPTY_PAYLOAD
from multidict import CIMultiDict, CIMultiDictProxy

from authproxy.observe.standing import Standing
from authproxy.proxy.context import RequestContext
from authproxy.proxy.headers import ResponseHeaders
from authproxy.proxy.plain import read_reply
from authproxy.proxy.route import NO_FACTS
from authproxy.proxy.upstream.reply import Reply
from tests.support.client_side import Transport

PAGE = "https://page.example"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nServer: x"


class Connection:
    def __init__(self):
        self.transport = Transport()
        self.transport.options = []
        self.transport.setsockopt = lambda *option: self.transport.options.append(option)
        self.transport.get_extra_info = {"socket": self.transport}.get
        self.writing_paused = self.draining = False
        self.waits = []
        self.joined = None

    async def drained(self, seconds):
        self.waits.append(seconds)
        self.writing_paused = False

    def join(self, tunnel):
        self.joined = tunnel


def context(*, method="GET", version=HttpVersion11, keep_alive=True, whole=True, origin=None, **headers):
    pairs = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    request = SimpleNamespace(
        connection=Connection(),
        head=None,
        method=method,
        target="/x",
        authority="localhost:8080",
        version=version,
        keep_alive=keep_alive,
        headers=CIMultiDictProxy(pairs),
        payload=EMPTY_PAYLOAD if whole else SimpleNamespace(is_eof=lambda: False),
        notes=None,
    )
    made = RequestContext(request, None, 0.0, 0.0)
    made.route = route()
    made.origin = origin
    return made


def route(*, bodies=None, **settings):
    return SimpleNamespace(
        name="api",
        idle_seconds=77,
        response_headers=ResponseHeaders(**settings),
        credential=None,
        bodies=bodies,
        facts=NO_FACTS,
        standing=Standing("api", lambda *_: None),
        refusals_from=300,
    )


def odd(status=200, *headers, body=b"yes", length=3, end=True):
    reply = Reply(SimpleNamespace(resume=lambda: None))
    reply.head_came(status, b"Fine", list(headers), length)
    if body:
        reply.feed(body)
    if end:
        reply.end()
    return reply


def plain(head=PLAIN, body=b"yes", *, end=True):
    reply = Reply(SimpleNamespace(resume=lambda: None))
    reply.plain_head_came(read_reply(head))
    if body:
        reply.feed(body)
    if end:
        reply.end()
    return reply


def written(asked):
    head, _, body = asked.request.connection.transport.written.partition(b"\r\n\r\n")
    return head.decode("latin-1").split("\r\n"), body
