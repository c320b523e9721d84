import pytest

from tests.support.clock import Clock


@pytest.fixture
def clock():
    return Clock()
