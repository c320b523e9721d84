"""Who listens on a port that is taken, as far as the system tells.

    /proc/net/tcp, tcp6 ── a listening socket: its inode, its user ── /proc/PID/fd ── who has that inode open

Linux shows us the descriptors of our own user's processes only, and not those of one that keeps its memory to
itself, as authproxy does; such a one is known by its command line, which everybody may read. Where there is
no /proc, nobody knows.
"""

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

from authproxy.masking import one_line

PROC = Path("/proc")
LISTENS = "0A"  # TCP_LISTEN of the kernel's tcp_states.h
OURS = "authproxy"
WORD = 4  # bytes; the kernel prints addresses word by word


@dataclass(frozen=True, slots=True)
class Listening:
    """A socket that listens: where, whose, and by which number its process has it open."""

    address: IPv4Address | IPv6Address
    port: int
    user: int
    inode: str


def owner_of(places: Iterable[tuple[int, tuple[Any, ...]]], proc: Path = PROC) -> str | None:
    """Return who listens where one of `places` cannot, for a sentence; None if that is not to be known."""
    try:
        wanted = [(ip_address(place[0].partition("%")[0]), place[1]) for _family, place in places]
        found = [each for each in _listening(proc) if any(_overlaps(each, *one) for one in wanted)]
    except (OSError, ValueError, IndexError):
        return None
    if not found:
        return None
    inodes = {f"socket:[{each.inode}]" for each in found}
    for process in _processes(proc):
        if inodes & set(_open_files(process)):
            return _named(process)
    return _hidden(proc, {each.user for each in found})


def _listening(proc: Path) -> Iterator[Listening]:
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError):
            for line in (proc / "net" / name).read_text().splitlines()[1:]:
                _, local, _, state, _, _, _, user, _, inode, *_ = line.split()
                if state == LISTENS:
                    address, _, port = local.partition(":")
                    yield Listening(_address(address), int(port, 16), int(user), inode)


def _address(text: str) -> IPv4Address | IPv6Address:
    raw = bytes.fromhex(text)
    if sys.byteorder == "little":
        raw = b"".join(raw[at : at + WORD][::-1] for at in range(0, len(raw), WORD))
    return ip_address(raw)


def _overlaps(one: Listening, address: IPv4Address | IPv6Address, port: int) -> bool:
    """Tell whether who wants `address` may be in the way of `one`."""
    if one.port != port:
        return False
    return one.address == address or one.address.is_unspecified or address.is_unspecified


def _processes(proc: Path) -> list[Path]:
    found = [each for each in proc.iterdir() if each.name.isdecimal()]
    return sorted(found, key=lambda each: int(each.name))


def _open_files(process: Path) -> Iterator[str]:
    with contextlib.suppress(OSError):  # it is somebody else's, or has ended
        for descriptor in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                yield str(descriptor.readlink())


def _named(process: Path) -> str:
    if int(process.name) == os.getpid():
        return "this authproxy, for another of its listeners"
    with contextlib.suppress(OSError):
        if _is_authproxy(process):
            return f"another authproxy (pid {process.name})"
        return f"{one_line((process / 'comm').read_text().strip())} (pid {process.name})"
    return f"the process {process.name}"


def _is_authproxy(process: Path) -> bool:
    words = (process / "cmdline").read_bytes().split(b"\0")
    return any(Path(os.fsdecode(word)).stem == OURS for word in words[:3])


def _hidden(proc: Path, users: set[int]) -> str | None:
    """Return who may have a socket that no process shows: another authproxy, or another user's process."""
    for process in _processes(proc):
        with contextlib.suppress(OSError, ValueError):
            if int(process.name) != os.getpid() and _is_authproxy(process) and _user(process) in users:
                return f"another authproxy, it seems (pid {process.name})"
    ours = getattr(os, "getuid", lambda: None)()
    return None if ours in users else "a process of another user"


def _user(process: Path) -> int:
    """Return whose process this is: its files in /proc are root's once its memory is private."""
    for line in (process / "status").read_text().splitlines():
        if line.startswith("Uid:"):
            return int(line.split()[1])
    raise ValueError("no Uid line")
