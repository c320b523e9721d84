"""The whole data path between two made-up ends: bytes in, bytes out, no socket and no clock.

    client's bytes ─▶ ProxyServer, ProxyHandler, routes, Pool, Connection ─▶ upstream's bytes
    client's bytes ◀─                                                     ◀─ its replies, as they are scripted

Without `heads` no request's head is read plainly, without `replies` no reply's: they take the parsers' door.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from authproxy.net.dial import Origin
from authproxy.observe.counters import Counters
from authproxy.proxy import handler as handler_module
from authproxy.proxy.allow import Allow
from authproxy.proxy.downstream.server import ProxyServer
from authproxy.proxy.guard import Guard
from authproxy.proxy.handler import ProxyHandler
from authproxy.proxy.headers import RequestHeaders, ResponseHeaders
from authproxy.proxy.judge import judge_plain
from authproxy.proxy.placeholders import Placeholders, placeholder
from authproxy.proxy.renewal import Credential
from authproxy.proxy.rewrite import Rewriting
from authproxy.proxy.route import Route
from authproxy.proxy.router import RouteTable
from authproxy.proxy.send import Sender
from authproxy.proxy.stand_in import Login, StandIn
from authproxy.proxy.token_endpoint import TokenEndpoints
from authproxy.proxy.upstream.pool import Pool
from authproxy.tokens.token import Token
from tests.support.clock import settle
from tests.support.injection import header_injection
from tests.support.token_sources import CachedTokens

EMPTY_LINE = b"\r\n\r\n"
CLOSE = None  # in a script: the upstream closes
ORIGIN = "http://up.example:9000"
KEY, KEY_HEADER = "s3cr3t", "X-Authproxy-Key"
PAGE = "https://page.example"

_judged: dict[int, int] = {}  # by the identity of a site
_judge_plain = judge_plain


def _counted(context: Any, head: Any) -> bool:
    passes = _judge_plain(context, head)
    if id(context.site) in _judged:
        _judged[id(context.site)] += passes
    return passes


vars(handler_module)["judge_plain"] = _counted

Script = Callable[[bytes], Sequence[bytes | None]]
"""What the upstream says to a request, in pieces."""


OWN, OTHERS = placeholder("up"), placeholder("other")
LOGIN = Login("/login", frozenset({"GET", "POST"}))


@dataclass(frozen=True)
class Settings:
    """A configuration, as far as requests notice it."""

    credential: str | None = "Authorization"
    incoming: str = "keep"
    remove: tuple[str, ...] = ()
    set_pairs: tuple[tuple[str, str], ...] = ()
    preserve_host: bool = False
    strip: bool = True
    base: str = "/v2"
    methods: tuple[str, ...] | None = None
    paths: tuple[str, ...] | None = None
    key: bool = False
    key_header: str = KEY_HEADER
    origins: tuple[str, ...] = ()
    header_bytes: int = 32 << 10
    body_bytes: int | None = None
    keep_body: int = 64 << 10
    rewrite: bool = True
    response_set: tuple[tuple[str, str], ...] = ()
    response_remove: tuple[str, ...] = ()


@dataclass
class Outcome:
    """What both ends got, and what is told of it."""

    client: bytes
    client_end: str
    upstream: list[bytes]
    upstream_ends: list[str]
    records: list[Any] = field(default_factory=list)
    refused: dict[Any, int] = field(default_factory=dict)


class Wire:
    """A transport: notes what is written, and how it ends."""

    def __init__(self) -> None:
        self.protocol: Any = None
        self.written = b""
        self.reading = True
        self.end = ""

    @property
    def gone(self) -> bool:
        return self.end in {"closed", "aborted"}

    def write(self, data: bytes) -> None:
        assert self.end == "", f"written after the end ({self.end})"
        self.written += data

    def writelines(self, pieces: Sequence[bytes]) -> None:
        self.write(b"".join(pieces))

    def write_eof(self) -> None:
        self.end = self.end or "ended"

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.gone

    def close(self) -> None:
        self._close("closed")

    def abort(self) -> None:
        self._close("aborted")

    def _close(self, how: str) -> None:
        if not self.gone:
            self.end = how
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def setsockopt(self, *_option: object) -> None:
        pass

    def get_extra_info(self, name: str, default: object = None) -> object:
        return {"sockname": ("127.0.0.1", 8080), "socket": self}.get(name, default)


class Upstream(Wire):
    """The upstream's end: says what the script has once a request is whole, or with `early` its head."""

    def __init__(self, script: Script, *, early: bool) -> None:
        super().__init__()
        self._script = script
        self._early = early
        self._asked = 0  # bytes that were answered already
        self._task: asyncio.Task[None] | None = None
        self._switched = False

    def write(self, data: bytes) -> None:
        super().write(data)
        asked = self.written[self._asked :]
        if not self._switched and (is_whole(asked) or self._early):
            self._asked = len(self.written)
            self._switched = b"\r\nUpgrade: " in asked
            self._task = asyncio.get_running_loop().create_task(self._say(self._script(asked)))

    async def _say(self, pieces: Sequence[bytes | None]) -> None:
        for piece in pieces:
            while not self.reading and not self.gone:
                await asyncio.sleep(0)
            if self.gone:
                return
            if piece is CLOSE:
                self.close()
            elif piece == b"":  # a pause
                await settle(8)
            else:
                self.protocol.data_received(piece)


class Dialer:
    """Opens connections to made-up upstreams."""

    origin = Origin("up.example", 9000)
    place = ORIGIN
    proxy = None
    forwards = False

    def hint(self, more: str) -> str:
        return more

    def __init__(self, script: Script, *, plain: bool, early: bool) -> None:
        self.opened: list[Upstream] = []
        self._script = script
        self._plain = plain
        self._early = early
        self.replies_read = 0

    async def dial(self, factory: Callable[[], Any]) -> Any:
        await asyncio.sleep(0)
        connection, wire = factory(), Upstream(self._script, early=self._early)
        wire.protocol = connection
        reads = connection._read_plainly

        def read(reply: Any, data: bytes) -> bytes:
            if not self._plain:
                return data
            rest: bytes = reads(reply, data)
            self.replies_read += reply.plain is not None
            return rest

        connection._read_plainly = read
        connection.is_readable = lambda: wire.gone
        connection.connection_made(wire)
        self.opened.append(wire)
        return connection


class World:
    """A proxy between two ends. Make it while a loop runs."""

    def __init__(
        self,
        settings: Settings,
        script: Script,
        *,
        heads: bool = True,
        replies: bool = True,
        early: bool = False,
    ) -> None:
        self.dialer = Dialer(script, plain=replies, early=early)
        self.records: list[Any] = []
        self.heads_read = 0  # plainly,
        self.counters = Counters()
        self.handler = ProxyHandler(self._site(settings), self.counters, [self._note])
        reads = self.handler.reader.read
        _judged[id(self.handler.site)] = 0

        def read(data: bytes) -> Any:
            head = reads(data) if heads else None
            self.heads_read += head is not None
            return head

        self.handler.reader.read = read  # type: ignore[method-assign]
        self.server = ProxyServer(
            self.handler, limit=9, keepalive=75, header_bytes=settings.header_bytes, header_seconds=10
        )

    @property
    def judged(self) -> int:
        """How many requests were judged by what was worked out of their sections."""
        return _judged[id(self.handler.site)]

    def _note(self, record: Any) -> None:
        self.records.append(
            (
                record.route,
                record.method,
                record.path,
                record.status,
                record.sent,
                record.retried,
                record.cause,
            )
        )

    def _site(self, settings: Settings) -> Any:
        guard = Guard(
            hosts=["own.example"],
            origins=settings.origins,
            access_header=settings.key_header if settings.key else "",
            access_keys=[KEY] if settings.key else [],
        )
        return SimpleNamespace(
            guard=guard,
            routes=RouteTable(
                [
                    self._route(settings, "up", "/up"),
                    self._route(settings, "deep", "/up/deep"),
                    self._route(settings, "own", "/", host="own.example"),
                ]
            ),
            header_bytes=settings.header_bytes,
            body_bytes=settings.body_bytes,
        )

    def _route(self, settings: Settings, name: str, path: str, host: str | None = None) -> Route:
        strip = path if settings.strip and path != "/" else ""
        pool = Pool(self.dialer, limit=9, connect_seconds=9)  # type: ignore[arg-type]
        credential = None
        if settings.credential is not None:
            credential = Credential(
                CachedTokens(
                    *(Token(f"t0k3n-{number}") for number in range(1, 20)), current=Token("t0k3n-0")
                ),
                injection=header_injection(settings.credential, "Bearer"),
                statuses=frozenset({401}),
                idempotent_only=False,
                cooldown=9,
            )
        remove = [*settings.remove, *([settings.key_header] if settings.key else [])]
        return Route(
            name=name,
            host=host,
            path=path,
            strip=strip,
            base=settings.base,
            sender=Sender(pool, response_seconds=9, idle_seconds=9),
            request_headers=RequestHeaders(
                credentials=[settings.credential] if settings.credential else [],
                host=None if settings.preserve_host else Dialer.origin.authority,
                set_pairs=settings.set_pairs,
                remove=remove,
            ),
            response_headers=ResponseHeaders(
                set_pairs=settings.response_set,
                remove=settings.response_remove,
                rewriting=Rewriting(
                    ORIGIN,
                    base=settings.base,
                    path=path,
                    strip=strip,
                    preserve_host=settings.preserve_host,
                )
                if settings.rewrite
                else None,
            ),
            credential=credential,
            incoming=settings.incoming,
            allow=Allow(methods=settings.methods, paths=settings.paths)
            if settings.methods is not None or settings.paths is not None
            else None,
            keep_body=settings.keep_body,
            idle_seconds=9,
            placeholders=Placeholders(OWN if credential is not None else None, {OWN: "up", OTHERS: "other"}),
            stand_in=StandIn([LOGIN], mark=OWN) if credential is not None else None,
            token_endpoints=TokenEndpoints(ORIGIN, [f"{ORIGIN}/v2/token"]),
        )

    async def hear(self, pieces: Sequence[bytes]) -> Outcome:
        """Have a client say `pieces`, b"" being a pause; return what has come of it and of those before."""
        wire = Wire()
        connection: Any = self.server()
        wire.protocol = connection
        connection.connection_made(wire)
        for piece in pieces:
            if not wire.reading:
                await settle(400)
            if wire.gone or not wire.reading:
                break
            if piece:
                connection.data_received(piece)
            else:
                await settle(400)
        await settle(400)
        end = wire.end
        wire.close()
        await settle(400)
        opened = self.dialer.opened
        return Outcome(
            without_ids(wire.written),
            end,
            [each.written for each in opened],
            [each.end for each in opened],
            list(self.records),
            dict(self.counters.refused),
        )

    async def close(self) -> None:
        """Close what is open to the upstream."""
        for each in self.dialer.opened:
            each.close()
        await settle(400)


def without_ids(answers: bytes) -> bytes:
    """Return answers without the ids of the requests that were refused: no two have the same."""
    return re.sub(rb'"id": "[0-9a-f]{22}"', b'"id": "-"', answers)


def is_whole(request: bytes) -> bool:
    """Tell whether `request`, as we send them, is all there."""
    head, end, body = request.partition(EMPTY_LINE)
    if not end:
        return False
    if b"\r\nTransfer-Encoding: chunked" in head:
        return body.endswith(b"0\r\n\r\n")
    for line in head.split(b"\r\n"):
        if line[:15].lower() == b"content-length:":
            return len(body) >= int(line[15:])
    return True
