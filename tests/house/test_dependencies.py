"""What is installed is what the suite has run with."""

import tomllib
from importlib.metadata import version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]


def test_only_the_minor_versions_of_aiohttp_that_the_suite_has_run_with_are_let_in():
    (aiohttp,) = [each for each in map(Requirement, PROJECT["dependencies"]) if each.name == "aiohttp"]
    installed = Version(version("aiohttp"))
    assert installed in aiohttp.specifier
    assert Version(f"{installed.major}.{installed.minor + 1}.0") not in aiohttp.specifier
    assert Version("3.14.4") not in aiohttp.specifier, "requests can be smuggled there"
