"""What a service manager is told of us: that we are ready, reload, stop, live (sd_notify(3)).

    READY=1 ── WATCHDOG=1 … ── RELOADING=1 ── READY=1 ── STOPPING=1

Each is a datagram of NAME=VALUE lines to the socket that NOTIFY_SOCKET names; without one nobody is told. A
socket that cannot be reached is a warning and never a failure.

The variables are taken out of the environment: what we start must not speak for us.
"""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Iterable, MutableMapping

from authproxy import logs
from authproxy.capabilities import AF_UNIX, UNIX_SOCKETS

SEND_SECONDS = 0.5  # how long a service manager that does not read holds us up
MAX_STATUS = 500  # characters; systemd drops a datagram of more than 4 KiB
STOPPING = "stopping: finishing what is in flight"
RELOADING = "reading the configuration again"


class Notify:
    """Tells the service manager at `address`, a path or `@name`; nobody if that is None.

    `watchdog` is how often, in seconds, it wants to hear that we live; None for never.
    """

    def __init__(self, address: str | None = None, watchdog: float | None = None) -> None:
        self.watchdog = watchdog
        self._address = address
        self._socket: socket.socket | None = None
        self._warned = False

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str] = os.environ) -> "Notify":
        """Return what NOTIFY_SOCKET and the watchdog's variables ask for, and take them away."""
        address = environ.pop("NOTIFY_SOCKET", None)
        microseconds = environ.pop("WATCHDOG_USEC", "")
        ours = environ.pop("WATCHDOG_PID", None) in {None, str(os.getpid())}
        if not address or not UNIX_SOCKETS:
            return cls()
        watched = ours and microseconds.isdecimal() and int(microseconds) > 0
        return cls(address, int(microseconds) / 1e6 if watched else None)

    def __bool__(self) -> bool:
        return self._address is not None

    def ready(self, status: str | None = None) -> None:
        """Tell that we serve, after the start or after `reloading`."""
        self._send("READY=1", *_status(status))

    def reloading(self) -> None:
        """Tell that the configuration is read again; `ready` ends it, however it went."""
        # Both clocks are CLOCK_MONOTONIC; systemd takes a READY=1 for an answer only if it is newer.
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", *_status(RELOADING))

    def stopping(self) -> None:
        """Tell that we are about to end."""
        self._send("STOPPING=1", *_status(STOPPING))

    def status(self, text: str) -> None:
        """Tell in a line how things are; an operator reads it in `systemctl status`."""
        self._send(*_status(text))

    def alive(self) -> None:
        """Tell that we live. Nothing waits for that: it is said again."""
        self._send("WATCHDOG=1", waits=False)

    def watch(self) -> None:
        """Tell that we live, twice in the time of the watchdog, as long as the running loop does."""
        if self and self.watchdog is not None:
            keep_calling(self.alive, self.watchdog / 2)

    def _send(self, *lines: str, waits: bool = True) -> None:
        if self._address is None:
            return
        # "@" stands for the null byte that an abstract name begins with (unix(7)).
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            if self._socket is None:  # kept: when descriptors run out we live all the same
                self._socket = socket.socket(AF_UNIX, socket.SOCK_DGRAM)
            self._socket.settimeout(SEND_SECONDS if waits else 0)
            self._socket.sendto("\n".join(lines).encode(errors="replace"), address)
        except OSError as error:
            if not self._warned:
                self._warned = True
                cause = error.strerror or str(error)
                logs.warning("cannot notify the service manager", socket=self._address, cause=cause)


NOBODY = Notify()


def keep_calling(call: Callable[[], None], seconds: float) -> None:
    """Make `call` now, and every so many seconds while the running loop runs."""
    call()
    asyncio.get_running_loop().call_later(seconds, keep_calling, call, seconds)


def serving_status(routes: int, urls: Iterable[str]) -> str:
    """Return the line that says that so many routes are served at `urls`."""
    return f"serving {routes} route{'s' if routes > 1 else ''} on {', '.join(urls)}"


def _status(text: str | None) -> list[str]:
    """Return the line that tells `text`, on one line and not too long."""
    return [f"STATUS={' '.join(text.split())[:MAX_STATUS]}"] if text else []
