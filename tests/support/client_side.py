"""One client of the proxy, its transport and its time faked: bytes in, bytes out, and no waiting."""

import asyncio
from typing import Any

from authproxy.proxy.context import Answered, Waiting
from authproxy.proxy.downstream.server import ProxyServer
from authproxy.proxy.judge import JUDGED, READ_PLAINLY
from authproxy.proxy.plain import PlainReader
from authproxy.proxy.problem import problem_response
from tests.support.clock import settle

HEADER_BYTES, HEADER_SECONDS, KEEPALIVE = 1000, 10, 75


class NoProtocol:
    """What aiohttp's parser and its streams want of a connection."""

    _reading_paused = False

    def pause_reading(self):
        pass

    def resume_reading(self, resume_parser=True):  # noqa: FBT002 - aiohttp's
        pass


class Time:
    """An event loop whose timers fire when told to, and not before."""

    def __init__(self):
        self._loop = asyncio.get_running_loop()
        self._now = 1000.0
        self.timers = []

    def time(self):
        return self._now

    def call_at(self, when, callback, *args):
        self.timers.append(asyncio.TimerHandle(when, callback, args, self._loop))
        return self.timers[-1]

    def __getattr__(self, name):
        return getattr(self._loop, name)

    def advance(self, seconds):
        """Let `seconds` go by."""
        end = self._now + seconds
        while True:
            self.timers = [each for each in self.timers if not each.cancelled()]
            due = min((each for each in self.timers if each.when() <= end), default=None)
            if due is None:
                break
            self.timers.remove(due)
            self._now = max(self._now, due.when())
            due._run()
        self._now = end


class Transport(asyncio.Transport):
    """A client's end: what it was sent, and whether it is read from.

    What is written stays in the buffer for one that is `stuck`.
    """

    def __init__(self, connection=None):
        super().__init__()
        self.connection = connection
        self.written = b""
        self.untaken = 0
        self.reading = True
        self.ended = self.closing = self.aborted = False

    def write(self, data):
        assert not self.closing
        self.written += data

    def writelines(self, pieces):
        self.write(b"".join(pieces))

    def get_write_buffer_size(self):
        return self.untaken

    def can_write_eof(self):
        return True

    def write_eof(self):
        self.ended = True

    def pause_reading(self):
        assert not self.closing
        self.reading = False

    def resume_reading(self):
        assert not self.closing
        self.reading = True

    def is_closing(self):
        return self.closing

    def close(self):
        if not self.closing:
            self.closing = True
            if self.connection is not None:
                asyncio.get_running_loop().call_soon(self.connection.connection_lost, None)

    def abort(self):
        self.aborted = True
        self.close()


class Answerer:
    """Answers what it is asked with `<method target>`: `at once`, from a `callback`, or in a `task`."""

    def __init__(self, way="at once", *, reads_plainly=True):
        judged = {name.lower() for name in JUDGED} - READ_PLAINLY
        self.reader = PlainReader(judged, limit=HEADER_BYTES if reads_plainly else -1)
        self.way = way
        self.requests = []
        self.refusals = []
        self.began = []
        self.lost_ones = []
        self.cancelled = []
        self.may_finish = asyncio.Event()

    @property
    def asked(self):
        return [f"{request.method} {request.target}" for request in self.requests]

    def start(self, request):
        self.requests.append(request)
        if self.way == "at once":
            return Answered(self.write(request))
        return request if self.way == "callback" else Waiting(request)

    def write(self, request):
        connection = request.connection
        keep_alive = request.keep_alive and not connection.draining
        connection.transport.write(f"<{request.method} {request.target}>".encode())
        if not keep_alive:
            connection.transport.write(b"<close>")
        return keep_alive

    def answer(self, request=None):
        """Answer the last request from a callback."""
        request = request or self.requests[-1]
        request.connection.answered(keep_alive=self.write(request))

    async def finish(self, request):
        try:
            await self.may_finish.wait()
        except asyncio.CancelledError:
            self.cancelled.append(request)
            raise
        self.may_finish.clear()
        return self.write(request)

    def lost(self, request):
        self.lost_ones.append(request)

    def refused(self, error, began):
        self.refusals.append(error)
        self.began.append(began)
        return problem_response(error, route=None, close=True)


class Front:
    """A proxy's server, and one client of it."""

    def __init__(self, way="at once", *, reads_plainly=True):
        self.answerer = Answerer(way, reads_plainly=reads_plainly)
        self.server = ProxyServer(
            self.answerer,
            limit=9,
            keepalive=KEEPALIVE,
            header_bytes=HEADER_BYTES,
            header_seconds=HEADER_SECONDS,
        )
        self.time = self.server._loop = Time()
        self.connection: Any = self.server()
        self.transport = Transport(self.connection)
        self.connection.connection_made(self.transport)

    def send(self, *pieces):
        for piece in pieces:
            self.connection.data_received(piece)

    @property
    def written(self):
        return self.transport.written

    @property
    def state(self):
        return self.connection._state

    async def leave(self):
        """Go away, whatever there is."""
        if self.connection.transport is not None and not self.transport.closing:
            self.transport.close()
        await settle()
