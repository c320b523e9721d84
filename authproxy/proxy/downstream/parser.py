"""aiohttp's parser of requests, and its stream of a body: all that the data path has of aiohttp.

To import aiohttp takes longer than all the rest of a start, and plain requests never need it. So nobody
imports this module at its top: whoever meets a head that is not plain does so there and then, unless it was
loaded meanwhile (`app/serving.py`).

aiohttp itself is imported first. A thread that imports `aiohttp.http` holds its lock while it waits for
the package; another one that imports the package meanwhile waits for `aiohttp.http`. Python lets one of them
go on with half a module, and it fails.
"""

import asyncio
from typing import TYPE_CHECKING, cast

import aiohttp  # noqa: F401 - see above
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
REASONS = (
    (TOO_MANY, f"the header section has more than {MAX_HEADERS} lines"),
    ("Missing 'Host'", "the Host header is missing"),
    ("Duplicate 'Host'", "there is more than one Host header"),
    ("Duplicate Content-Length", "there is more than one Content-Length"),
    ("can't be present with", "there are both Content-Length and Transfer-Encoding"),
    ("Content-Length", "the Content-Length is not a number of bytes"),
    ("`Transfer-Encoding`", "the only transfer encoding is chunked, in HTTP/1.1 (RFC 9112 §6.1)"),
    ("Invalid header token", "the name of a header holds a character that it may not"),
    ("Unexpected whitespace after header value", "a header is folded over several lines (RFC 9112 §5.2)"),
    ("Invalid header value", "the value of a header holds a control character"),
)
"""What aiohttp says in its first line, which holds nothing that a client has sent, and what we say."""


class RequestParser(HttpRequestParser):
    """Reads one head, and its body if that comes in chunks."""

    def read(self, data: bytes) -> tuple[RawRequestMessage, StreamReader] | None:
        """Take `data`; return the message whose head it ends, if any, and its body. Raises `Malformed`."""
        try:
            messages, _, _ = self.feed_data(data)
        except HttpProcessingError as error:
            raise malformed(error) from error
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


def malformed(error: HttpProcessingError) -> Malformed:
    """Return what is wrong with a head or a body, in words of our own."""
    if isinstance(error, LineTooLong):
        return Malformed(too_large=True)
    said = error.message.partition("\n")[0]
    reason = next((ours for theirs, ours in REASONS if theirs in said), None)
    return Malformed(reason, too_large=TOO_MANY in said)
