"""A server that answers request after request on each of its connections."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Server:
    """Answers each request; `connections` are those it took, `hang_up` closes them."""

    port: int

    def __init__(self) -> None:
        self.connections: list[asyncio.StreamWriter] = []

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(REPLY)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def hang_up(self) -> None:
        for writer in self.connections:
            writer.close()
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    """Serve on a port of 127.0.0.1."""
    server = Server()
    listener = await asyncio.start_server(server.talk, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    yield server
    listener.close()
    await server.hang_up()
