"""What the tests of the data path share: see also `world`."""

import asyncio

import pytest
from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol


@pytest.fixture
def payload():
    """Return a maker of a request's body, of which some has come."""

    def make(*pieces, end=True):
        loop = asyncio.get_running_loop()
        protocol = BaseProtocol(loop)
        protocol.transport = asyncio.Transport()
        body = StreamReader(protocol, limit=1 << 16, loop=loop)
        for piece in pieces:
            body.feed_data(piece)
        if end:
            body.feed_eof()
        return body

    return make
