"""A request that is sent again, through the proxy itself: over a connection whose other end is nobody.

    a record ─▶ request_of() ─▶ bytes ─▶ ReplayConnection ─▶ the same way as any other request

Nothing in the bytes tells that it is one; its id is handed over beside them, so no client can choose an id.
"""

import asyncio
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

from authproxy.errors import ConnectionLimit, NotReplayable
from authproxy.masking import is_secret_header, is_secret_parameter
from authproxy.observe.inspection import pair_of, request_lines
from authproxy.observe.record import Notes, RequestRecord
from authproxy.proxy.body import LAST_CHUNK, chunk
from authproxy.proxy.downstream.connection import ClientConnection
from authproxy.proxy.guard import plain_host
from authproxy.proxy.request import Request

if TYPE_CHECKING:
    from authproxy.proxy.downstream.server import Entrance, ProxyServer


# ── what is sent ─────────────────────────────────────────────────────────────────────────────────


def request_of(record: RequestRecord, *, access_header: str = "", access_keys: Sequence[str] = ()) -> bytes:
    """Return the bytes of the request once more. Raises `NotReplayable` when not all of it was kept.

    A caller who had one of the `access_keys` that are valid now, or came as far as to a route, sends the
    first of them, in `access_header`.
    """
    notes = record.notes
    if (
        not record.target
        or record.status == 101
        or (record.method == "CONNECT" or record.forward == "forwarded")
    ):
        raise NotReplayable("that was no request that could be sent again")
    if notes is not None and notes.cut:
        raise NotReplayable("its headers were too large to be kept")
    if notes is not None and notes.login:
        raise NotReplayable("it was a login, answered by authproxy: nothing that came with one is kept")
    _check_query(record)
    lines = [f"{record.method} {record.target} HTTP/1.1".encode("utf-8", "surrogateescape")]
    names: dict[str, str] = {}
    for line in request_lines(record):
        name, value = pair_of(line)
        names[name.lower()] = value
        lines.append(_line(record, line, access_header, access_keys))
    return b"\r\n".join(lines) + b"\r\n\r\n" + _body(record, names)


def _check_query(record: RequestRecord) -> None:
    for part in record.target.partition("?")[2].split("&"):
        name, equals, _ = part.partition("=")
        if equals and is_secret_parameter(name):
            raise NotReplayable(
                f"it had a secret of its own, in the query parameter {unquote_plus(name)}: that is not kept"
            )


def _line(record: RequestRecord, line: bytes, access_header: str, access_keys: Sequence[str]) -> bytes:
    """Return a header line as it is sent again."""
    name, value = pair_of(line)
    had_key = record.facts is not None or value in access_keys  # nobody comes to a route without one
    if access_keys and name.lower() == access_header.lower() and had_key:
        return f"{name}: {access_keys[0]}".encode()
    if name.lower() == "upgrade":
        raise NotReplayable("it asked for another protocol, which needs a client")
    also = record.facts.secret_headers if record.facts is not None else frozenset({access_header.lower()})
    if is_secret_header(name, value, also):
        raise NotReplayable(f"it had a secret of its own, in the header {name}: that is not kept")
    return line


def _body(record: RequestRecord, headers: dict[str, str]) -> bytes:
    kept = record.notes.request_body if record.notes is not None else None
    is_chunked = "transfer-encoding" in headers
    announced = headers.get("content-length", "0")
    if not is_chunked and announced == "0":
        return b""
    data = bytes(kept.data) if kept is not None and not kept.cut and kept.size == record.received else None
    if data is None or (not is_chunked and announced != str(len(data))):
        raise NotReplayable(
            "its body was not kept whole", hint="`inspect: {bodies: 64KiB}` keeps the bodies of a route"
        )
    return (chunk(data) if data else b"") + LAST_CHUNK if is_chunked else data


# ── how it is sent ───────────────────────────────────────────────────────────────────────────────


def replay(server: "ProxyServer", record: RequestRecord, data: bytes, known_id: str) -> None:
    """Send `data`, the request of `record`, to `server` under the id `known_id`.

    It comes in where it came in before. Raises `ConnectionLimit` when there are too many connections,
    `NotReplayable` when that is no request, or its listener is gone.
    """
    if record.listener and record.listener not in server.own:
        raise NotReplayable("the listener at which it came in is not there any more")
    entrance = server.entrance(record.listener)
    connection = ReplayConnection(server, asyncio.get_running_loop(), entrance, known_id)
    transport = Nobody(lambda: connection.connection_lost(None), _address_of(record))
    connection.connection_made(transport)
    if connection.leaving or transport.is_closing():
        raise ConnectionLimit("the listener has as many connections as it may have", retry_after=1)
    connection.data_received(data)
    if not connection.begun:
        transport.close()
        raise NotReplayable("what was kept of it is no request")


def _address_of(record: RequestRecord) -> str | None:
    """Return the address of ours that the client had reached, where its `Host` names one and was accepted."""
    if record.facts is None:
        return None
    hosts = [value for name, value in map(pair_of, request_lines(record)) if name.lower() == "host"]
    host = (
        plain_host(hosts[0] if hosts[0].endswith("]") else hosts[0].rpartition(":")[0] or hosts[0])
        if hosts
        else ""
    )
    try:
        return str(ip_address(host))
    except ValueError:
        return None


class ReplayConnection(ClientConnection):
    """A connection for one request, whose id is known before."""

    __slots__ = ("_known_id", "begun")

    def __init__(
        self, server: "ProxyServer", loop: asyncio.AbstractEventLoop, entrance: "Entrance", known_id: str
    ) -> None:
        super().__init__(server, loop, entrance)
        self._known_id = known_id
        self.begun = False

    def _begin(self, request: Request) -> None:
        self.begun = True
        request.notes = Notes(self._known_id)
        super()._begin(request)

    def answered(self, *, keep_alive: bool) -> None:  # noqa: ARG002 - nobody asks for more
        super().answered(keep_alive=False)
        self.force_close()


class Nobody(asyncio.Transport):
    """The client's end of a replay: it takes everything, and keeps nothing."""

    def __init__(self, lost: Callable[[], None], address: str | None) -> None:
        super().__init__()
        self._lost = lost
        self._address = address
        self._closing = False

    def write(self, data: "bytes | bytearray | memoryview[Any]") -> None:
        """Drop it."""

    def writelines(self, parts: Any) -> None:
        """Drop them."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return (self._address, 0) if name == "sockname" and self._address is not None else default

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self._closing

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None:
        """Have sent all already."""

    def resume_reading(self) -> None:
        """Have nothing more to send."""

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self._lost)

    abort = close
