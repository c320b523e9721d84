"""The installed command as a process: how it is started, what it has said so far, how it is ended.

Nothing here waits: its two faces do, `command` by blocking and `async_command` by asyncio.

Nothing of the surroundings gets in: the process starts in an empty directory, which is its home too, and
without the environment's HTTP proxies and roots.
"""

import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

GUARD = 25.0  # seconds until something that hangs fails the test; never a measure of speed
POLL = 0.01  # seconds between two looks at a process
if sys.platform == "win32":
    COMMAND = (sys.executable, "-m", "authproxy")  # authproxy.exe starts yet another process
else:
    COMMAND = (str(Path(sysconfig.get_path("scripts"), "authproxy")),)
if sys.platform == "win32":  # SIGTERM would end it on the spot there, and Ctrl-C is for all of a console
    STOP, ITS_OWN_GROUP = signal.CTRL_BREAK_EVENT, subprocess.CREATE_NEW_PROCESS_GROUP
else:
    STOP, ITS_OWN_GROUP = signal.SIGTERM, 0
ANY_PORT = "127.0.0.1:0"
STRANGE = ("AUTHPROXY_", "XDG_", "NOTIFY_", "WATCHDOG_", "LISTEN_")  # variables of the surroundings
STRANGE_ENDS = (  # and those of its HTTP proxies and its roots
    "_PROXY", "_CERT", "_CERT_FILE", "_CERT_DIR", "_CA_BUNDLE", "_CA_CERTS", "_CA_CERTS_FILE", "_CAINFO",
    "_ROOTS_FILE_PATH", "_CA_FILE",
)  # fmt: skip
LISTENING, ADMIN = "listening on ", "admin on "


class NotStarted(AssertionError):
    """The process ended, or said nothing, before it listened."""


@dataclass
class Launched:
    """A proxy that was started; where it listens is known once `is_listening` has been true."""

    process: subprocess.Popen[bytes]
    directory: Path
    config_file: Path | None
    listeners: int
    has_admin: bool
    urls: list[str] = field(default_factory=list)
    own: dict[str, str] = field(default_factory=dict)
    """The URL of each route that has a listener of its own."""
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
        """Return what it wrote to stderr so far; `stop` first, as access lines wait a moment for others."""
        return (self.directory / "stderr").read_text(encoding="utf-8", errors="replace")

    def is_listening(self) -> bool:
        """Whether every listener has been announced. Raises `NotStarted` when none will be any more."""
        lines = self.output().splitlines()
        said = [line.removeprefix(LISTENING).split(" for ") for line in lines if line.startswith(LISTENING)]
        self.urls = [each[0] for each in said if len(each) == 1]
        self.own = {each[1]: each[0] for each in said if len(each) == 2}
        self.admin_url = "".join(line.removeprefix(ADMIN) for line in lines if line.startswith(ADMIN))
        if self.has_ended():
            raise NotStarted(f"it ended with {self.process.returncode}: {self.log()}")
        announced = len(self.urls) + len(self.own)
        return announced >= self.listeners and (bool(self.admin_url) or not self.has_admin)

    def why_not_listening(self) -> str:
        return f"it does not listen: {self.output()}{self.log()}"

    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def signal(self, number: int = STOP) -> None:
        """Send a signal, unless it has ended."""
        self.process.send_signal(number)


Kind = TypeVar("Kind", bound=Launched)


@contextmanager
def launched(
    kind: type[Kind],
    config: Mapping[str, Any] | None,
    *args: str,
    env: Mapping[str, str] | None = None,
    verb: str = "run",
    files: int | None = None,
    stderr: int | None = None,
    before: tuple[str, ...] = (),
    inherits: tuple[int, ...] = (),
) -> Iterator[Kind]:
    """Start the proxy with `config`; its ports are free ones unless it says otherwise.

    At the end of the block its face has ended it, or it is killed.

    `config` is None for a command line that needs no file; `files` limits the descriptors there are;
    `stderr` is a descriptor to write to instead of the file that `log` reads; `before` stands in front of the
    command, which has the descriptors that it `inherits`.
    """
    with tempfile.TemporaryDirectory(prefix="authproxy-") as made:
        directory = Path(made)
        file = None
        if config is not None:
            config = {"listen": ANY_PORT, "admin": {"listen": ANY_PORT}, **config}
            file = write_config(directory, config)
            args = ("-c", str(file), *args)
        with (directory / "stdout").open("wb") as stdout, (directory / "stderr").open("wb") as log:
            process = subprocess.Popen(
                [*(limited_to(files) if files else before), *COMMAND, verb, *args],
                cwd=directory, env=environment(directory, env), stdin=subprocess.DEVNULL,
                stdout=stdout, stderr=log if stderr is None else stderr, pass_fds=inherits,
                creationflags=ITS_OWN_GROUP,
            )  # fmt: skip
        proxy = kind(process, directory, file, *_to_be_announced(config, args))
        try:
            yield proxy
        except BaseException:
            print(proxy.output(), proxy.log(), sep="\n", file=sys.stderr)  # pytest shows it with the failure
            raise
        finally:
            if not proxy.has_ended():
                process.kill()
                process.wait()


def _to_be_announced(config: Mapping[str, Any] | None, args: tuple[str, ...]) -> tuple[int, bool]:
    """Return how many listeners are to be announced, and whether the admin listener is."""
    listen = (config or {}).get("listen", ANY_PORT)
    count = args.count("--listen") or (len(listen) if isinstance(listen, list) else 1)
    count += sum("listen" in route for route in (config or {}).get("routes", []))
    return count, "--no-admin" not in args and (config or {}).get("admin") is not False


def limited_to(files: int) -> tuple[str, ...]:
    """Return what goes before a command line to have it run with `files` descriptors and no more."""
    return ("sh", "-c", f'ulimit -n {files} && exec "$@"', "sh")


def write_config(directory: Path, config: Mapping[str, Any] | str) -> Path:
    """Write a configuration into `directory` and return its path."""
    file = directory / "authproxy-test.yaml"
    text = config if isinstance(config, str) else yaml.safe_dump(dict(config), sort_keys=False)
    file.write_text(text, encoding="utf-8")
    file.chmod(0o600)
    return file


def environment(directory: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a process that nothing of the surroundings should reach."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().endswith(STRANGE_ENDS) and not name.startswith(STRANGE)
    }
    # So that who is not root may look at its descriptors in /proc.
    return {**kept, "HOME": str(directory), "AUTHPROXY_DUMPABLE": "1", **(more or {})}
