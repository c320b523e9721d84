"""The way through an HTTP proxy that passes on bytes, to the upstream itself (RFC 9110 §9.3.6).

    CONNECT HOST:PORT ─▶ 2xx ─▶ whatever TLS, or an upgraded connection, has to say

The proxy's password goes into the CONNECT, and to nobody else.
"""

import asyncio
import re
import socket

from authproxy.errors import BadReply, ConnectFailure
from authproxy.net.http_proxy import ADVICE, HTTPProxy
from authproxy.values import bracketed

MAX_HEAD = 16 << 10  # bytes of an answer to CONNECT, interim ones included
REFUSED = 407

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9]\d\d)(?: [^\x00\r\n]*)?(?:\r\n|\Z)")


async def open_tunnel(
    sock: socket.socket, proxy: HTTPProxy, host: str, port: int, *, may_begin: bool = False
) -> bytes:
    """Have `proxy`, to which `sock` leads, open a tunnel to the upstream. Raises `UpstreamError`.

    Returns what came behind its answer, where the other end `may_begin` to speak.
    """
    authority = f"{bracketed(host)}:{port}".encode("ascii")
    asked = b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (authority, authority, proxy.header_lines)
    try:
        await asyncio.get_running_loop().sock_sendall(sock, asked)
        status, rest = await _answer(sock, proxy)
    except OSError as error:
        raise _broken(proxy, "closed the connection") from error
    if not 200 <= status < 300:
        raise refusal(proxy, status, f"CONNECT {authority.decode()}")
    if rest and not may_begin:  # the upstream has not been asked yet: whoever speaks is somebody else
        raise _broken(proxy, "sent more than its answer")
    return rest


async def _answer(sock: socket.socket, proxy: HTTPProxy) -> tuple[int, bytes]:
    """Return the status of the answer to CONNECT, and what came behind its head."""
    heard, size = b"", 0
    while True:
        head, end, rest = heard.partition(b"\r\n\r\n")
        if end:
            line = _STATUS_LINE.match(head)
            if line is None:
                raise _broken(proxy, "did not answer in HTTP/1.x")
            status = int(line[1])
            if not 100 <= status < 200 or status == 101:
                return status, rest
            heard = rest  # an interim answer (RFC 9110 §15.2)
            continue
        if not b"HTTP/1.".startswith(heard[:7]):
            raise _broken(proxy, "did not answer in HTTP/1.x")
        if size > MAX_HEAD:
            raise _broken(proxy, "sent too long an answer")
        piece = await asyncio.get_running_loop().sock_recv(sock, 4096)
        if not piece:
            raise _broken(proxy, "closed the connection")
        heard += piece
        size += len(piece)


def _broken(proxy: HTTPProxy, how: str) -> BadReply:
    return BadReply(f"the HTTP proxy {proxy} {how} instead of opening a tunnel", hint=ADVICE)


def refusal(proxy: HTTPProxy, status: int, what: str) -> ConnectFailure:
    """Return the error for a proxy that does not do `what` it was asked."""
    hint = f"it wants a user and a password; {ADVICE}" if status == REFUSED else ADVICE
    return ConnectFailure(f"the HTTP proxy {proxy} answered {status} to {what}", hint=hint)
