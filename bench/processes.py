"""Programs that run for the length of a block, on CPUs of their own, and what the kernel knows of them."""

import contextlib
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

START_SECONDS = 30.0  # 10,000 routes take some proxies a while
STOP_SECONDS = 1.0  # what is measured has been: no need to wait for a drain
MIB = 1 << 20


class Failed(Exception):
    """A program did not start, or answered what it should not."""


@dataclass(frozen=True, slots=True)
class Command:
    """What to start: the arguments, and what is added to the environment."""

    arguments: list[str]
    environment: dict[str, str] = field(default_factory=dict)


# ── starting and stopping ────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def running(command: Command, port: int, log: Path, *, cpus: set[int]) -> Iterator[int]:
    """Run `command` on `cpus` until the block ends; yield its process id once it listens on `port`.

    Raises `Failed` with the last thing it wrote when it does not come up.
    """
    process = start(command, log, cpus=cpus)
    try:
        wait_until_listening(process, port, log)
        yield process.pid
    finally:
        stop(process)


def start(command: Command, log: Path, *, cpus: set[int]) -> "subprocess.Popen[bytes]":
    """Start `command`; what it prints goes to `log`."""
    with log.open("wb") as output:
        return subprocess.Popen(
            [*pinned(cpus), *command.arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | command.environment,
        )


def pinned(cpus: set[int]) -> list[str]:
    """Return what to put before a command to keep it on `cpus`; it becomes the command, same process."""
    taskset = shutil.which("taskset")
    return [taskset, "-c", ",".join(map(str, sorted(cpus)))] if taskset else []


def wait_until_listening(
    process: "subprocess.Popen[bytes]", port: int, log: Path, *, every: float = 0.02
) -> None:
    """Return once `port` takes a connection. Raises `Failed`."""
    give_up_at = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up_at and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=2).close()
        except OSError:
            time.sleep(every)
        else:
            return
    written = log.read_text(errors="replace").strip().splitlines()
    raise Failed(written[-1][:200] if written else "it does not listen")


def wait_until_answering(port: int) -> None:
    """Return once a `GET /` at `port` is answered 200: some listen before they know where to forward to.

    Raises `Failed`.
    """
    give_up_at = time.monotonic() + START_SECONDS
    status = 0
    while status != http.client.OK:
        if time.monotonic() > give_up_at:
            raise Failed(f"it answers {status}")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
            connection.request("GET", "/r00000/x")
            status = connection.getresponse().status
        if status != http.client.OK:
            time.sleep(0.005)


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End `process`; if it does not want to, end it and its descendants by force."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        for pid in reversed(family(process.pid)):
            os.kill(pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# ── what the kernel knows ────────────────────────────────────────────────────────────────────────


def family(pid: int) -> list[int]:
    """Return `pid` and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (parent := _status(int(entry.name), "PPid")) is not None:
            children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def cpu_seconds(pid: int) -> float:
    """Return the user and system time of `pid`, of its threads and of its descendants that live.

    From the kernel's CPU clock of a process, clock_getcpuclockid(3): nanoseconds, where /proc/PID/stat
    counts hundredths of a second.
    """
    total = 0.0
    for each in family(pid):
        try:
            total += time.clock_gettime(~each << 3 | 2)
        except OSError:  # it has ended meanwhile
            continue
    return total


def peak_bytes(pid: int) -> int:
    """Return the peak resident memory of `pid` and its descendants; pages they share count for each."""
    return sum((_status(each, "VmHWM") or 0) * 1024 for each in family(pid))


def resident_bytes(pid: int) -> int:
    """Return the resident memory of `pid` and its descendants; pages they share count for each."""
    return sum((_status(each, "VmRSS") or 0) * 1024 for each in family(pid))


def _status(pid: int, key: str) -> int | None:
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it has ended meanwhile
        return None
    match = re.search(rf"^{key}:\s+(\d+)", text, re.MULTILINE)
    return int(match[1]) if match else None
