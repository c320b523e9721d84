"""HTTP/1.1 as bytes on a socket: a client and servers that add nothing and hide nothing.

    Wire        a connection, read piece by piece
    Message     a request or an answer as it stood on the wire
    Upstream    a server: records every request, answers what its test tells it to
    Tokens      an upstream that is a token endpoint; API, one that lets its tokens through

An `answer` function gets the request and the wire. It returns the bytes to send, or None to have the
connection closed. Everything blocks, and gives up after `GUARD` seconds.
"""

import base64
import contextlib
import json
import secrets
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from tests.support.command import wait_until
from tests.support.launch import GUARD

PIECE = 1 << 16


class BrokenOff(Exception):
    """The other side closed before the message was complete."""


@dataclass
class Message:
    """A request or an answer: the start line, the header lines in their order, and the body."""

    start: bytes
    headers: list[tuple[bytes, bytes]]
    head: bytes = b""
    """Everything up to the empty line, and the line itself."""
    body: bytes = b""
    trailer: bytes = b""

    def all(self, name: str) -> list[str]:
        """Return the value of every header line called `name`."""
        wanted = name.lower().encode()
        return [value.decode("latin-1") for key, value in self.headers if key.lower() == wanted]

    def one(self, name: str) -> str | None:
        """Return the value of the only header line called `name`, or None."""
        values = self.all(name)
        assert len(values) < 2, f"{name} is there {len(values)} times"
        return values[0] if values else None

    @property
    def names(self) -> list[str]:
        return [name.decode("latin-1").lower() for name, _ in self.headers]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    # ── a request ────────────────────────────────────────────────────────────────────────────────

    @property
    def method(self) -> str:
        return self.start.split(b" ")[0].decode("latin-1")

    @property
    def target(self) -> str:
        return self.start.split(b" ", 1)[1].rpartition(b" ")[0].decode("latin-1")

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def basic(self) -> str:
        """What stands behind `Authorization: Basic`, decoded."""
        scheme, _, value = (self.one("Authorization") or "").partition(" ")
        assert scheme == "Basic", scheme
        return base64.b64decode(value, validate=True).decode()

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True, strict_parsing=True))

    # ── an answer ────────────────────────────────────────────────────────────────────────────────

    @property
    def status(self) -> int:
        return int(self.start.split(b" ")[1])

    @property
    def reason(self) -> str:
        return self.start.split(b" ", 2)[2].decode("latin-1")

    @property
    def proxy_error(self) -> str | None:
        """The error of `Proxy-Status`, None for an answer that is not the proxy's own, refused or not."""
        value = self.one("Proxy-Status")
        if value is None:
            return None
        name, _, rest = value.partition(";")
        assert name == "authproxy", value
        said = rest.strip().partition(";")[0]
        return said.removeprefix("error=") if said.startswith("error=") else None


class Wire:
    """A connection. Reading beyond its end raises `BrokenOff`."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(GUARD)
        self.sock = sock
        self._held = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> Self:
        self.sock.sendall(data)
        return self

    def read(self) -> bytes:
        """Return what is there, at least a byte; nothing at the end."""
        if self._held:
            held, self._held = self._held, b""
            return held
        return self.sock.recv(PIECE)

    def until(self, end: bytes) -> bytes:
        """Return everything up to and including `end`."""
        while end not in self._held:
            self._more()
        found, _, self._held = self._held.partition(end)
        return found + end

    def exactly(self, size: int) -> bytes:
        while len(self._held) < size:
            self._more()
        found, self._held = self._held[:size], self._held[size:]
        return found

    def rest(self) -> bytes:
        """Return everything up to the end of the connection."""
        parts = []
        while piece := self.read():
            parts.append(piece)
        return b"".join(parts)

    def _more(self) -> None:
        piece = self.sock.recv(PIECE)
        if not piece:
            raise BrokenOff(f"closed after {self._held[:200]!r}")
        self._held += piece

    def is_closed(self) -> bool:
        """Wait for the end; tell whether it came, and nothing more before it."""
        try:
            return self.read() == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        """Close it as a process that is killed does."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    # ── messages ─────────────────────────────────────────────────────────────────────────────────

    def head(self) -> Message:
        """Read a start line and header lines; the body stays on the wire."""
        raw = self.until(b"\r\n\r\n")
        start, *lines = raw.removesuffix(b"\r\n\r\n").split(b"\r\n")
        pairs = [line.partition(b":") for line in lines]
        return Message(start, [(name, value.strip(b" \t")) for name, _, value in pairs], raw)

    def request(self) -> Message:
        """Read a request."""
        return self.with_body(self.head())

    def answer(self, *, to_head: bool = False) -> Message:
        """Read an answer; a 1xx is one too. An answer without a length ends with the connection."""
        answer = self.head()
        if to_head or answer.status in {204, 304} or answer.status < 200:
            return answer
        if "content-length" not in answer.names and "transfer-encoding" not in answer.names:
            answer.body = self.rest()
            return answer
        return self.with_body(answer)

    def chunk(self) -> bytes:
        """Read one chunk (RFC 9112 §7.1); the last one is empty."""
        size = int(self.until(b"\r\n").partition(b";")[0], 16)
        if size == 0:
            return b""
        piece = self.exactly(size)
        assert self.exactly(2) == b"\r\n"
        return piece

    def with_body(self, message: Message) -> Message:
        """Read the body of a message whose head was read."""
        if message.one("Transfer-Encoding") == "chunked":
            assert message.one("Content-Length") is None
            while piece := self.chunk():
                message.body += piece
            while (line := self.until(b"\r\n")) != b"\r\n":
                message.trailer += line
        else:
            message.body = self.exactly(int(message.one("Content-Length") or 0))
        return message


# ── the client's side ────────────────────────────────────────────────────────────────────────────


def connect(url: str, *, tls: ssl.SSLContext | None = None, server_name: str = "localhost") -> Wire:
    """Connect to `http://HOST:PORT`, `https://HOST:PORT` (with `tls`) or `unix:/PATH`."""
    if url.startswith("unix:"):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(url.removeprefix("unix:"))
        return Wire(sock)
    parts = urlsplit(url)
    sock = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=GUARD)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Wire(tls.wrap_socket(sock, server_hostname=server_name) if tls else sock)


def listening() -> socket.socket:
    """Return a socket that listens on a free port, and waits for nobody longer than `GUARD` seconds."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(GUARD)
    return server


def request(
    method: str = "GET", target: str = "/", *lines: str, host: str = "localhost", body: bytes | None = None
) -> bytes:
    """Return a request with `lines` as its headers, besides `Host`, and the length of `body`."""
    all_lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *lines]
    if body is not None:
        all_lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(all_lines).encode("latin-1") + b"\r\n\r\n" + (body or b"")


def ask(url: str, sent: bytes, *, tls: ssl.SSLContext | None = None) -> Message:
    """Send `sent` on a connection of its own and return the answer."""
    with connect(url, tls=tls) as wire:
        wire.send(sent)
        return wire.answer(to_head=sent.startswith(b"HEAD "))


def get(url: str, target: str = "/", *lines: str, host: str = "localhost") -> Message:
    return ask(url, request("GET", target, *lines, host=host))


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + end


# ── the server's side ────────────────────────────────────────────────────────────────────────────

Answer = Callable[[Message, Wire], bytes | None]


def reply(status: int | str = 200, *lines: str, body: bytes = b"") -> bytes:
    """Return an answer with `lines` as its headers, and the length of `body`."""
    start = f"HTTP/1.1 {status}" if isinstance(status, str) else f"HTTP/1.1 {status} Said So"
    all_lines = [start, *lines, f"Content-Length: {len(body)}"]
    return "\r\n".join(all_lines).encode("latin-1") + b"\r\n\r\n" + body


def json_reply(document: object, status: int = 200, *lines: str) -> bytes:
    return reply(status, "Content-Type: application/json", *lines, body=json.dumps(document).encode())


class Upstream:
    """A server, by default on a free port. `requests` holds all that came, in order; `connections` counts."""

    def __init__(
        self, answer: Answer | None = None, *, tls: ssl.SSLContext | None = None, port: int = 0
    ) -> None:
        self.first_answer = self.answer = answer or (lambda _request, _wire: reply(body=b"fine"))
        self.requests: list[Message] = []
        self.connections = 0
        self.reads_bodies = True
        self.lock = threading.Lock()
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", port), backlog=512)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._open: set[socket.socket] = set()

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    @property
    def last(self) -> Message:
        return self.requests[-1]

    def says(self, data: bytes, *, then_close: bool = False) -> None:
        """Answer every request with `data`."""

        def answer(_request: Message, wire: Wire) -> bytes | None:
            if not then_close:
                return data
            wire.send(data)
            return None

        self.answer = answer

    def says_in_turn(self, replies: Iterable[bytes | None]) -> None:
        """Answer the requests with one of `replies` each."""
        left = iter(list(replies))
        self.answer = lambda _request, _wire: next(left)

    def wait_for(self, count: int) -> Message:
        """Wait until `count` requests have come, and return the last of these."""
        wait_until(lambda: len(self.requests) >= count, lambda: f"{len(self.requests)} of {count} came")
        return self.requests[count - 1]

    def reset(self) -> None:
        """Forget what came, and be told anew what to answer."""
        self.requests = []
        self.connections = 0
        self.answer = self.first_answer
        self.reads_bodies = True

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(GUARD)
        self._listener.close()
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join(GUARD)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.add(sock)
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        plain = sock
        try:
            sock.settimeout(GUARD)
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
            wire = Wire(sock)
            with contextlib.suppress(BrokenOff):
                self._talk(wire)
        except OSError:
            pass  # the proxy closed the connection, or the test is over
        finally:
            self._open.discard(plain)
            sock.close()

    def _talk(self, wire: Wire) -> None:
        while True:
            came = wire.head()  # while it waits for this one, its test may become another
            if self.reads_bodies:
                wire.with_body(came)
            with self.lock:
                self.requests.append(came)
            answer = self.answer(came, wire)
            if answer is None:
                return
            wire.send(answer)


@dataclass
class Issued:
    """Tokens that were handed out, and those that are good now."""

    every: list[str] = field(default_factory=list)
    good: set[str] = field(default_factory=set)

    def one_more(self) -> str:
        token = f"tok-{secrets.token_hex(12)}"
        self.every.append(token)
        self.good.add(token)
        return token


class Tokens(Upstream):
    """A token endpoint that gives a new token to whoever asks. `held` stops it until it is set."""

    def __init__(self, *, port: int = 0) -> None:
        super().__init__(self._issue, port=port)
        self.issued = Issued()
        self.more: dict[str, object] = {"expires_in": 3600}
        self.held = threading.Event()
        self.held.set()

    def _issue(self, _request: Message, _wire: Wire) -> bytes:
        assert self.held.wait(GUARD)
        with self.lock:
            token = self.issued.one_more()
        return json_reply({"access_token": token, "token_type": "bearer", **self.more})

    def revoke(self) -> None:
        """Make the API refuse every token that was handed out so far."""
        self.issued.good.clear()

    def reset(self) -> None:
        super().reset()
        self.more = {"expires_in": 3600}
        self.held.set()


class API(Upstream):
    """An upstream that answers 200 to a good token and 401 to any other."""

    def __init__(self, issued: Issued, *, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        super().__init__(self.judge, tls=tls, port=port)
        self.issued = issued

    def judge(self, came: Message, _wire: Wire) -> bytes:
        return reply(body=b"fine") if self.lets_in(came) else UNAUTHORIZED

    def lets_in(self, came: Message) -> bool:
        return (came.one("Authorization") or "").removeprefix("Bearer ") in self.issued.good


UNAUTHORIZED = reply(
    "401 Unauthorized", 'WWW-Authenticate: Bearer realm="api", error="invalid_token"', body=b"the API's own"
)
