"""What the unit tests share, and what makes them quick."""

import gc

import pytest

import tests.support.examples  # noqa: F401 - the quick profile of hypothesis
from tests.support.clock import Clock


def pytest_collection_finish() -> None:
    gc.freeze()  # thousands of tests, none of which goes away before the end


@pytest.fixture
def clock():
    return Clock()
