"""What the unit tests share, and what makes them quick."""

import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

import tests.support.examples  # noqa: F401 - the quick profile of hypothesis
from tests.support.clock import Clock
from tests.support.parts import files_of

PARTS = "--part"

gc.disable()  # while tests are collected: thousands, none of which goes away before the end


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(PARTS, metavar="K/N", help="run the K-th of N parts of the unit tests, whole files")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what is in another part, or leave it to others to say."""
    part = config.getoption(PARTS, None)
    if part is None or not collection_path.match("test_*.py"):
        return None
    return collection_path not in files_of(part) or None


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Have a part in which `-k` or `-m` finds nothing be no failure."""
    options = session.config.option
    chosen = getattr(options, "part", None) and (options.keyword or options.markexpr)
    if chosen and exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        session.exitstatus = pytest.ExitCode.OK


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.set_threshold(50_000)  # a test leaves little, and what it keeps is looked at again and again
    gc.enable()


@pytest.fixture(autouse=True, scope="module")
def _no_authorities() -> Iterator[None]:
    """Trust none of those that this machine does: they take 20 ms to read, for each context."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", os.devnull)
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    """Leave out reports that say nothing: with `--numprocesses` each takes as long as most tests do."""
    for report in runtestprotocol(item, log=False, nextitem=nextitem):
        if report.when == "call" or not report.passed:
            item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of the test's own; pytest's fixture looks through all there are before it makes one."""
    return Path(tempfile.mkdtemp(dir=tmp_path_factory.getbasetemp()))


@pytest.fixture
def clock():
    return Clock()
