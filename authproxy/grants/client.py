"""The HTTP client that token requests go out by: aiohttp's, and the bounds that it does not have.

    interim replies, and the head     256 KiB together, as of an upstream; an interim one is dropped at once
    the body, as it is framed         8 MiB: enough for the longest reply in the smallest chunks

aiohttp bounds a head line by line. It reads interim replies, chunk extensions and trailers for as long as the
request may take, and keeps all interim replies of one piece of data in memory.
"""

import asyncio
from functools import partial

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from aiohttp.streams import StreamReader

from authproxy.net.failures import TLS_ALERT

MAX_HEAD = 256 << 10  # bytes, interim replies included
MAX_BODY = 8 << 20  # bytes, framing included
MAX_HEADERS = MAX_HEAD >> 4  # so many short ones; the bytes above are the bound
PIECE = 8 << 10  # bytes
SWITCHED = 101


class TooLong(aiohttp.ClientError):
    """The answer is longer than that of any token endpoint."""


class SpeaksTLS(aiohttp.ClientError):
    """What came is TLS, in answer to a request over plain http."""


class BoundedHandler(ResponseHandler):
    """Reads one answer, and gives up on one that does not end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._room = MAX_HEAD
        self._answered = False

    def data_received(self, data: bytes) -> None:
        if not data:  # aiohttp to itself: unpack the next part of what came
            super().data_received(data)
        if self._room == MAX_HEAD and data.startswith(TLS_ALERT):
            self._give_up(SpeaksTLS())
            return
        while data:
            # In small pieces, as all replies that one holds are made before any is looked at.
            piece, data = data[:PIECE], data[PIECE:]
            self._room -= len(piece)
            if self._room < 0:
                self._give_up(TooLong())
                return
            super().data_received(piece)

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        interim = data[0].code < 200 and data[0].code != SWITCHED
        if interim or self._answered:
            return  # nobody here waits for a 100, nor for a second answer
        self._answered = True
        self._room += MAX_BODY
        super().feed_data(data, size)

    def _give_up(self, error: aiohttp.ClientError) -> None:
        body, self._payload = self._payload, None
        self.set_exception(error)
        if body is not None:
            body.set_exception(error)
        if self.transport is not None:
            self.transport.abort()


class BoundedConnector(aiohttp.TCPConnector):
    """Gives each request a connection of its own: aiohttp repeats one on a stale connection by itself."""

    def __init__(self) -> None:
        super().__init__(force_close=True, limit=0)
        handler: type[ResponseHandler] = BoundedHandler
        self._factory = partial(handler, loop=self._loop)


def client_session(timeout: aiohttp.ClientTimeout) -> aiohttp.ClientSession:
    """Return a client that keeps nothing from one request to the next."""
    session = aiohttp.ClientSession(
        connector=BoundedConnector(),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=timeout,
        trust_env=False,  # it would also read ~/.netrc
        max_line_size=MAX_HEAD,
        max_field_size=MAX_HEAD,
        max_headers=MAX_HEADERS,
    )
    # aiohttp repeats a GET or PUT that is not answered: a second login, with the same one-time code.
    session._retry_connection = False  # noqa: SLF001 - there is no public way; a test holds it
    return session
