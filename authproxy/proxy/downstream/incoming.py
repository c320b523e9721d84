"""A request as it was parsed, with nothing of what a web application would want besides."""

from typing import TYPE_CHECKING

from aiohttp import StreamReader
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage

from authproxy.proxy.guard import local_address

if TYPE_CHECKING:
    from authproxy.proxy.downstream.connection import ClientConnection


class Incoming:
    """A request as aiohttp parsed it, with nothing of what a web application would want besides."""

    __slots__ = (
        "_task", "connection", "headers", "keep_alive", "message", "method", "payload", "raw_headers",
        "target", "version",
    )  # fmt: skip

    def __init__(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        connection: "ClientConnection",
        _writer: AbstractStreamWriter | None = None,
        _task: object = None,
    ) -> None:
        self.message = message
        self.method = message.method
        self.target = message.path
        self.version = message.version
        self.headers = message.headers
        self.raw_headers = message.raw_headers
        self.keep_alive = not message.should_close
        self.payload = payload
        self.connection = connection
        self._task: object = None

    @property
    def local_address(self) -> str | None:
        """The IP address at which the client reached us; None on a Unix socket."""
        return local_address(self.connection.transport)

    def _finish(self) -> None:
        """Be finished with; aiohttp says so."""

    def _cancel(self, error: BaseException) -> None:
        """Learn from aiohttp that the client is gone."""
        self.payload.set_exception(error)

    def __repr__(self) -> str:
        return f"<Incoming {self.method}>"
