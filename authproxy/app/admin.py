"""The admin listener, opened: its application and server, which are loaded only where there is one.

The sockets listen before that, so who connects until then waits and is served.
"""

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any, cast

from aiohttp import web

from authproxy.admin.application import admin_application
from authproxy.admin.listener import FEWEST_CONNECTIONS, MAX_CONNECTIONS, AdminServer
from authproxy.app.backend import Backend

if TYPE_CHECKING:
    from authproxy.app.application import App
    from authproxy.config.model import Limits


class AdminListener:
    """The admin listener at work, on one socket or on several; on others once it moves.

    `backend` answers who asks there.
    """

    def __init__(self, server: AdminServer, backend: Backend) -> None:
        self.backend = backend
        self._server = server
        self._listeners: list[asyncio.Server] = []

    def adjust(self, limits: "Limits", connections: int) -> None:
        """Go by these limits from now on; `connections` is the proxy's."""
        self._server.adjust(**_bounds(limits, connections))
        self.backend.streams.limit = max_streams(connections)

    async def listen(self, sockets: list[socket.socket]) -> None:
        """Accept on open sockets from now on, and nowhere else."""
        before = self._listeners
        loop = asyncio.get_running_loop()
        self._listeners = [await loop.create_server(self._server, sock=sock) for sock in sockets]
        for listener in before:
            listener.close()

    def close(self) -> None:
        """Accept no more, and let who is connected go once they have their answers; streams end."""
        for listener in self._listeners:
            listener.close()
        self._listeners = []
        self._server.retire()
        self.backend.streams.end()


async def serve_admin(
    app: "App", sockets: list[socket.socket], stack: contextlib.AsyncExitStack, *, connections: int
) -> AdminListener:
    """Serve the admin listener on open sockets until `stack` ends; `connections` is the proxy's limit."""
    limits = app.config.limits
    backend = make_backend(app)
    backend.streams.limit = max_streams(connections)
    application = admin_application(backend, form_seconds=limits.header_timeout)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    server = AdminServer(cast("web.Server", runner.server), **_bounds(limits, connections))
    stack.push_async_callback(server.shutdown, 0.1)
    admin = AdminListener(server, backend)
    stack.callback(admin.close)
    await admin.listen(sockets)
    return admin


def max_connections(connections: int) -> int:
    """Return how many the admin listener takes where the proxy takes `connections`."""
    return min(MAX_CONNECTIONS, max(FEWEST_CONNECTIONS, connections // 4))


def max_streams(connections: int) -> int:
    """Return how many of them may be streams; health, and whoever wants to act, have the rest."""
    return max_connections(connections) // 2


def _bounds(limits: "Limits", connections: int) -> dict[str, Any]:
    return {
        "limit": max_connections(connections),
        "keepalive": limits.keepalive,
        "header_bytes": limits.header_bytes,
        "header_seconds": limits.header_timeout,
    }


def make_backend(app: "App") -> Backend:
    """Return what answers the admin listener, and have it told of all that watchers want to hear."""
    watch = app.others.watch if app.others is not None else app.observing.watch
    backend = Backend(app, app.observing.ask_all, watch)
    app.observing.seen = backend.seen
    app.sources.changed = app.observed.standings.changed = backend.changed
    return backend
