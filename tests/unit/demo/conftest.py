from collections.abc import AsyncIterator

import aiohttp
import pytest

from authproxy.demo import Demo, stand_ins
from tests.support.clock import Clock


@pytest.fixture
async def demo(clock: Clock) -> AsyncIterator[Demo]:
    async with stand_ins(clock=clock) as demo:
        yield demo


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session
