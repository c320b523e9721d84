"""A Linux machine of its own, made of namespaces: a copy of this one, of which every change is forgotten.

    with machine(directory, ["/usr/bin/prog"], files={"/etc/prog.conf": "…"}) as made:
        with made.network():
            upstream = Upstream()               a socket in there, whose threads are here
            assert get("http://127.0.0.1:8080").status == 200
        made.signal(SIGTERM)

The program is process 1 there, as in a container, and has a loopback interface that nobody else uses, so that
what is shipped can be run with the ports that it names. That takes root.
"""

import contextlib
import ctypes
import itertools
import os
import shlex
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import pytest

from tests.support.command import wait_until
from tests.support.installed import need, where
from tests.support.launch import GUARD

ROOT = Path(__file__).parents[2]
INSTALLED = "/opt/authproxy/bin/authproxy"
"""The command as a machine of ours has it, where no home directory is needed to run it."""

CLONE_NEWNET = 0x40000000  # sched.h
MAKE = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs {space}
mkdir {space}/upper {space}/work {space}/root
mount -t overlay overlay -o lowerdir=/,upperdir={space}/upper,workdir={space}/work {space}/root
cp -a {files}/. {space}/root/
cd {space}/root
mount --rbind /dev dev
mount -t proc proc proc
mount -t sysfs sysfs sys
{more}
mkdir old
pivot_root . old
umount -l old
rmdir old
ip link set lo up
{then}
echo made >&0  # where the standard input would be
exec {command} </dev/null
"""


def _bind(at: str, source: Path) -> str:
    return f"mkdir -p .{at} && mount --bind {shlex.quote(str(source))} .{at}"


@dataclass
class Machine:
    """A machine that is up; what its first process writes is in `output` and `log`."""

    process: subprocess.Popen[bytes]
    directory: Path

    @property
    def pid(self) -> int:
        """The first process there, as its number is here."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return int(children.split()[0])

    def output(self) -> str:
        return (self.directory / "stdout").read_text("utf-8", errors="replace")

    def log(self) -> str:
        return (self.directory / "stderr").read_text("utf-8", errors="replace")

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Send the first process a signal, as a container's manager does."""
        os.kill(self.pid, number)

    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def wait(self) -> int:
        """Return the exit code, once there is one."""
        return self.process.wait(GUARD)

    @contextmanager
    def network(self) -> Iterator[None]:
        """Have the sockets that this thread makes in the block be of that machine."""
        with (
            Path("/proc/thread-self/ns/net").open() as ours,
            Path(f"/proc/{self.process.pid}/ns/net").open() as theirs,
        ):
            _enter(theirs.fileno())
            try:
                yield
            finally:
                _enter(ours.fileno())

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command there, as root."""
        return subprocess.run(
            ["nsenter", "--target", str(self.pid), "--all", "--", *command],
            capture_output=True, text=True, timeout=GUARD, check=False,
        )  # fmt: skip

    def processes(self) -> dict[str, str]:
        """Return the names of the processes there, and the letters of their states (proc(5))."""
        found = {}
        for stat in Path(f"/proc/{self.pid}/root/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                _, _, rest = stat.read_text("utf-8").partition("(")
                name, _, state = rest.rpartition(") ")
                found[f"{name} {stat.parent.name}"] = state[:1]
        return found


def _enter(network: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(network, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


@contextmanager
def machine(
    directory: Path,
    command: Sequence[str],
    *,
    files: Mapping[str, str] | None = None,
    binds: Mapping[str, Path] | None = None,
    user: int | None = None,
    env: Mapping[str, str] | None = None,
    before: str = "",
    then: str = "",
    read_only: bool = False,
    own_network: bool = True,
) -> Iterator[Machine]:
    """Start `command` as process 1; what is left of it at the end of the block is killed.

    `files` are texts by their paths, `binds` are directories of this machine by the paths they have there,
    `before` and `then` are lines of shell from before and after the new root is entered. `user` is a number
    without privileges; without it, it is root. `env` is all of its environment, apart from PATH. Without a
    network of its own it has that of this machine.
    """
    need("unshare", "nsenter", "ip", "setpriv")
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("root alone can make namespaces with all that this takes")
    for name, text in (files or {}).items():
        path = directory / "files" / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755 if text.startswith("#!") else 0o644)
    (directory / "files").mkdir(parents=True, exist_ok=True)
    space = directory / "space"
    space.mkdir()
    as_user = [] if user is None else [
        "setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--no-new-privs",
        "--bounding-set=-all", "--inh-caps=-all", "--",
    ]  # fmt: skip
    variables = [f"{name}={value}" for name, value in {"PATH": os.environ["PATH"], **(env or {})}.items()]
    if read_only:
        then += "\nmount -o remount,ro /"
    reading, writing = os.pipe()
    script = MAKE.format(
        space=shlex.quote(str(space)),
        files=shlex.quote(str(directory / "files")),
        more="\n".join([*itertools.starmap(_bind, (binds or {}).items()), before]),
        then=then,
        command=shlex.join(["env", "-i", *variables, *as_user, *command]),
    )
    with (directory / "stdout").open("wb") as stdout, (directory / "stderr").open("wb") as log:
        process = subprocess.Popen(
            ["unshare", "--fork", "--kill-child=KILL", "--pid", "--mount", "--ipc", "--uts", "--cgroup",
             *(["--net"] if own_network else []), "sh", "-c", script],
            stdin=writing, stdout=stdout, stderr=log,
        )  # fmt: skip
    os.close(writing)
    made = Machine(process, directory)
    try:
        with os.fdopen(reading) as ready:
            assert ready.readline() == "made\n", made.log()
        yield made
    except BaseException:
        print(made.output(), made.log(), sep="\n", file=sys.stderr)  # pytest shows it with the failure
        raise
    finally:
        # With process 1 all in there end. One that has changed its user hears nothing of its parent's end.
        for first in _children(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(first, signal.SIGKILL)
        process.kill()
        process.wait()


def _children(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]
    except OSError:  # it has ended
        return []


# ── the command there ────────────────────────────────────────────────────────────────────────────


class Installed(TypedDict):
    """The `files` and the `binds` of a machine."""

    files: dict[str, str]
    binds: dict[str, Path]


def installed() -> Installed:
    """Return what a machine needs on which the command is `INSTALLED`.

    Where Python is on this machine, a service without a home may not look.
    """
    main = (
        "#!/bin/sh\n"
        "export LD_LIBRARY_PATH=/opt/python/lib PYTHONPATH=/opt/authproxy/source:/opt/authproxy/packages\n"
        'exec /opt/python/bin/python3 -P -m authproxy "$@"\n'
    )
    binds = {
        "/opt/python": Path(sys.base_prefix),
        "/opt/authproxy/packages": Path(sysconfig.get_path("purelib")),
        "/opt/authproxy/source/authproxy": ROOT / "authproxy",
    }
    return {"files": {INSTALLED: main}, "binds": binds}


def program(name: str) -> str:
    """Return where a program is, which may be in a directory that not everybody searches."""
    need(name)
    found = where(name)
    assert found is not None
    return found


def wait_until_up(made: Machine, condition: Callable[[], object], what: str) -> None:
    """Wait until `condition` holds; fail at once when the machine is gone."""

    def there() -> bool:
        assert not made.has_ended(), f"the machine went down: {made.output()}{made.log()}"
        return bool(condition())

    wait_until(there, lambda: f"{what}: {made.output()}{made.log()}")
