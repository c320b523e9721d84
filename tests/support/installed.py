"""What a test needs that is not always installed: a server, a program, a package.

Without it the test is skipped, but where everything must be there (the variable AUTHPROXY_REQUIRE_ALL is 1,
as continuous integration sets it) it fails.
"""

import importlib
import importlib.util
import os
import shutil
import sysconfig
from typing import Any

import pytest


def need(*names: str) -> None:
    """Skip the test unless each of `names`, a Python module or a program, is installed."""
    missing = [name for name in names if where(name) is None and importlib.util.find_spec(name) is None]
    if not missing:
        return
    reason = f"not installed: {', '.join(missing)}"
    if os.environ.get("AUTHPROXY_REQUIRE_ALL") == "1":
        pytest.fail(f"{reason} (AUTHPROXY_REQUIRE_ALL is set)", pytrace=False)
    pytest.skip(reason)


def where(program: str) -> str | None:
    """Return the path of a program, which may have come with a Python package."""
    return shutil.which(program) or shutil.which(program, path=sysconfig.get_path("scripts"))


def module(name: str) -> Any:
    """Return the Python module `name`, without which the whole test module is skipped."""
    if os.environ.get("AUTHPROXY_REQUIRE_ALL") == "1":
        return importlib.import_module(name)
    return pytest.importorskip(name)
