"""A request as it came in, by the reader of plain heads or by aiohttp's parser: from here on it is one."""

from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from multidict import CIMultiDict, CIMultiDictProxy

from authproxy.observe.record import Notes
from authproxy.proxy.guard import local_address
from authproxy.proxy.plain import HTTP_1_1, Section, Version, pairs_of

if TYPE_CHECKING:
    from aiohttp.http import RawRequestMessage

    from authproxy.proxy.downstream.connection import ClientConnection

RawHeaders = tuple[tuple[bytes, bytes], ...]


class Payload(Protocol):
    """The body of a request, as it arrives; what aiohttp's `StreamReader` has of it."""

    def is_eof(self) -> bool:
        """Whether all of it has arrived."""
        ...

    def at_eof(self) -> bool:
        """Whether all of it has arrived and was read."""
        ...

    def read_nowait(self, size: int = -1) -> bytes:
        """Return what has arrived and was not read yet."""
        ...

    async def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes once there are any; none at the end."""
        ...

    def set_exception(self, exc: BaseException) -> None:
        """Let whoever reads know that the rest will not come."""
        ...


class Whole:
    """A body that is all there."""

    __slots__ = ("_unread", "data")

    def __init__(self, data: bytes) -> None:
        self.data = self._unread = data

    def is_eof(self) -> bool:
        return True

    def at_eof(self) -> bool:
        return not self._unread

    def read_nowait(self, size: int = -1) -> bytes:  # noqa: ARG002 - all of it, whoever asks
        data, self._unread = self._unread, b""
        return data

    async def read(self, size: int = -1) -> bytes:
        return self.read_nowait(size)

    def set_exception(self, exc: BaseException) -> None:
        """Be there all the same."""


NO_BODY = Whole(b"")
"""The body of every request that has none."""


class Request:
    """One request of `connection`: `target` is as it was sent, `payload` its body.

    `section` is its header section if that is plain, else `message` is what aiohttp made of it. `keep_alive`
    tells whether the client wants to go on afterwards.
    """

    section: Section | None = None
    message: "RawRequestMessage | None" = None
    version: Version = HTTP_1_1
    keep_alive = True
    notes: Notes | None = None  # what is told of it besides the ordinary

    def __init__(
        self,
        connection: "ClientConnection",
        method: str,
        target: str,
        payload: Payload,
        section: Section | None = None,
    ) -> None:
        self.connection = connection
        self.method = method
        self.target = target
        self.payload = payload
        if section is not None:
            self.section = section
            self.keep_alive = section.keep_alive

    @classmethod
    def parsed(
        cls, message: "RawRequestMessage", payload: Payload, connection: "ClientConnection"
    ) -> "Request":
        """Return the request that aiohttp has parsed."""
        made = cls(connection, message.method, message.path, payload)
        made.message = message
        made.version = message.version
        made.keep_alive = not message.should_close
        made.headers, made.raw_headers = message.headers, message.raw_headers
        return made

    @cached_property
    def raw_headers(self) -> RawHeaders:
        return tuple(pairs_of(self.section.lines)) if self.section is not None else ()

    @cached_property
    def headers(self) -> CIMultiDictProxy[str]:
        pairs = [(name.decode("ascii"), value.decode("ascii")) for name, value in self.raw_headers]
        return CIMultiDictProxy(CIMultiDict(pairs))

    @property
    def authority(self) -> str:
        """The value of `Host`; "" when there is none."""
        return self.section.authority if self.section is not None else self.headers.get("Host", "")

    @property
    def local_address(self) -> str | None:
        """The IP address at which the client reached us; None on a Unix socket."""
        return local_address(self.connection.transport)

    def __repr__(self) -> str:
        return f"<Request {self.method}>"
