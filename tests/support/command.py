"""Runs the command as its users do: as a process, with a file, on ports of its own.

    with running_proxy({"routes": [...]}) as proxy:
        proxy.url, proxy.admin_url      where it listens
        proxy.log(), proxy.output()     what it wrote to stderr and to stdout
        proxy.pid, proxy.stop()

Nothing of the surroundings gets in: the process starts in an empty directory, which is its home too, and
without the environment's HTTP proxies.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

GUARD = 25.0  # seconds until something that hangs fails the test; never a measure of speed
COMMAND = (sys.executable, "-m", "authproxy")
ANY_PORT = "127.0.0.1:0"
LISTENING, ADMIN = "listening on ", "admin on "


class NotStarted(AssertionError):
    """The process ended, or said nothing, before it listened."""


@dataclass
class RunningProxy:
    """A proxy at work."""

    process: subprocess.Popen[bytes]
    directory: Path
    urls: list[str] = field(default_factory=list)
    admin_url: str = ""

    @property
    def url(self) -> str:
        """The first listener's URL."""
        return self.urls[0]

    @property
    def pid(self) -> int:
        return self.process.pid

    def output(self) -> str:
        """Return what it wrote to stdout so far."""
        return (self.directory / "stdout").read_text(encoding="utf-8", errors="replace")

    def log(self) -> str:
        """Return what it wrote to stderr so far."""
        return (self.directory / "stderr").read_text(encoding="utf-8", errors="replace")

    def wait_for_log(self, text: str, *, times: int = 1) -> str:
        """Return the log once it holds `text`."""
        wait_until(lambda: self.log().count(text) >= times, lambda: f"never said {text!r}:\n{self.log()}")
        return self.log()

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Return the exit code, once there is one."""
        return self.process.wait(GUARD)

    def stop(self) -> int:
        """Stop it, if it is still there; return its exit code."""
        if self.process.poll() is None:
            self.signal()
        return self.wait()


@contextmanager
def running_proxy(
    config: Mapping[str, Any] | None,
    *args: str,
    env: Mapping[str, str] | None = None,
    verb: str = "run",
    files: int | None = None,
    stderr: int | None = None,
    before: tuple[str, ...] = (),
) -> Iterator[RunningProxy]:
    """Run the proxy with `config` until the end of the block; ports are free ones unless it says otherwise.

    `config` is None for a command line that needs no file; `files` limits the descriptors there are;
    `stderr` is a descriptor to write to instead of the file that `log` reads; `before` stands in front of the
    command.
    """
    with tempfile.TemporaryDirectory(prefix="authproxy-") as made:
        directory = Path(made)
        if config is not None:
            config = {"listen": ANY_PORT, "admin": {"listen": ANY_PORT}, **config}
            args = ("-c", str(write_config(directory, config)), *args)
        with (directory / "stdout").open("wb") as stdout, (directory / "stderr").open("wb") as log:
            process = subprocess.Popen(
                [*(limited_to(files) if files else before), *COMMAND, verb, *args],
                cwd=directory, env=environment(directory, env), stdin=subprocess.DEVNULL,
                stdout=stdout, stderr=log if stderr is None else stderr,
            )  # fmt: skip
        proxy = RunningProxy(process, directory)
        try:
            _wait_until_listening(proxy, _awaited(config, args))
            yield proxy
        except BaseException:
            print(proxy.output(), proxy.log(), sep="\n", file=sys.stderr)  # pytest shows it with the failure
            raise
        finally:
            try:
                proxy.stop()
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


def authproxy(
    *args: str,
    config: Mapping[str, Any] | str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end; `config`, a mapping or YAML, becomes its `-c`."""
    with tempfile.TemporaryDirectory(prefix="authproxy-") as made:
        directory = Path(made)
        if config is not None:
            args = (*args, "-c", str(write_config(directory, config)))
        return subprocess.run(
            [*COMMAND, *args],
            cwd=cwd or directory, env=environment(directory, env), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=GUARD, check=False,
        )  # fmt: skip


def limited_to(files: int) -> tuple[str, ...]:
    """Return what goes before a command line to have it run with `files` descriptors and no more."""
    return ("sh", "-c", f'ulimit -n {files} && exec "$@"', "sh")


def write_config(directory: Path, config: Mapping[str, Any] | str) -> Path:
    """Write a configuration into `directory` and return its path."""
    file = directory / "authproxy-test.yaml"
    text = config if isinstance(config, str) else yaml.safe_dump(dict(config), sort_keys=False)
    file.write_text(text, encoding="utf-8")
    return file


def environment(directory: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a process that nothing of the surroundings should reach."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith(("AUTHPROXY_", "XDG_", "NOTIFY_"))
    }
    return {**kept, "HOME": str(directory), **(more or {})}


def wait_until(
    condition: Callable[[], object], otherwise: Callable[[], str] | str = "it never was so"
) -> None:
    """Wait until `condition` holds; fail with the sentence `otherwise`."""
    deadline = time.monotonic() + GUARD
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(otherwise if isinstance(otherwise, str) else otherwise())
        time.sleep(0.01)


def _awaited(config: Mapping[str, Any] | None, args: tuple[str, ...]) -> tuple[int, bool]:
    """Return how many listeners are to be announced, and whether the admin listener is."""
    listen = (config or {}).get("listen", ANY_PORT)
    count = args.count("--listen") or (len(listen) if isinstance(listen, list) else 1)
    return count, "--no-admin" not in args and (config or {}).get("admin") is not False


def _wait_until_listening(proxy: RunningProxy, awaited: tuple[int, bool]) -> None:
    count, admin = awaited

    def announced() -> bool:
        lines = proxy.output().splitlines()
        proxy.urls = [line.removeprefix(LISTENING) for line in lines if line.startswith(LISTENING)]
        proxy.admin_url = "".join(line.removeprefix(ADMIN) for line in lines if line.startswith(ADMIN))
        if proxy.process.poll() is not None:
            raise NotStarted(f"it ended with {proxy.process.returncode}: {proxy.log()}")
        return len(proxy.urls) >= count and (bool(proxy.admin_url) or not admin)

    wait_until(announced, lambda: f"it does not listen: {proxy.output()}{proxy.log()}")
