"""The fault matrix: whatever happens on the way, a client gets the right thing or sees that it did not.

    client ──▶ authproxy ──▶ FaultyLink ──▶ Origin, or a WebSocket server
    client ──▶ FaultyLink ──▶ authproxy ──▶ the same, for the faults of clients

The matrix is played once, by one process: a fault at a time, with all kinds of traffic at once. Each test
then looks at one cell, or at what the process was left with. How a cell ends is one of a few words; `ENDS`
says which word it has to be. All that breaks off is played again in the test's own loop, where tasks show.
"""

import asyncio
import contextlib
import itertools
import json
import random
import socket
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import pytest
from aiohttp import web
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from authproxy.app.application import App
from authproxy.app.listeners import open_listeners
from authproxy.app.tls import tls_contexts
from authproxy.config.read import parse
from tests.support.aiohttp_server import served
from tests.support.async_command import running_proxy
from tests.support.descriptors import opened
from tests.support.faulty_link import BlackHole, Fault, FaultyLink, Latency, Reset, Slow, Truncate

from .test_metrics import scraped
from .test_streams import memory

GUARD = 20.0  # seconds until what hangs has failed; never a measure of speed
PIECE = 64 << 10
SHORT = {"connect": "2s", "response": "2s", "idle": "2s"}  # so that black holes end soon
PATIENT = {"connect": "60s", "response": "60s", "idle": "60s"}  # so that no prompt end is due to them
FAREWELL = 2.5  # seconds: a little longer than the proxy reads on after an end
PROMPTLY = 1.0  # seconds in which a client that goes away takes its upstream request along

Result = TypeVar("Result")

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads /proc")


# ── what goes over the wire ──────────────────────────────────────────────────────────────────────

_random = random.Random(4)
BODY = _random.randbytes(3 << 20)
EVENTS = [b"id: %d\ndata: %b\n\n" % (n, _random.randbytes(500).hex().encode()) for n in range(300)]
MESSAGES = [_random.randbytes(32 << 10) for _ in range(32)]
LAST_CHUNK = b"0\r\n\r\n"


def chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def pieces(body: bytes) -> list[bytes]:
    return [body[start : start + PIECE] for start in range(0, len(body), PIECE)]


def head(*lines: str) -> bytes:
    return "\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""]).encode()


def answer_to_upload(body: bytes) -> list[bytes]:
    return [head("Content-Length: 64"), sha256(body).hexdigest().encode()]


ANSWERS = {
    "length": [head(f"Content-Length: {len(BODY)}"), *pieces(BODY)],
    "chunks": [head("Transfer-Encoding: chunked"), *map(chunk, pieces(BODY)), LAST_CHUNK],
    "until-close": [head(), *pieces(BODY)],
    "events": [
        head("Content-Type: text/event-stream", "Transfer-Encoding: chunked"),
        *map(chunk, EVENTS),
        LAST_CHUNK,
    ],
}


class Origin:
    """Answers GETs from `ANSWERS`, by the last segment of their path, and POSTs with their body's SHA-256.

    `/…/endless` and `/…/endless-events` never end. A connection is good for one request. `arrived` counts
    them by path; `gone[path]` is set when one has ended, in whatever way.
    """

    def __init__(self) -> None:
        self.arrived: Counter[str] = Counter()
        self.gone: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = ""
        try:
            raw = await reader.readuntil(b"\r\n\r\n")
            method, path, _ = raw.decode("latin-1").split(" ", 2)
            self.arrived[path] += 1
            name = path.rpartition("/")[2]
            if method == "POST":
                name, answer = method, answer_to_upload(await _request_body(reader, raw.lower()))
            else:
                answer = ANSWERS.get(name) or _endless(EVENTS if "events" in name else MESSAGES)
            for piece in answer:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.001 if "events" in name else 0)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.gone[path].set()
            writer.close()


async def _request_body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    if b"\r\ntransfer-encoding: chunked\r\n" not in head:
        return await reader.readexactly(int(head.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0]))
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)
    return body


def _endless(said: list[bytes]) -> Iterator[bytes]:
    yield head("Transfer-Encoding: chunked")
    yield from map(chunk, itertools.cycle(said))


class Speaker:
    """A WebSocket server that echoes; on `/…/endless` it talks without listening. `gone` is as above."""

    def __init__(self) -> None:
        self.gone: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def __call__(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        path = connection.request.path
        with contextlib.suppress(ConnectionClosed):
            while path.endswith("/endless"):
                await connection.send(MESSAGES[0])
            async for message in connection:
                await connection.send(message)
        await connection.wait_closed()
        self.gone[path].set()


# ── how it ends ──────────────────────────────────────────────────────────────────────────────────

RIGHT = "right"
BROKEN_OFF = "broken off"  # and what came until then was right
LOOKS_WHOLE = "too little, and it looks whole"
BAD_REPLY = "502 http_protocol_error"
LATE = "504 http_response_timeout"


@dataclass(slots=True)
class Answer:
    """What a client got. `whole` says whether the body has its end, by its own framing."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = False


def read_answer(raw: bytes, *, ended_well: bool) -> Answer:
    """Take apart all that came on a connection until its end: a reset, unless it `ended_well`."""
    top, found, rest = raw.partition(b"\r\n\r\n")
    if not found:
        return Answer()
    start, *lines = top.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    answer = Answer(int(start.split(" ")[1]), headers)
    if headers.get("transfer-encoding") == "chunked":
        answer.body, answer.whole = _joined(rest)
    elif "content-length" in headers:
        answer.body, answer.whole = rest, len(rest) == int(headers["content-length"])
    else:
        answer.body, answer.whole = rest, ended_well
    return answer


def _joined(raw: bytes) -> tuple[bytes, bool]:
    """Return what the chunks in `raw` hold, and whether the last chunk is there, and is the last."""
    body, at = [], 0
    while (end := raw.find(b"\r\n", at)) >= 0:
        size, start = int(raw[at:end], 16), end + 2
        if size == 0:
            return b"".join(body), raw[at:] == LAST_CHUNK
        body.append(raw[start : start + size])
        at = start + size + 2
    return b"".join(body), False


def refused(status: int, headers: Mapping[str, str]) -> str:
    """Name an answer of the proxy's own by its status and the error of its `Proxy-Status`."""
    assert headers["content-type"] == "application/problem+json"
    return f"{status} {headers['proxy-status'].removeprefix('authproxy; error=').partition(';')[0]}"


def how_it_ended(answer: Answer, right: bytes) -> str:
    if not answer.status:
        return "no answer"
    if answer.status != 200:
        return refused(answer.status, answer.headers) if answer.whole else "half an error"
    if not right.startswith(answer.body):
        return "wrong bytes"
    if not answer.whole:
        return BROKEN_OFF
    return RIGHT if sha256(answer.body).digest() == sha256(right).digest() else LOOKS_WHOLE


PLAIN: dict[str, Any] = {
    "compression": None,
    "ping_interval": None,  # a ping would end a black hole
    "proxy": None,  # the environment's
    "close_timeout": 1,
}

# ── the clients ──────────────────────────────────────────────────────────────────────────────────


async def ask(port: int, start: str, *lines: str, body: Iterable[bytes] = ()) -> Answer:
    """Send a request, and listen meanwhile, until the connection ends."""
    loop = asyncio.get_running_loop()
    request = "\r\n".join([start, "Host: localhost", "Connection: close", *lines, "", ""]).encode()

    async def send() -> None:
        with contextlib.suppress(ConnectionError):
            for piece in (request, *body):
                await loop.sock_sendall(sock, piece)

    got, ended_well = bytearray(), True
    with socket.socket() as sock:
        sock.settimeout(0)
        await loop.sock_connect(sock, ("127.0.0.1", port))
        sending = asyncio.create_task(send())
        try:
            while piece := await loop.sock_recv(sock, PIECE):
                got += piece
        except ConnectionError:
            ended_well = False
        finally:
            sending.cancel()
            await asyncio.wait([sending])
    return read_answer(bytes(got), ended_well=ended_well)


def download(name: str, *, version: str = "1.1") -> "Play":
    right = b"".join(EVENTS) if name == "events" else BODY

    async def play(port: int, path: str) -> str:
        return how_it_ended(await ask(port, f"GET {path}/{name} HTTP/{version}"), right)

    return play


async def upload(port: int, path: str) -> str:
    length = f"Content-Length: {len(BODY)}"
    answer = await ask(port, f"POST {path}/upload HTTP/1.1", length, body=pieces(BODY))
    return how_it_ended(answer, answer_to_upload(BODY)[1])


async def upload_in_chunks(port: int, path: str) -> str:
    body = [*map(chunk, pieces(BODY)), LAST_CHUNK]
    answer = await ask(port, f"POST {path}/upload HTTP/1.1", "Transfer-Encoding: chunked", body=body)
    return how_it_ended(answer, answer_to_upload(BODY)[1])


async def talk(port: int, path: str) -> str:
    """Send every message over a WebSocket while the echoes come back."""
    echoes: list[str | bytes] = []

    async def send() -> None:
        with contextlib.suppress(ConnectionClosed):
            for message in MESSAGES:
                await client.send(message)

    url = f"ws://127.0.0.1:{port}{path}"
    try:
        async with connect(url, **PLAIN) as client:
            sending = asyncio.create_task(send())
            try:
                while len(echoes) < len(MESSAGES):
                    echoes.append(await client.recv())
            finally:
                sending.cancel()
                await asyncio.wait([sending])
    except InvalidStatus as error:
        headers = {name.lower(): value for name, value in error.response.headers.raw_items()}
        return refused(error.response.status_code, headers)
    except ConnectionClosed as closed:
        if echoes != MESSAGES[: len(echoes)]:
            return "wrong bytes"
        return BROKEN_OFF if closed.rcvd is None else LOOKS_WHOLE
    return RIGHT if echoes == MESSAGES and client.close_code == 1000 else "wrong bytes"


# ── the matrix ───────────────────────────────────────────────────────────────────────────────────

Play = Callable[[int, str], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Traffic:
    """A kind of traffic, and where a fault hits the answer's body, and the request's. All in bytes."""

    play: Play
    size: int
    in_body: int
    in_request: int | None = None


def _downloading(name: str, *, version: str = "1.1") -> Traffic:
    size = sum(map(len, ANSWERS[name]))
    return Traffic(download(name, version=version), size, in_body=size // 2)


_IN_DIGEST = len(answer_to_upload(b"")[0]) + 20
TRAFFIC = {
    "download": _downloading("length"),
    "download in chunks": _downloading("chunks"),
    "download until close": _downloading("until-close"),
    "download over HTTP 1.0": _downloading("chunks", version="1.0"),
    "upload": Traffic(upload, len(BODY), in_body=_IN_DIGEST, in_request=len(BODY) // 2),
    "upload in chunks": Traffic(upload_in_chunks, len(BODY), in_body=_IN_DIGEST, in_request=len(BODY) // 2),
    "events": _downloading("events"),
    "websocket": Traffic(talk, 1 << 20, in_body=1 << 19, in_request=1 << 19),
}
UPLOADS = [name for name in TRAFFIC if name.startswith("upload")]
TAKES = 3.0  # seconds, by a slow link: longer than any of the deadlines
IN_HEAD = 12  # bytes: HTTP/1.1 200

FAULTS: dict[str, Callable[[Traffic], Fault]] = {
    "latency": lambda _: Latency(0.01),
    "slow": lambda traffic: Slow(traffic.size / TAKES),
    "reset in the head": lambda _: Reset(at=IN_HEAD),
    "reset in the body": lambda traffic: Reset(at=traffic.in_body),
    "truncate in the head": lambda _: Truncate(at=IN_HEAD),
    "truncate in the body": lambda traffic: Truncate(at=traffic.in_body),
    "black hole before the answer": lambda _: BlackHole(at=0),
    "black hole in the body": lambda traffic: BlackHole(at=traffic.in_body),
}
# For what has a request that is worth breaking off:
REQUEST_FAULTS: dict[str, Callable[[Traffic], Fault]] = {
    "reset in the request": lambda traffic: Reset(at=traffic.in_request or 0, of="request"),
    "truncate in the request": lambda traffic: Truncate(at=traffic.in_request or 0, of="request"),
    "black hole in the request": lambda traffic: BlackHole(at=traffic.in_request or 0, of="request"),
}

ENDS = {
    "latency": RIGHT,
    "slow": RIGHT,
    "reset in the head": BAD_REPLY,
    "reset in the body": BROKEN_OFF,
    "truncate in the head": BAD_REPLY,
    "truncate in the body": BROKEN_OFF,
    "black hole before the answer": LATE,
    "black hole in the body": BROKEN_OFF,
    "reset in the request": BAD_REPLY,
    "truncate in the request": BAD_REPLY,
    "black hole in the request": LATE,
}
OTHER_ENDS = {
    # Nobody can tell: the end of the connection is the end of that body (RFC 9112 §6.3).
    ("truncate in the body", "download until close"): LOOKS_WHOLE,
    # Here the handshake is answered long before.
    **{(fault, "websocket"): BROKEN_OFF for fault in REQUEST_FAULTS},
}


@dataclass(frozen=True, slots=True)
class Cell:
    fault: str
    kind: str

    def __str__(self) -> str:
        return f"{self.fault} - {self.kind}"

    @property
    def route(self) -> str:
        return str(self).replace(" ", "-").replace(".", "").lower()

    @property
    def traffic(self) -> Traffic:
        return TRAFFIC[self.kind]

    @property
    def link_fault(self) -> Fault | None:
        make = FAULTS.get(self.fault) or REQUEST_FAULTS.get(self.fault)
        return make(self.traffic) if make is not None else None

    @property
    def end(self) -> str:
        return OTHER_ENDS.get((self.fault, self.kind)) or ENDS[self.fault]


HEALTHY = [Cell("no fault", kind) for kind in TRAFFIC]
MATRIX = [Cell(fault, kind) for fault in FAULTS for kind in TRAFFIC]
MATRIX += [Cell(fault, kind) for fault in REQUEST_FAULTS for kind in TRAFFIC if TRAFFIC[kind].in_request]


@dataclass(slots=True)
class World:
    """What stands behind the proxy, and a configuration with a route for each cell."""

    origin: Origin
    speaker: Speaker
    ports: dict[str, int]
    token_requests: list[None]
    links: AsyncExitStack
    config: dict[str, Any]

    async def unlink(self) -> None:
        """Close every link, and with it the pool's idle connections."""
        await self.links.aclose()


@asynccontextmanager
async def world(cells: Iterable[Cell] = ()) -> AsyncIterator[World]:
    origin, speaker = Origin(), Speaker()
    token_requests: list[None] = []

    async def issue(_request: web.Request) -> web.Response:
        token_requests.append(None)
        response = web.json_response({"access_token": "t", "token_type": "Bearer", "expires_in": 3600})
        response.force_close()
        return response

    async with (
        served(web.post("/token", issue)) as tokens,
        await asyncio.start_server(origin, "127.0.0.1", 0) as server,
        serve(speaker, "127.0.0.1", 0, compression=None, ping_interval=None) as speaking,
        AsyncExitStack() as links,
    ):
        ports = {
            "http": server.sockets[0].getsockname()[1],
            "websocket": next(iter(speaking.sockets)).getsockname()[1],
        }
        auth = {"grant": "client_credentials", "token_url": f"{tokens}/token"}
        auth |= {"client_id": "c", "client_secret": "s"}
        routes = []
        for cell in cells:
            port = ports["websocket" if cell.kind == "websocket" else "http"]
            if cell.link_fault is not None:
                link = await links.enter_async_context(FaultyLink(port, cell.link_fault))
                port = link.port
            routes.append(route(cell.route, port, timeouts=SHORT))
        config = {"defaults": {"auth": auth, "strip_path": False}, "routes": routes}
        try:
            yield World(origin, speaker, ports, token_requests, links, config)
        finally:
            for connection in speaking.connections:
                connection.transport.abort()  # one that is stuck would not say goodbye


def route(name: str, port: int, *, timeouts: dict[str, str]) -> dict[str, Any]:
    upstream = f"http://127.0.0.1:{port}"
    return {"name": name, "path": f"/{name}", "upstream": upstream, "timeouts": timeouts}


async def play(cell: Cell, port: int) -> str:
    try:
        async with asyncio.timeout(GUARD):
            return await cell.traffic.play(port, f"/{cell.route}")
    except TimeoutError:
        return "hung"
    except Exception as error:  # noqa: BLE001 - one cell must not take the others along
        return f"{type(error).__name__}: {error}"


async def play_all(cells: Iterable[Cell], port: int) -> dict[Cell, str]:
    """Play the cells, a fault at a time."""
    by_fault: dict[str, list[Cell]] = {}
    for cell in cells:
        by_fault.setdefault(cell.fault, []).append(cell)
    ends: dict[Cell, str] = {}
    for row in by_fault.values():
        ends |= zip(row, await asyncio.gather(*(play(cell, port) for cell in row)), strict=True)
    return ends


# ── what a process holds ─────────────────────────────────────────────────────────────────────────


def descriptors(pid: int | str = "self") -> Counter[str]:
    """Count the open descriptors of a process by their kind."""
    return Counter(each.partition(":[")[0] for each in opened(pid))


def threads(pid: int | str = "self") -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


async def settled(look: Callable[[], object], wanted: object) -> Any:
    """Return what `look` sees once it is `wanted`, or what it still sees at the end of patience."""
    deadline = time.monotonic() + GUARD
    while (held := look()) != wanted and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    return held


async def steady(look: Callable[[], object]) -> Any:
    """Return what `look` sees once that has not changed for a while."""
    last, since = look(), time.monotonic()
    while time.monotonic() - since < FAREWELL:
        await asyncio.sleep(0.05)
        if (held := look()) != last:
            last, since = held, time.monotonic()
    return last


def bounded(work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run `work` in a loop of its own, to its end or to the end of patience."""

    async def run() -> Result:
        async with asyncio.timeout(6 * GUARD):
            return await work()

    return asyncio.run(run())


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


# ── the link itself ──────────────────────────────────────────────────────────────────────────────

AT = 100_000  # bytes


class Peers:
    """A client and a server, the link between them; each sends `BODY`, ends its half, and listens."""

    def __init__(self) -> None:
        self.got = {"request": bytearray(), "answer": bytearray()}
        self.ended = {"request": "", "answer": ""}  # how that direction ended: by its end, or a reset
        self.sent = dict.fromkeys(self.got, 0)

    async def play(self, fault: Fault | None, seconds: float = GUARD) -> "Peers":
        """Let them talk to the end, or for `seconds`."""
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(0)
            async with FaultyLink(listener.getsockname()[1], fault) as link:
                client = socket.create_connection(("127.0.0.1", link.port))
                server, _ = await loop.sock_accept(listener)
                with client, server, contextlib.suppress(TimeoutError):
                    client.settimeout(0)
                    async with asyncio.timeout(seconds):
                        await asyncio.gather(
                            self._send("request", client), self._listen("answer", client),
                            self._send("answer", server), self._listen("request", server),
                        )  # fmt: skip
        return self

    async def _send(self, direction: str, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            for piece in pieces(BODY):
                await asyncio.get_running_loop().sock_sendall(sock, piece)
                self.sent[direction] += len(piece)
            sock.shutdown(socket.SHUT_WR)

    async def _listen(self, direction: str, sock: socket.socket) -> None:
        try:
            while piece := await asyncio.get_running_loop().sock_recv(sock, PIECE):
                self.got[direction] += piece
            self.ended[direction] = "end"
        except ConnectionError:
            self.ended[direction] = "reset"


async def test_a_link_without_a_fault_is_faithful() -> None:
    peers = await Peers().play(None)
    assert peers.got == {"request": BODY, "answer": BODY}
    assert peers.ended == {"request": "end", "answer": "end"}


@pytest.mark.parametrize(
    ("fault", "seconds"), [(Latency(0.02), 0.02 * len(pieces(BODY))), (Slow(len(BODY)), 1.0)], ids=repr
)
async def test_a_link_holds_back_what_arrives_whole(fault: Fault, seconds: float) -> None:
    since = time.monotonic()
    peers = await Peers().play(fault)
    assert time.monotonic() - since >= seconds
    assert peers.got == {"request": BODY, "answer": BODY}
    assert peers.ended == {"request": "end", "answer": "end"}


@pytest.mark.parametrize("direction", ["request", "answer"])
@pytest.mark.parametrize(("make", "end"), [(Reset, "reset"), (Truncate, "end")])
async def test_a_link_breaks_off_where_it_says(make: Callable[..., Fault], end: str, direction: str) -> None:
    peers = await Peers().play(make(AT, direction))
    assert peers.got[direction] == BODY[:AT]
    assert peers.ended == {"request": end, "answer": end}


@pytest.mark.parametrize("direction", ["request", "answer"])
async def test_a_black_hole_passes_so_much_then_takes_nothing_and_stays_open(direction: str) -> None:
    peers = await Peers().play(BlackHole(AT, direction), seconds=1)
    assert peers.got[direction] == BODY[:AT]
    assert peers.ended == {"request": "", "answer": ""}
    assert max(peers.sent.values()) < len(BODY), "the rest is still with who sends it"


async def test_a_black_hole_at_the_first_byte_takes_nothing_of_the_other_direction_either() -> None:
    peers = await Peers().play(BlackHole(0), seconds=0.3)
    assert peers.got == {"request": b"", "answer": b""}


async def test_a_link_closes_all_that_it_opened() -> None:
    tasks, held = asyncio.all_tasks(), descriptors()
    for fault in (None, Latency(1), Reset(AT), Truncate(AT), BlackHole(AT)):
        await Peers().play(fault, seconds=0.2)
        assert asyncio.all_tasks() == tasks
        assert descriptors() == held


# ── the matrix, before the installed command ─────────────────────────────────────────────────────


@dataclass(slots=True)
class Played:
    """How each cell ended, and what the process held before and after."""

    ends: dict[Cell, str]
    healthy: list[dict[Cell, str]]
    arrived: Counter[str]
    token_requests: int
    descriptors: tuple[Counter[str], Counter[str]]
    threads: tuple[int, int]
    memory: tuple[int, int]
    connections: dict[tuple[str, ...], float]
    log: str


async def _play_the_matrix() -> Played:
    async with (
        world([*HEALTHY, *MATRIX]) as around,
        running_proxy(around.config) as proxy,
    ):
        admin, port = proxy.admin_url, port_of(proxy.url)
        first = await play_all(HEALTHY, port)
        await scraped(admin)
        before = await steady(lambda: descriptors(proxy.pid)), threads(proxy.pid), memory(proxy.pid, "VmRSS")
        ends = await play_all(MATRIX, port)
        await around.unlink()
        after = (
            await settled(lambda: descriptors(proxy.pid), before[0]),
            threads(proxy.pid),
            memory(proxy.pid, "VmRSS"),
        )
        connections = {
            key[1:]: number
            for key, number in (await scraped(admin)).items()
            if key[0] == "authproxy_upstream_connections"
        }
        last = await play_all(HEALTHY, port)
        assert await proxy.stop() == 0
        return Played(
            ends,
            [first, last],
            around.origin.arrived,
            len(around.token_requests),
            *zip(before, after, strict=True),
            connections,
            proxy.log(),
        )


@pytest.fixture(scope="module")
def played() -> Played:
    return bounded(_play_the_matrix)


@pytest.mark.parametrize("cell", MATRIX, ids=str)
def test_a_fault_is_overcome_or_seen(played: Played, cell: Cell) -> None:
    assert played.ends[cell] == cell.end


@pytest.mark.parametrize("cell", [cell for cell in MATRIX if cell.kind in UPLOADS], ids=str)
def test_an_upload_arrives_once_whatever_befalls_it(played: Played, cell: Cell) -> None:
    reaches_the_origin = cell.link_fault != BlackHole(at=0)
    assert played.arrived[f"/{cell.route}/upload"] == reaches_the_origin


def test_after_all_faults_the_descriptors_are_those_of_before(played: Played) -> None:
    before, after = played.descriptors
    assert after == before


def test_after_all_faults_the_threads_are_those_of_before(played: Played) -> None:
    before, after = played.threads
    assert after <= before


def test_after_all_faults_the_memory_has_hardly_grown(played: Played) -> None:
    before, after = played.memory
    assert after - before < 24 << 20, "the matrix moves ten times as much"


def test_after_all_faults_no_connection_is_counted_any_more(played: Played) -> None:
    routes = {cell.route for cell in MATRIX + HEALTHY}
    assert set(played.connections) == {
        (route, state) for route in routes for state in ("active", "idle", "waiting")
    }
    assert {key: number for key, number in played.connections.items() if number} == {}


def test_without_faults_everything_goes_well_before_and_after(played: Played) -> None:
    assert played.healthy == [dict.fromkeys(HEALTHY, RIGHT)] * 2


def test_the_log_tells_of_what_was_broken_off_and_of_no_fault_of_our_own(played: Played) -> None:
    assert "Traceback" not in played.log
    assert " error " not in played.log
    broken = [cell for cell in MATRIX if cell.end == BROKEN_OFF and cell.kind != "websocket"]
    for cell in broken:
        assert f"answer broken off route={cell.route} " in played.log
    assert played.token_requests == 1


# ── the same in our own loop, where nothing can hide ─────────────────────────────────────────────


async def test_broken_exchanges_leave_neither_tasks_nor_descriptors_behind() -> None:
    async with asyncio.timeout(6 * GUARD):
        await _play_in_our_own_loop()


async def _play_in_our_own_loop() -> None:
    loop, complaints = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _loop, context: complaints.append(context))
    tasks, held = asyncio.all_tasks(), descriptors()
    cells = [cell for cell in MATRIX if cell.end != RIGHT]
    async with world([*HEALTHY, *cells]) as around:
        config = parse(json.dumps({"listen": "127.0.0.1:0", "admin": False, **around.config}), "faults.yaml")
        ((_, listener),) = (listeners := open_listeners(config)).proxy
        async with App(config, tls=tls_contexts(config)) as app:
            await app.start(listeners.proxy)
            port = listener.getsockname()[1]
            assert await play_all(HEALTHY, port) == dict.fromkeys(HEALTHY, RIGHT)
            at_work, held_at_work = await steady(asyncio.all_tasks), descriptors()
            assert await play_all(cells, port) == {cell: cell.end for cell in cells}
            await around.unlink()
            assert await settled(lambda: asyncio.all_tasks() - at_work, set()) == set()
            held_at_work["socket"] -= len(cells)  # the links listened too
            assert await settled(descriptors, held_at_work) == held_at_work
            assert [each for each in app.observing.snapshot()["connections"] if each[2]] == []
            await app.drain()
    assert await settled(asyncio.all_tasks, tasks) == tasks
    assert await settled(descriptors, held) == held
    assert complaints == []


# ── the client's side ────────────────────────────────────────────────────────────────────────────


async def _upload(port: int, path: str) -> None:
    await ask(port, f"POST {path} HTTP/1.1", f"Content-Length: {len(BODY)}", body=pieces(BODY))


async def _download(port: int, path: str) -> None:
    await ask(port, f"GET {path} HTTP/1.1")


async def _talk(port: int, path: str) -> None:
    await talk(port, path)


async def _listen(port: int, path: str) -> None:
    url = f"ws://127.0.0.1:{port}{path}"
    with contextlib.suppress(ConnectionClosed):
        async with connect(url, **PLAIN) as client:
            while True:
                await client.recv()


@dataclass(frozen=True, slots=True)
class Leaving:
    """How a client leaves amid what it does at `target`, and in how many seconds the upstream has to know."""

    play: Callable[[int, str], Awaitable[None]]
    target: str
    fault: Fault
    within: float

    @property
    def route(self) -> str:
        return f"{'backoff' if self.within == PROMPTLY else 'short'}-{self.server}"

    @property
    def server(self) -> str:
        return "websocket" if self.play in {_talk, _listen} else "http"


AMID = 1 << 19  # bytes
DEEP = 2 << 20  # bytes: so many get this far only when the upstream has taken its share
LEAVING = {
    "resets amid an upload": Leaving(_upload, "upload", Reset(DEEP, "request"), PROMPTLY),
    "ends amid an upload": Leaving(_upload, "upload", Truncate(DEEP, "request"), PROMPTLY),
    "resets amid a download": Leaving(_download, "endless", Reset(AMID), PROMPTLY),
    "ends amid a download": Leaving(_download, "endless", Truncate(AMID), PROMPTLY),
    "resets amid events": Leaving(_download, "endless-events", Reset(AMID // 4), PROMPTLY),
    "resets a websocket": Leaving(_talk, "echo", Reset(AMID), PROMPTLY),
    "ends a websocket": Leaving(_talk, "echo", Truncate(AMID), PROMPTLY),
    "says no more amid an upload": Leaving(_upload, "upload", BlackHole(DEEP, "request"), GUARD),
    "reads no more amid a download": Leaving(_download, "endless", BlackHole(AMID), GUARD),
    "reads no more of a websocket": Leaving(_listen, "endless", BlackHole(AMID), GUARD),
    "says no more on a websocket": Leaving(_talk, "echo", BlackHole(AMID, "request"), GUARD),
}


@dataclass(slots=True)
class Left:
    """The seconds from a client's leaving to the end of its upstream request, and what was held then."""

    seconds: dict[str, float]
    descriptors: tuple[Counter[str], Counter[str]]
    connections: dict[tuple[str, ...], float]
    log: str


async def _leave(name: str, around: World, port: int, links: AsyncExitStack) -> float:
    leaving = LEAVING[name]
    link = await links.enter_async_context(FaultyLink(port, leaving.fault))
    path = f"/{leaving.route}/{name.replace(' ', '-')}/{leaving.target}"
    gone = (around.speaker if leaving.server == "websocket" else around.origin).gone
    client = asyncio.create_task(leaving.play(link.port, path))
    links.push_async_callback(_cancelled, client)
    try:
        async with asyncio.timeout(GUARD):
            await link.struck.wait()
            since = time.monotonic()
            await gone[path].wait()
    except TimeoutError:
        return float("inf")
    return time.monotonic() - since


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def _have_clients_leave() -> Left:
    async with world(HEALTHY) as around, AsyncExitStack() as links:
        around.config["routes"] += [
            route(f"{patience}-{server}", port, timeouts=timeouts)
            for server, port in around.ports.items()
            for patience, timeouts in (("backoff", PATIENT), ("short", SHORT))
        ]
        async with running_proxy(around.config) as proxy:
            admin, port = proxy.admin_url, port_of(proxy.url)
            await play_all(HEALTHY, port)
            await scraped(admin)
            before = await steady(lambda: descriptors(proxy.pid))
            taken = await asyncio.gather(*(_leave(name, around, port, links) for name in LEAVING))
            after = await settled(lambda: descriptors(proxy.pid), before)  # the clients are still there
            connections = {
                key[1:]: number
                for key, number in (await scraped(admin)).items()
                if key[0] == "authproxy_upstream_connections"
            }
            await links.aclose()
            assert await proxy.stop() == 0
            return Left(dict(zip(LEAVING, taken, strict=True)), (before, after), connections, proxy.log())


@pytest.fixture(scope="module")
def left() -> Left:
    return bounded(_have_clients_leave)


@pytest.mark.parametrize("name", LEAVING)
def test_a_client_that_leaves_takes_its_upstream_request_along(left: Left, name: str) -> None:
    assert left.seconds[name] < LEAVING[name].within


def test_after_clients_that_left_the_descriptors_are_those_of_before(left: Left) -> None:
    before, after = left.descriptors
    assert after == before


def test_after_clients_that_left_no_connection_is_counted_any_more(left: Left) -> None:
    assert left.connections
    assert {key: number for key, number in left.connections.items() if number} == {}
    assert "Traceback" not in left.log
