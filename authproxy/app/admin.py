"""The admin listener, opened: its application and server, which are loaded only where there is one.

The sockets listen before that, so who connects until then waits and is served.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import cast

from aiohttp import web

from authproxy.admin.api import AdminBackend, admin_application
from authproxy.admin.listener import FEWEST_CONNECTIONS, MAX_CONNECTIONS, AdminServer
from authproxy.config.model import Limits
from authproxy.proxy.guard import Asked, Guard


class GuardNow(Guard):
    """The guard of the configuration that is at work: it decides as that one does."""

    def __init__(self, current: Callable[[], Guard]) -> None:
        self._current = current

    def check(self, request: Asked, *, from_any_site: bool = False) -> tuple[str, str]:
        return self._current().check(request, from_any_site=from_any_site)

    def check_key(self, request: Asked) -> None:
        self._current().check_key(request)

    def is_key(self, sent: str) -> bool:
        return self._current().is_key(sent)


class AdminListener:
    """The admin listener at work, on one socket or on several; on others once it moves."""

    def __init__(self, server: AdminServer) -> None:
        self._server = server
        self._listeners: list[asyncio.Server] = []

    async def listen(self, sockets: list[socket.socket]) -> None:
        """Accept on open sockets from now on, and nowhere else."""
        before = self._listeners
        loop = asyncio.get_running_loop()
        self._listeners = [await loop.create_server(self._server, sock=sock) for sock in sockets]
        for listener in before:
            listener.close()

    def close(self) -> None:
        """Accept no more."""
        for listener in self._listeners:
            listener.close()
        self._listeners = []


async def serve_admin(
    backend: AdminBackend,
    guard: Guard,
    limits: Limits,
    sockets: list[socket.socket],
    stack: contextlib.AsyncExitStack,
    *,
    connections: int,
) -> AdminListener:
    """Serve the admin listener on open sockets until `stack` ends; `connections` is the proxy's limit."""
    application = admin_application(guard, backend, form_seconds=limits.header_timeout)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    server = AdminServer(
        cast("web.Server", runner.server),
        limit=min(MAX_CONNECTIONS, max(FEWEST_CONNECTIONS, connections // 4)),
        keepalive=limits.keepalive,
        header_bytes=limits.header_bytes,
        header_seconds=limits.header_timeout,
    )
    stack.push_async_callback(server.shutdown, 0.1)
    admin = AdminListener(server)
    stack.callback(admin.close)
    await admin.listen(sockets)
    return admin
