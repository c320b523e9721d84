"""What systemd does for a service: it opens its sockets, and hears from it (sd_listen_fds(3), sd_notify(3)).

with NotifySocket() as manager, running_proxy(config, env=manager.env()) as proxy:
    assert manager.hears("READY=1")["STATUS"].startswith("serving")

with running_proxy(config, **passing(sock, name="admin")) as proxy:
    ...
"""

import os
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Self

from tests.support.launch import GUARD

PASS_ON = """
import fcntl, os, sys
names, *rest = sys.argv[1:]
count = len(names.split(":"))
kept = [fcntl.fcntl(int(each), fcntl.F_DUPFD_CLOEXEC, 100) for each in rest[:count]]
for number, each in enumerate(kept):
    os.dup2(each, 3 + number)
os.environ.update(LISTEN_PID=os.environ.get("LISTEN_PID", str(os.getpid())), LISTEN_FDS=str(count))
os.environ.update(LISTEN_FDNAMES=names)
os.execv(rest[count], rest[count:])
"""


def passing(*sockets: socket.socket, names: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return options of `running_proxy` that pass it `sockets`, called what systemd calls them or `names`."""
    called = ":".join(names or ("authproxy.socket",) * len(sockets))
    descriptors = [sock.fileno() for sock in sockets]
    return {
        "before": (sys.executable, "-c", PASS_ON, called, *map(str, descriptors)),
        "inherits": tuple(descriptors),
    }


class NotifySocket:
    """Where a service tells how it is; `messages` are all that came so far."""

    def __init__(self, *, abstract: bool = False) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="notify-")
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        if abstract:
            self.address = f"@authproxy-test-{os.getpid()}-{time.monotonic_ns()}"
            self._sock.bind(f"\0{self.address[1:]}")
        else:
            self.address = str(Path(self._directory.name, "notify"))
            self._sock.bind(self.address)
        self.messages: list[dict[str, str]] = []

    def env(self, *, watchdog: float | None = None) -> dict[str, str]:
        """Return the variables that systemd sets; `watchdog` is in seconds."""
        if watchdog is None:
            return {"NOTIFY_SOCKET": self.address}
        return {"NOTIFY_SOCKET": self.address, "WATCHDOG_USEC": str(int(watchdog * 1e6))}

    def next(self, seconds: float = GUARD) -> dict[str, str] | None:
        """Return the next message, or None if none comes in so many seconds."""
        self._sock.settimeout(seconds)
        try:
            data = self._sock.recv(4096)
        except (TimeoutError, BlockingIOError):
            return None
        self.messages.append(dict(line.split("=", 1) for line in data.decode().split("\n")))
        return self.messages[-1]

    def hears(self, line: str) -> dict[str, str]:
        """Return the next message with that line in it; those before it are dropped."""
        name, _, value = line.partition("=")
        while (message := self.next()) is not None:
            if message.get(name) == value:
                return message
        raise AssertionError(f"never heard {line}, but {self.messages}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()
        self._directory.cleanup()
