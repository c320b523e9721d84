"""An upgrade of the connection, such as to a WebSocket: which ones pass, and the tunnel that comes of one."""

import asyncio
import re
from typing import cast

from authproxy.errors import BadReply
from authproxy.net.tunnel import BROKE_OFF, Tunnel
from authproxy.proxy.context import RequestContext
from authproxy.proxy.plain import HTTP_1_1
from authproxy.proxy.request import Request
from authproxy.proxy.respond import UPGRADE, answer_lines
from authproxy.proxy.route import Route
from authproxy.proxy.upstream.reply import Reply

# HTTP of any version, and what it would be spoken over; `h2c-14`, `h3-29` and `TLS/1.2` are such names too.
HTTP_ITSELF = re.compile(r"(?:https?|h[0-9]+c?|hq|quic|tls|ssl)(?![a-z])")


def wanted_protocol(request: Request) -> str | None:
    """Return the protocol that a request which lists `upgrade` wants to switch to, or None.

    HTTP itself is none: in a tunnel of HTTP/2 nobody would judge the requests.
    """
    protocol = request.headers.get(UPGRADE)
    if protocol is None or request.version != HTTP_1_1:
        return None
    return None if any(map(HTTP_ITSELF.match, protocols(protocol))) else protocol


def protocols(upgrade: str) -> set[str]:
    """Return the protocols that an `Upgrade` header names; `{""}` for none."""
    return {word.strip().lower() for word in upgrade.split(",")}


async def tunnel(context: RequestContext, route: Route, reply: Reply) -> bool:
    """Pass the switch of protocols on, and then bytes both ways until one side is gone."""
    connection = context.request.connection
    client = connection.transport
    if client is None:
        raise ConnectionResetError
    protocol = b", ".join(value for name, value in reply.headers if name.lower() == b"upgrade")
    if not protocols(protocol.decode("latin-1")) <= protocols(wanted_protocol(context.request) or ""):
        raise BadReply("the upstream switched to a protocol that was not asked for")
    context.framed = False
    head = answer_lines(context, route, reply)

    def switch(upstream: asyncio.Transport) -> Tunnel:
        lines = head + b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\n"
        client.write(lines + b"\r\n")
        context.answer = lines
        context.answering(reply.status)
        return Tunnel(client, upstream, route.idle_seconds)

    with cast("Tunnel", reply.join(switch)) as joined:
        try:
            connection.join(joined)
            await joined.closed()
            if joined.cut_by is not None:
                context.cause = f"the upstream {BROKE_OFF}"
        finally:
            context.sent = joined.moved
    return False
