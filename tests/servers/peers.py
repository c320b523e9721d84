"""nginx and HAProxy as reverse proxies, an origin behind each, and a client that speaks to them in bytes.

    client ── one connection ──▶ proxy ──▶ origin

A `Lane` is one proxy's listener with an origin of its own: whatever arrives there came from what was last
said on that lane. The origin reads strictly and forgives nothing, so that what it records is what any server
would understand. Everything waits at most `GUARD` seconds.
"""

import asyncio
import contextlib
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.command import RunningProxy, running_proxy
from tests.support.installed import need
from tests.support.launch import GUARD
from tests.support.ports import free_port

HEADER_BYTES = 64 << 10  # what every proxy is told to take
TOKEN = "lent-by-the-proxy"


# ── the origin ───────────────────────────────────────────────────────────────────────────────────


class Unreadable(Exception):
    """What came is not a request, to somebody who forgives nothing."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as it stood on the wire; `body` is without its chunks."""

    start: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    @property
    def method(self) -> bytes:
        return self.start.partition(b" ")[0]

    @property
    def target(self) -> bytes:
        return self.start.split(b" ")[1]

    def all(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key.lower() == name]


_START = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ [\x21-\x7e\x80-\xff]+ HTTP/1\.[01]")
_LINE = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*"
    rb"([\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?|)[ \t]*"
)
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;[\t\x20-\x7e\x80-\xff]*)?")


class Reader:
    """Takes requests out of the bytes of one connection (RFC 9112)."""

    def __init__(self) -> None:
        self.held = b""

    def take(self) -> Seen | None:
        """Return the next request, None until it is all there. Raises `Unreadable`."""
        head, end, rest = self.held.partition(b"\r\n\r\n")
        if not end:
            return None
        start, *lines = head.split(b"\r\n")
        found = [_LINE.fullmatch(line) for line in lines]
        if not _START.fullmatch(start) or not all(found):
            raise Unreadable(head)
        seen = Seen(start, tuple((match[1], match[2]) for match in found if match), b"")
        lengths, encodings = seen.all(b"content-length"), seen.all(b"transfer-encoding")
        if len(lengths) + len(encodings) > 1 or len(seen.all(b"host")) > 1:
            raise Unreadable(head)
        if encodings:
            if encodings[0].lower() != b"chunked":
                raise Unreadable(head)
            body, left = self._chunks(rest)
        else:
            length = lengths[0] if lengths else b"0"
            if not re.fullmatch(rb"[0-9]{1,18}", length):
                raise Unreadable(head)
            body, left = rest[: int(length)], rest[int(length) :] if len(rest) >= int(length) else None
        if left is None:
            return None
        self.held = left
        return Seen(seen.start, seen.headers, body)

    @staticmethod
    def _chunks(data: bytes) -> tuple[bytes, bytes | None]:
        """Return the body, and what comes after its last chunk and trailers, if that is there."""
        body = b""
        while True:
            line, end, data = data.partition(b"\r\n")
            if not end:
                return body, None
            if not (match := _CHUNK.fullmatch(line)):
                raise Unreadable(line)
            if (size := int(match[1], 16)) == 0:
                return body, Reader._after_trailers(data)
            if len(data) < size + 2:
                return body, None
            if data[size : size + 2] != b"\r\n":
                raise Unreadable(line)
            body, data = body + data[:size], data[size + 2 :]

    @staticmethod
    def _after_trailers(data: bytes) -> bytes | None:
        while True:
            line, end, data = data.partition(b"\r\n")
            if not end:
                return None
            if not line:
                return data
            if not _LINE.fullmatch(line):
                raise Unreadable(line)


class Origin:
    """Records every request whose end it sees, and answers each with its number in `X-Saw`."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.unreadable: list[bytes] = []
        self.connections = 0
        self._open: set[asyncio.Transport] = set()
        self._server: asyncio.Server | None = None

    async def listen(self) -> int:
        """Start, and return the port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _OriginConnection(self), "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for transport in list(self._open):
            transport.abort()
        await self._server.wait_closed()

    def forget(self) -> None:
        self.seen, self.unreadable, self.connections = [], [], 0

    def _enter(self, transport: asyncio.Transport) -> None:
        self.connections += 1
        self._open.add(transport)

    def _leave(self, transport: asyncio.Transport) -> None:
        self._open.discard(transport)


class _OriginConnection(asyncio.Protocol):
    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._reader = Reader()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._origin._enter(transport)

    def data_received(self, data: bytes) -> None:
        self._reader.held += data
        try:
            while (seen := self._reader.take()) is not None:
                self._origin.seen.append(seen)
                number = len(self._origin.seen)
                self._transport.write(b"HTTP/1.1 200 Saw\r\nX-Saw: %d\r\nContent-Length: 0\r\n\r\n" % number)
        except Unreadable:
            self._origin.unreadable.append(self._reader.held)
            self._reader.held = b""
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._origin._leave(self._transport)


# ── the client ───────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Heard:
    """What came back on one connection, and whether the proxy ended it."""

    data: bytes = b""
    closed: bool = False

    def has_all(self, answers: int) -> bool:
        """Whether nothing more can come, when the origin gives so many `answers`; 0: nobody knows."""
        if self.closed or not answers:
            return self.closed
        return self.data.lower().count(b"\r\nx-saw: ") >= answers and self.data.endswith(b"\r\n\r\n")


class _Client(asyncio.Protocol):
    def __init__(self) -> None:
        self.heard = Heard()
        self.news = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.heard.data += data
        self.news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.heard.closed = True
        self.news.set()


async def say(url: str, pieces: Sequence[bytes], *, answers: int, quiet: float) -> Heard:
    """Send `pieces` on a connection of its own.

    Listen until the origin's `answers` are all there (0: nobody knows how many come), until the proxy
    closes, or until nothing has come for `quiet` seconds.
    """
    host, _, port = url.removeprefix("http://").rpartition(":")
    loop = asyncio.get_running_loop()
    transport, client = await loop.create_connection(_Client, host, int(port))
    transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        for piece in pieces:
            if transport.is_closing():
                break
            transport.write(piece)
            await asyncio.sleep(0)
        give_up_at = loop.time() + GUARD
        while not client.heard.has_all(answers) and loop.time() < give_up_at:
            client.news.clear()
            try:
                await asyncio.wait_for(client.news.wait(), quiet)
            except TimeoutError:
                break
        return Heard(client.heard.data, closed=client.heard.closed)
    finally:
        transport.abort()


# ── the proxies ──────────────────────────────────────────────────────────────────────────────────


@dataclass
class Lane:
    """One listener of one proxy, and the origin behind it."""

    proxy: str
    origin: Origin = field(default_factory=Origin)
    origin_port: int = 0
    url: str = ""


@contextmanager
def running_authproxy(lanes: Sequence[Lane]) -> Iterator[list[RunningProxy]]:
    """Run the installed command before each of `lanes`; yield them."""
    with contextlib.ExitStack() as stack:
        proxies = []
        for lane in lanes:
            route = {
                "name": "all",
                "upstream": f"http://127.0.0.1:{lane.origin_port}",
                "auth": {"grant": "static", "token": TOKEN},
                "preserve_host": True,
                "retry": False,
            }
            proxy = stack.enter_context(
                running_proxy(
                    {
                        "admin": False,
                        "allowed_hosts": ["*"],
                        "limits": {"header_bytes": HEADER_BYTES, "header_timeout": "60s", "drain": "1s"},
                        "routes": [route],
                    }
                )
            )
            lane.url = proxy.url
            proxies.append(proxy)
        yield proxies


@contextmanager
def running_nginx(directory: Path, lanes: Sequence[Lane]) -> Iterator[None]:
    """Run nginx before `lanes`."""
    program = _program("nginx")
    servers = ""
    for number, lane in enumerate(lanes):
        port = free_port()
        lane.url = f"http://127.0.0.1:{port}"
        servers += f"""
    upstream origin{number} {{ server 127.0.0.1:{lane.origin_port}; keepalive 16; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://origin{number};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Connection "";
            proxy_request_buffering off;
            proxy_next_upstream off;
        }}
    }}"""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "\n".join(f'    {kind}_temp_path "{directory}/nginx-{kind}";' for kind in kinds)
    config = directory / "nginx.conf"
    config.write_text(f"""daemon off;
master_process off;
pid "{directory}/nginx.pid";
error_log stderr crit;
events {{ worker_connections 512; }}
http {{
    access_log off;
{temporary}
    client_max_body_size 0;
    large_client_header_buffers 4 {HEADER_BYTES};
    underscores_in_headers on;
    ignore_invalid_headers off;
    keepalive_requests 1000000;{servers}
}}
""")
    with _running([program, "-p", str(directory), "-e", "stderr", "-c", str(config)], directory, lanes):
        yield


@contextmanager
def running_haproxy(directory: Path, lanes: Sequence[Lane]) -> Iterator[None]:
    """Run HAProxy before `lanes`."""
    program = _program("haproxy")
    ends = ""
    for number, lane in enumerate(lanes):
        port = free_port()
        lane.url = f"http://127.0.0.1:{port}"
        ends += f"""
listen lane{number}
    bind 127.0.0.1:{port}
    server origin 127.0.0.1:{lane.origin_port}
"""
    config = directory / "haproxy.cfg"
    config.write_text(f"""global
    nbthread 1
    maxconn 512
    tune.bufsize {2 * HEADER_BYTES}
    tune.http.maxhdr 1024
defaults
    mode http
    retries 0
    timeout connect {GUARD:.0f}s
    timeout client 60s
    timeout server 60s
{ends}""")
    with _running([program, "-db", "-q", "-f", str(config)], directory, lanes):
        yield


@contextmanager
def _running(command: list[str], directory: Path, lanes: Sequence[Lane]) -> Iterator[None]:
    """Run `command` to the end of the block; begin it when every lane is listened on."""
    log_file = directory / f"{Path(command[0]).name}.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        for lane in lanes:
            _wait_until_listening(lane, process, log_file)
        yield
    finally:
        process.terminate()
        try:
            process.wait(GUARD)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_listening(lane: Lane, process: "subprocess.Popen[bytes]", log_file: Path) -> None:
    host, _, port = lane.url.removeprefix("http://").rpartition(":")
    give_up_at = time.monotonic() + GUARD
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=GUARD).close()
        except OSError:
            said = log_file.read_text(errors="replace")
            assert process.poll() is None, f"{lane.proxy} ended with {process.returncode}: {said}"
            assert time.monotonic() < give_up_at, f"{lane.proxy} does not listen: {said}"
            time.sleep(0.02)
        else:
            return


def _program(name: str) -> str:
    """Return where a server is: `/usr/sbin` is not on everybody's PATH. Skips the test without one."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        need(name)
    return found or name
