"""Takes away what AUTHPROXY_LACKS names, as an interpreter starts that has this directory on its path.

    fcntl                        a module: to import it is an error
    os.fork                      a name in a module
    asyncio.add_signal_handler   the way in which a loop hears signals
    HOME                         the variable, and the system's entry for the user

What others' packages need of it they have got before: they are not what is tried here.
"""

import importlib
import os
import socket
import sys
from functools import partial
from typing import Any

BEFORE = ("aiohttp.web", "asyncio", "ctypes", "platformdirs", "subprocess", "uvloop")
LOOP = "asyncio.add_signal_handler"
NO_UVLOOP = {LOOP, "socket.AF_UNIX"}  # uvloop needs it all the time, and has the handler in it


def take_away(name: str) -> None:
    place, _, attribute = name.rpartition(".")
    if name in NO_UVLOOP:
        sys.modules["uvloop"] = None  # type: ignore[assignment]
    if name == "socket.AF_UNIX":  # a loop wakes itself by a pair of sockets, of whatever family there is
        socket.socketpair = partial(socket.socketpair, socket.AF_UNIX)  # type: ignore[assignment]
    if name == LOOP:
        events: Any = importlib.import_module("asyncio.unix_events")
        del events._UnixSelectorEventLoop.add_signal_handler
    elif name == "HOME":
        del os.environ["HOME"]
        pwd: Any = importlib.import_module("pwd")
        pwd.getpwuid = {}.__getitem__  # which raises KeyError, too
    elif place:
        delattr(importlib.import_module(place), attribute)
    else:
        sys.modules[name] = None  # type: ignore[assignment]
    print(f"without {name}", file=sys.stderr, flush=True)


names = os.environ.pop("AUTHPROXY_LACKS", "").split()
if names:
    for each in BEFORE:
        importlib.import_module(each)
    for each in names:
        take_away(each)
