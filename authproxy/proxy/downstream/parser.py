"""aiohttp's parser of requests, and its stream of a body: all that the data path has of aiohttp.

To import aiohttp takes longer than all the rest of a start, and plain requests never need it. So nobody
imports this module at its top: whoever meets a head that is not plain does so there and then, unless it was
loaded meanwhile (`app/serving.py`).
"""

import asyncio
from typing import TYPE_CHECKING, cast

from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.http_parser import HttpRequestParser
from aiohttp.streams import StreamReader

from authproxy.proxy.downstream.framing import Malformed

if TYPE_CHECKING:
    from aiohttp.base_protocol import BaseProtocol

__all__ = ["HttpProcessingError", "RequestParser", "parser_for"]

MAX_HEADERS = 1000  # lines; the size of the section is limited besides
READ_BUFFER = 256 << 10  # bytes of a body taken from a client before it has to wait
TOO_MANY = "Too many headers"  # how aiohttp says it


class RequestParser(HttpRequestParser):
    """Reads one head, and its body if that comes in chunks."""

    def read(self, data: bytes) -> tuple[RawRequestMessage, StreamReader] | None:
        """Take `data`; return the message whose head it ends, if any, and its body. Raises `Malformed`."""
        try:
            messages, _, _ = self.feed_data(data)
        except HttpProcessingError as error:
            raise Malformed(too_large=is_too_large(error)) from error
        return messages[0] if messages else None


def parser_for(connection: object, loop: asyncio.AbstractEventLoop, header_bytes: int) -> RequestParser:
    """Return a parser for one request of `connection`, no line of whose head may be over `header_bytes`."""
    return RequestParser(
        cast("BaseProtocol", connection),
        loop,
        READ_BUFFER,
        max_line_size=header_bytes,
        max_field_size=header_bytes,
        max_headers=MAX_HEADERS,
        auto_decompress=False,  # bodies are forwarded as they are
    )


def is_too_large(error: HttpProcessingError) -> bool:
    """Whether the parser found too long a header line, or too many of them."""
    return isinstance(error, LineTooLong) or TOO_MANY in str(error)
