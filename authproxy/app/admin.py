"""The admin listener, opened: its application and server, which are loaded only where there is one.

The sockets listen before that, so who connects until then waits and is served.
"""

import asyncio
import contextlib
import socket
from typing import cast

from aiohttp import web

from authproxy.admin.api import AdminBackend, admin_application
from authproxy.admin.listener import FEWEST_CONNECTIONS, MAX_CONNECTIONS, AdminServer
from authproxy.config.model import Limits
from authproxy.proxy.guard import Guard


async def serve_admin(
    backend: AdminBackend,
    guard: Guard,
    limits: Limits,
    sockets: list[socket.socket],
    stack: contextlib.AsyncExitStack,
    *,
    connections: int,
) -> None:
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
    for sock in sockets:
        listener = await asyncio.get_running_loop().create_server(server, sock=sock)
        stack.callback(listener.close)
