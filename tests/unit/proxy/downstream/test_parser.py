"""What the data path has of aiohttp: one head at a time, and its faults under a name of ours."""

import asyncio

import pytest
from aiohttp.base_protocol import BaseProtocol

from authproxy.proxy.downstream.framing import Malformed
from authproxy.proxy.downstream.parser import MAX_HEADERS, parser_for

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"


@pytest.fixture
async def parser():
    loop = asyncio.get_running_loop()
    return parser_for(BaseProtocol(loop), loop, 100)


async def test_a_head_is_read_in_pieces(parser):
    assert parser.read(HEAD) is None
    message, payload = parser.read(b"\r\n")
    assert (message.method, message.path, message.version) == ("GET", "/", (1, 1))
    assert payload.is_eof()


async def test_a_body_in_chunks_is_read_as_it_comes(parser):
    _, payload = parser.read(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    assert parser.read(b"2\r\nab\r\n") is None
    assert payload.read_nowait() == b"ab"
    parser.read(b"0\r\n\r\n")
    assert payload.is_eof()


@pytest.mark.parametrize(
    ("head", "too_large"),
    [
        (b"GET / HTTP/1.1\r\nHost\r\n\r\n", False),
        (b"not http\r\n\r\n", False),
        (HEAD + b"A: " + b"a" * 101 + b"\r\n\r\n", True),
        (b"GET /" + b"a" * 101 + b" HTTP/1.1\r\n\r\n", True),
        (HEAD + b"A: b\r\n" * (MAX_HEADERS + 1) + b"\r\n", True),
    ],
)
async def test_what_is_wrong_with_a_head_is_its_size_or_all_the_rest(parser, head, too_large):
    with pytest.raises(Malformed) as caught:
        parser.read(head)
    assert caught.value.too_large is too_large
