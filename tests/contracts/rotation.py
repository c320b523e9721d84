"""A token endpoint that rotates refresh tokens and notices reuse, over a socket, for several processes.

A line with a refresh token is answered with a line `ACCESS REFRESH SECONDS`, an unknown or used one with
`reused`. With `leeway` the last one used is taken once more while what was issued for it is unused: real
servers have that for clients who did not get the answer.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from authproxy.errors import CredentialRejected
from authproxy.tokens.source import Innermost
from authproxy.tokens.token import Token


class RotatingEndpoint:
    def __init__(self, *, lifetime: float, slowness: float = 0.0, leeway: bool = False) -> None:
        self.port = 0
        self.renewals = 0
        self.reused = 0
        self.issued = ["refresh-0"]  # every refresh token, the good one last
        self._lifetime = lifetime
        self._slowness = slowness
        self._leeway = leeway

    def first(self) -> Token:
        """Return a worn-out token with the first refresh token."""
        return Token("access-0", issued_at=1.0, expires_at=2.0, refresh_token=self.issued[0])

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            expired = (await reader.readline()).decode().strip()
            if self._leeway and expired in self.issued[-2:-1]:
                self.issued.pop()  # nobody got it
            good = expired == self.issued[-1]
            if good:
                self.renewals += 1
                self.issued.append(f"refresh-{self.renewals}")
            elif expired:  # else the client is gone already
                self.reused += 1
            line = f"access-{self.renewals} {self.issued[-1]} {self._lifetime}" if good else "reused"
            await asyncio.sleep(self._slowness)
            writer.write(f"{line}\n".encode())
            await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def rotating_endpoint(**options: float) -> AsyncIterator[RotatingEndpoint]:
    endpoint = RotatingEndpoint(**options)
    async with await asyncio.start_server(endpoint.answer, "127.0.0.1", 0) as server:
        endpoint.port = server.sockets[0].getsockname()[1]
        yield endpoint


class RotatingSource(Innermost):
    """Renews at that endpoint."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def token(self, *, instead_of: Token | None = None) -> Token:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        expired = instead_of.refresh_token if instead_of else None
        writer.write(f"{expired}\n".encode())
        line = (await reader.readline()).decode().split()
        writer.close()
        await writer.wait_closed()
        if len(line) != 3:
            raise CredentialRejected(f"{expired} was used before", error="invalid_grant")
        now = time.time()
        return Token(line[0], issued_at=now, expires_at=now + float(line[2]), refresh_token=line[1])
