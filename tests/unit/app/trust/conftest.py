"""A root's certificate, and programs that are not run."""

import pytest

from tests.unit.app.trust.programs import Programs, new_root


@pytest.fixture
def root(tmp_path):
    return new_root(tmp_path)


@pytest.fixture
def programs():
    return Programs()
