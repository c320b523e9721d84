"""Tests of what not every system has are skipped where it is missing, with the proxy's own word for why."""

import os

import pytest

from authproxy.capabilities import FILE_OWNERS, UNIX_SOCKETS, Capability

SCRIPTS = Capability(os.name == "posix", "a shell script is no program here")


def needs(capability: Capability) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not capability, reason=capability.lack)


needs_owners = needs(FILE_OWNERS)
needs_scripts = needs(SCRIPTS)
needs_unix_sockets = needs(UNIX_SOCKETS)


def of_unix(*values: object) -> object:
    """Return the case `values`, of a test with parameters, for where there are Unix sockets."""
    return pytest.param(*values, marks=needs_unix_sockets)
