"""This process, made to look to authproxy as one on Windows does; see `tests/live/test_windows.py`.

What others' packages need of the system they have got before: they are not what is tried here.
"""

import asyncio
import importlib
import os
import pkgutil
import select
import signal
import socket
import sys
from types import ModuleType
from typing import Any

import authproxy
from authproxy.capabilities import fcntl

POSIX_ONLY = {
    os: ["fork", "geteuid", "getuid", "sched_getaffinity", "register_at_fork", "killpg", "setpgid", "WNOHANG",
         "O_NOFOLLOW", "O_NONBLOCK", "O_DIRECTORY"],
    socket: ["AF_UNIX", "SO_REUSEPORT"],
    signal: ["SIGCHLD", "SIGKILL", "SIGHUP", "pthread_sigmask", "sigwait", "SIG_BLOCK", "SIG_SETMASK"],
    select: ["poll", "POLLIN"],
}  # fmt: skip
NO_MODULES = ["fcntl", "resource", "uvloop", "pwd", "grp", "termios"]


def modules() -> list[str]:
    """Return the names of all modules of authproxy."""
    found = pkgutil.walk_packages(authproxy.__path__, "authproxy.")
    return ["authproxy", *(each.name for each in found if not each.name.endswith("__main__"))]


class Msvcrt(ModuleType):
    """Locks as Windows does: who finds one taken hears EACCES. Held by the open file, as `flock` is."""

    LK_NBLCK, LK_UNLCK = 2, 0

    def locking(self, descriptor: int, mode: int, count: int) -> None:
        assert count == 1
        try:
            fcntl.flock(descriptor, fcntl.LOCK_UN if mode == self.LK_UNLCK else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PermissionError from error


def become_windows() -> asyncio.AbstractEventLoop:
    """Take away what Windows has not, and import authproxy anew; return a loop that was made before."""
    for name in modules():
        importlib.import_module(name)
    loop: Any = asyncio.new_event_loop()
    for name in [each for each in sys.modules if each.partition(".")[0] == "authproxy"]:
        del sys.modules[name]
    blocked: dict[str, Any] = dict.fromkeys(NO_MODULES)
    sys.modules.update(blocked, msvcrt=Msvcrt("msvcrt"))
    for module, names in POSIX_ONLY.items():
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    sys.platform = "win32"

    def refuse(*_args: object) -> None:
        raise NotImplementedError

    loop.add_signal_handler = refuse
    for name in modules():
        importlib.import_module(name)
    return loop
