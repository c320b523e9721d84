"""Runs the command as its users do: as a process, with a file, on ports of its own.

    with running_proxy({"routes": [...]}) as proxy:
        proxy.url, proxy.admin_url      where it listens
        proxy.log(), proxy.output()     what it wrote to stderr and to stdout
        proxy.pid, proxy.stop()

    ended = authproxy("token", "api", config={"routes": […]})
    assert ended.returncode == 0, ended.stderr

This is the blocking face of `launch`; `async_command` is the other.
"""

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.launch import COMMAND, GUARD, POLL, Launched, environment, launched, write_config


class RunningProxy(Launched):
    """A proxy at work."""

    def wait_for_log(self, text: str, *, times: int = 1) -> str:
        """Return the log once it holds `text`."""
        wait_until(lambda: self.log().count(text) >= times, lambda: f"never said {text!r}:\n{self.log()}")
        return self.log()

    def wait(self) -> int:
        """Return the exit code, once there is one."""
        return self.process.wait(GUARD)

    def stop(self) -> int:
        """Stop it, if it is still there; return its exit code."""
        self.signal()
        return self.wait()


@contextmanager
def running_proxy(config: Mapping[str, Any] | None, *args: str, **options: Any) -> Iterator[RunningProxy]:
    """Run the proxy with `config` until the end of the block; `options` are those of `launched`."""
    with launched(RunningProxy, config, *args, **options) as proxy:
        wait_until(proxy.is_listening, proxy.why_not_listening)
        try:
            yield proxy
        finally:
            proxy.stop()


def authproxy(
    *args: str,
    config: Mapping[str, Any] | str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    before: tuple[str, ...] = (),
    then: tuple[str, ...] = (),
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end; `config`, a mapping or YAML, becomes its `-c`.

    `before` goes before it, and `then` comes last of all.
    """
    with tempfile.TemporaryDirectory(prefix="authproxy-") as made:
        directory = Path(made)
        if config is not None:
            args = (*args, "-c", str(write_config(directory, config)))
        return subprocess.run(
            [*before, *COMMAND, *args, *then],
            cwd=cwd or directory, env=environment(directory, env), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=GUARD, check=False,
        )  # fmt: skip


def wait_until(
    condition: Callable[[], object], otherwise: Callable[[], str] | str = "it never was so"
) -> None:
    """Wait until `condition` holds; fail with the sentence `otherwise`."""
    deadline = time.monotonic() + GUARD
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(otherwise if isinstance(otherwise, str) else otherwise())
        time.sleep(POLL)
