"""What holds for all tests."""

import os
from collections.abc import Iterator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[pytest.TestReport]:
    """Make a skipped test a failure where everything has to be there, as in continuous integration."""
    report = yield
    if report.skipped and os.environ.get("AUTHPROXY_REQUIRE_ALL") == "1":
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and nothing may be: {call.excinfo}"
    return report
