"""Holding a conversation with the admin listener, bytes in and bytes out: its transport is a fake."""

import asyncio
import json

from aiohttp import web

from authproxy.admin.listener import AdminServer
from tests.support.clock import settle


class Transport(asyncio.Transport):
    """A connection to 127.0.0.1:8081; `stuck` is one whose client takes nothing."""

    def __init__(self):
        super().__init__()
        self.written = b""
        self.closed = False
        self.stuck = False

    def write(self, data):
        self.written += data

    def writelines(self, pieces):
        self.written += b"".join(pieces)

    def get_extra_info(self, name, default=None):
        return {"sockname": ("127.0.0.1", 8081)}.get(name, default)

    def get_write_buffer_size(self):
        return 1 << 20 if self.stuck else 0

    def is_closing(self):
        return self.closed

    def can_write_eof(self):
        return True

    def write_eof(self):
        self.closed = True

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass

    def close(self):
        self.closed = True

    abort = close


class Reply:
    def __init__(self, raw):
        head, _, self.body = raw.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        self.status = int(status.split(" ")[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}

    @property
    def text(self):
        return self.body.decode()

    def json(self):
        return json.loads(self.body)


class Client:
    """Talks to `application` as the admin listener serves it; each request has a connection of its own."""

    def __init__(self, application, **limits):
        self._runner = web.AppRunner(application, access_log=None)
        self._limits = {"limit": 8, "keepalive": 75, "header_bytes": 2048, "header_seconds": 10} | limits
        self.connections = []

    async def __aenter__(self):
        await self._runner.setup()
        self.server = AdminServer(self._runner.server, **self._limits)
        return self

    async def __aexit__(self, *_):
        for each in self.connections:
            each.connection_lost(None)
        await asyncio.sleep(0)
        await self._runner.cleanup()

    def connect(self):
        connection = self.server()
        transport = Transport()
        connection.connection_made(transport)
        self.connections.append(connection)
        return connection, transport

    async def raw(self, data, *, turns=200):
        """Send `data`; return the answer, and whether the connection is closed after it."""
        connection, transport = self.connect()
        await asyncio.sleep(0)
        connection.data_received(data)
        await settle(turns)
        return Reply(transport.written), transport.closed

    async def ask(self, target, *, method="GET", body=b"", host="127.0.0.1:8081", **headers):
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if body or method == "POST":
            lines.append(f"Content-Length: {len(body)}")
        reply, _ = await self.raw("\r\n".join([*lines, "", ""]).encode() + body)
        return reply
