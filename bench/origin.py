"""The origin of what nginx does not do: it reads bodies, sends events, and takes tokens that expire.

    POST /      → 200, a small answer, once the whole body has come
    GET /events → server-sent events, one every `EVENT_SECONDS`, each with the time at which it was sent
    POST /token → a token that is good for `TOKEN_SECONDS`, after `TOKEN_DELAY`; then it is answered 401
    GET /count  → how many tokens were given out

It trusts its clients to be proxies in good order: this is no server to learn from.
"""

import asyncio
import re
import sys
import time
from typing import cast

import uvloop

AUTHORIZATION, EXPIRING = sys.argv[2].encode(), sys.argv[3:] == ["expiring"]
EVENT_SECONDS = 0.02
TOKEN_SECONDS = 1.0
TOKEN_DELAY = 0.05  # as a token endpoint elsewhere takes
HEAD = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
ANSWER = HEAD % (b"200 OK", 150) + b'{"items":[' + b" " * 138 + b"]}"
REFUSAL = HEAD % (b"401 Unauthorized", 0)
EVENTS = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
TOKEN = re.compile(rb"\r\nauthorization: *bearer ([\d.]+)\r\n", re.IGNORECASE)
tokens_given = 0


class Origin(asyncio.Protocol):
    """One connection: a request at a time, answered when its body is whole."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.head = b""
        self.left = 0  # bytes of the body still to come
        self.until_last_chunk = False
        self.ticking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, _error: Exception | None) -> None:
        if self.ticking is not None:
            self.ticking.cancel()

    def data_received(self, data: bytes) -> None:
        if self.left:
            self.left -= len(data)
        elif not self.until_last_chunk:
            self.head += data
            end = self.head.find(b"\r\n\r\n") + 4
            if end < 4:
                return
            self.head, data = self.head[:end], self.head[end:]
            length = LENGTH.search(self.head)
            self.left = int(length[1]) - len(data) if length else 0
            self.until_last_chunk = CHUNKED.search(self.head) is not None
        if self.until_last_chunk:
            self.until_last_chunk = not data.endswith(b"0\r\n\r\n")
        if not self.left and not self.until_last_chunk:
            head, self.head = self.head, b""
            self.answer(head)

    def answer(self, head: bytes) -> None:
        if head.startswith(b"POST /token"):
            asyncio.get_running_loop().call_later(TOKEN_DELAY, self.give_token)
        elif head.startswith(b"GET /count"):
            body = b"%d" % tokens_given
            self.transport.write(HEAD % (b"200 OK", len(body)) + body)
        elif not is_authorized(head):
            self.transport.write(REFUSAL)
        elif head.startswith(b"GET /events"):
            self.transport.write(EVENTS)
            self.tick()
        else:
            self.transport.write(ANSWER)

    def give_token(self) -> None:
        global tokens_given  # noqa: PLW0603 - it is one program
        tokens_given += 1
        token = b'{"access_token":"%.6f","token_type":"Bearer","expires_in":%d}' % (
            time.time(),
            TOKEN_SECONDS,
        )
        self.transport.write(HEAD % (b"200 OK", len(token)) + token)

    def tick(self) -> None:
        event = b"event: tick\ndata: %d\ndata: %s\n\n" % (time.monotonic_ns(), b"." * 64)
        self.transport.write(b"%x\r\n%s\r\n" % (len(event), event))
        self.ticking = asyncio.get_running_loop().call_later(EVENT_SECONDS, self.tick)


def is_authorized(head: bytes) -> bool:
    if not EXPIRING:
        return AUTHORIZATION in head
    token = TOKEN.search(head)
    return token is not None and time.time() < float(token[1]) + TOKEN_SECONDS


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(
        Origin, "127.0.0.1", int(sys.argv[1]), backlog=1024
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve())
