"""What holds for all tests."""

import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Keep what the code under test remembers out of the home of whoever runs the tests."""
    state = tempfile.mkdtemp(prefix="authproxy-state-")
    os.environ["XDG_STATE_HOME"] = state
    config.add_cleanup(lambda: shutil.rmtree(state, ignore_errors=True))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[pytest.TestReport]:
    """Make a skipped test a failure where everything has to be there, as in continuous integration."""
    report = yield
    if report.skipped and os.environ.get("AUTHPROXY_REQUIRE_ALL") == "1":
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and nothing may be: {call.excinfo}"
    return report
