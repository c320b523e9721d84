"""A proxy whose configuration is changed while it runs."""

import contextlib
import signal
from collections.abc import Iterator
from typing import Any

import yaml

from tests.support.command import RunningProxy, running_proxy, wait_until
from tests.support.launch import ANY_PORT

DONE, NOT_DONE = "configuration reloaded", "configuration not reloaded"


class Edited:
    """A proxy whose configuration is changed while it runs."""

    def __init__(self, proxy: RunningProxy, config: dict[str, Any]) -> None:
        self.proxy = proxy
        self.config = {"listen": ANY_PORT, "admin": {"listen": ANY_PORT}, **config}
        self._told = 0

    def write(self, **changes: Any) -> None:
        """Put the file in the place of the old one, as editors do."""
        self.config |= changes
        self.write_text(yaml.safe_dump(self.config))

    def write_text(self, text: str) -> None:
        assert self.proxy.config_file is not None
        fresh = self.proxy.config_file.with_suffix(".new")
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(self.proxy.config_file)

    def hang_up(self) -> str:
        """Ask for a reload; return what the log said of it."""
        self.proxy.signal(signal.SIGHUP)
        return self.wait()

    def wait(self) -> str:
        """Return what the log said of the next reload, once that is over."""
        before = self._told
        wait_until(lambda: self._outcomes() > before, lambda: f"nothing was reloaded: {self.proxy.log()}")
        self._told += 1
        return self.proxy.log().splitlines()[-1]

    def _outcomes(self) -> int:
        log = self.proxy.log()
        return log.count(DONE) + log.count(NOT_DONE)

    def reload(self, **changes: Any) -> str:
        """Change the file and have it loaded; return what the log said of it last."""
        self.write(**changes)
        return self.hang_up()

    def must_reload(self, **changes: Any) -> None:
        before = self.proxy.log().count(DONE)
        self.reload(**changes)
        assert self.proxy.log().count(DONE) == before + 1, self.proxy.log()


@contextlib.contextmanager
def edited(config: dict[str, Any], *args: str, **options: Any) -> Iterator[Edited]:
    with running_proxy({"log": {"access": False}, **config}, *args, **options) as proxy:
        yield Edited(proxy, {"log": {"access": False}, **config})
