"""The listeners that are served: each is begun and ended by itself, while the others go on.

create     the server is made, but accepts nobody yet: all that can fail has been done
begin      it accepts
end        it stops; who has connected but not been accepted yet is still served
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from authproxy.app.sockets import BACKLOG

Protocols = Callable[[], asyncio.Protocol]

_joining: set[asyncio.Task[None]] = set()  # those who had not been accepted yet when their listener ended


@dataclass(slots=True)
class ServedListener:
    """A socket that listens on `address`, and its server."""

    address: str
    sock: socket.socket
    tls: ssl.SSLContext | None
    protocols: Protocols
    handshake_seconds: float | None
    server: asyncio.Server

    @classmethod
    async def create(
        cls,
        address: str,
        sock: socket.socket,
        protocols: Protocols,
        *,
        tls: ssl.SSLContext | None = None,
        handshake_seconds: float | None = None,
    ) -> "ServedListener":
        """Make a server on a socket that listens already. Raises OSError."""
        seconds = handshake_seconds if tls is not None else None
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            protocols,
            sock=sock,
            ssl=tls,
            # A handshake is not yet a connection that the protocol could watch.
            ssl_handshake_timeout=seconds,
            backlog=BACKLOG,
            start_serving=False,
        )
        return cls(address, sock, tls, protocols, seconds, server)

    async def begin(self) -> None:
        """Accept from now on."""
        await self.server.start_serving()

    def end(self) -> None:
        """Accept no more; serve who waits to be accepted: a closed socket would break them off."""
        last = self.sock.dup()
        self.server.close()
        with last, contextlib.suppress(OSError):
            last.setblocking(False)  # noqa: FBT003 - the standard library's way
            while True:
                accepted, _ = last.accept()
                # A handshake takes as long as the client likes: nobody waits for another's.
                task = asyncio.create_task(self._join(accepted))
                _joining.add(task)
                task.add_done_callback(_joining.discard)

    def close(self) -> None:
        """Accept no more."""
        self.server.close()

    async def _join(self, accepted: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self.protocols, accepted, ssl=self.tls, ssl_handshake_timeout=self.handshake_seconds
            )
        except OSError:  # who has gone meanwhile
            accepted.close()
