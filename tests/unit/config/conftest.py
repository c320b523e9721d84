"""A small file, and what reading it says."""

from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import indent

import pytest

from authproxy.config.model import Config
from authproxy.config.read import parse
from authproxy.config.route import RouteConfig
from authproxy.errors import ConfigError
from tests.support.systems import SCRIPTS

ENVIRON = {"USER_NAME": "joe", "PASSWORD": "hunter2", "EMPTY": ""}


class Reader:
    """Reads texts as `proxy.yaml` in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environ: Mapping[str, str] = ENVIRON

    def config(self, text: str, **more: object) -> Config:
        return parse(text, str(self.directory / "proxy.yaml"), environ=self.environ, **more)

    def faults(self, text: str, **more: object) -> list[str]:
        """Return `LINE:COL: key: message` for each fault."""
        with pytest.raises(ConfigError) as raised:
            self.config(text, **more)
        return [str(fault).removeprefix(f"{self.directory}/proxy.yaml:") for fault in raised.value.faults]

    def fault(self, text: str, **more: object) -> str:
        (fault,) = self.faults(text, **more)
        return fault

    @staticmethod
    def with_route(keys: str, top: str = "") -> str:
        return f"{top}\nroutes:\n  - name: api\n{indent(keys, '    ')}\n"

    def route(self, keys: str, top: str = "") -> RouteConfig:
        """Read one route of which `keys` are all but the name."""
        return self.config(self.with_route(keys, top)).routes[0]

    def route_faults(self, keys: str, top: str = "") -> list[str]:
        """Return `key: message` for each fault."""
        found = self.faults(self.with_route(keys, top))
        return [fault.partition(": ")[2].removeprefix("routes[0].") for fault in found]

    def route_fault(self, keys: str, top: str = "") -> str:
        (fault,) = self.route_faults(keys, top)
        return fault


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path)


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], Path]:
    """Make an executable of a shell script."""
    if not SCRIPTS:
        pytest.skip(SCRIPTS.lack)

    def make(script: str, name: str = "program") -> Path:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o700)
        return path

    return make
