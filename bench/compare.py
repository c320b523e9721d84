"""Compares authproxy with other proxies, one after the other, in one run on one machine.

    load (wrk, or a download) ──► proxy ──► origin (nginx)
    └───────── CPU 1 ─────────┘  CPU 0     CPU 1

Each round starts every proxy once, afresh, and the rounds alternate between them, so that a busy
moment of the machine does not fall on one alone. bench/README.md says how to read the result.
"""

import argparse
import http.client
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from proxies import AUTHORIZATION, DOWNLOAD_BYTES, PROXIES, REFERENCE, Place, Proxy, origin_command

PROXY_CPU, LOAD_CPU = 0, 1
START_SECONDS = 15.0
STOP_SECONDS = 5.0
DOWNLOADS = 10  # a round
TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1 << 20


class Failed(Exception):
    """A proxy could not be measured."""


@dataclass(frozen=True, slots=True)
class Load:
    """What was asked of a proxy: `units` requests or bytes, in `seconds`."""

    units: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One round of one proxy: its load, its CPU time, and the peak of its memory in bytes."""

    load: Load
    cpu_seconds: float
    peak_bytes: int


# ── what the kernel knows of a process ───────────────────────────────────────────────────────────


def family(pid: int) -> list[int]:
    """Return `pid` and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (stat := _stat(int(entry.name))):
            children.setdefault(int(stat[1]), []).append(int(entry.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def cpu_seconds(pid: int) -> float:
    """Return the user and system time of `pid`, of its threads and its descendants."""
    return sum(int(stat[11]) + int(stat[12]) for each in family(pid) if (stat := _stat(each))) / TICKS


def peak_bytes(pid: int) -> int:
    """Return the peak resident memory of `pid` and its descendants; pages they share count for each."""
    total = 0
    for each in family(pid):
        match = re.search(r"VmHWM:\s+(\d+) kB", _read(Path(f"/proc/{each}/status")))
        total += int(match[1]) * 1024 if match else 0
    return total


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; the name before them may hold spaces."""
    return _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has ended meanwhile
        return ""


# ── starting and stopping ────────────────────────────────────────────────────────────────────────


@contextmanager
def running(
    command: list[str], port: int, log: Path, *, cpu: int, authorization: str | None = None
) -> Iterator[int]:
    """Run `command` until the block ends; yield its process id once `port` answers 200.

    Raises `Failed` with the last thing it wrote when it does not come up.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*pinned(cpu), *command], stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        wait_until_ready(process, port, log, {"Authorization": authorization} if authorization else {})
        yield process.pid
    finally:
        stop(process)


def pinned(cpu: int) -> list[str]:
    """Return what to put before a command to keep it on `cpu`."""
    taskset = shutil.which("taskset")
    return [taskset, "-c", str(cpu)] if taskset and (os.cpu_count() or 1) > LOAD_CPU else []


def wait_until_ready(
    process: "subprocess.Popen[bytes]", port: int, log: Path, headers: dict[str, str]
) -> None:
    give_up_at = time.monotonic() + START_SECONDS
    answer = "no answer"
    while time.monotonic() < give_up_at and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", "/", headers=headers)
            status = connection.getresponse().status
        except OSError:
            pass
        else:
            if status == http.client.OK:
                return
            answer = f"answered {status}"
        finally:
            connection.close()
        time.sleep(0.05)
    written = log.read_text(errors="replace").strip().splitlines()
    raise Failed(written[-1] if written else answer)


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


# ── loads ────────────────────────────────────────────────────────────────────────────────────────


def small_requests(port: int, seconds: float, connections: int) -> Load:
    """Ask for the small answer as fast as it comes."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", f"http://127.0.0.1:{port}/"]
    told = subprocess.run([*pinned(LOAD_CPU), *command], check=True, capture_output=True, text=True).stdout
    match = re.search(r"(\d+) requests in ([\d.]+)(m?s)", told)
    trouble = re.search(r"(Non-2xx.*|Socket errors.*)", told)
    if match is None or trouble is not None:
        raise Failed(trouble[1] if trouble else "wrk said nothing")
    return Load(float(match[1]), float(match[2]) / (1000 if match[3] == "ms" else 1))


def downloads(port: int, _seconds: float, _connections: int) -> Load:
    """Fetch the large file a few times, one after the other."""
    started = time.monotonic()
    received = sum(download(port) for _ in range(DOWNLOADS))
    return Load(received, time.monotonic() - started)


def download(port: int) -> int:
    """Fetch the large file once; return the bytes that arrived.

    The kernel drops them unread (`MSG_TRUNC`, tcp(7)), so that the client costs next to nothing.
    """
    received = 0
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        request = f"GET /file HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode())
        buffer = bytearray(MIB)
        while count := connection.recv_into(buffer, MIB, socket.MSG_TRUNC):
            received += count
    if received < DOWNLOAD_BYTES:
        raise Failed(f"the download ended after {received} bytes")
    return received


# ── measuring ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Scenario:
    """A kind of load, and how its result is told."""

    load: Callable[[int, float, int], Load]
    cost: str
    cost_per_unit: float
    speed: str
    speed_per_unit: float


SCENARIOS = {
    "small": Scenario(small_requests, "CPU µs/request", 1e6, "requests/s", 1.0),
    "download": Scenario(downloads, "CPU ms/GiB", 1e3 * (1 << 30), "GB/s", 1e-9),
}


def measure(proxy: Proxy, scenario: Scenario, options: argparse.Namespace, place: Place) -> Sample | None:
    """Start `proxy`, load it, stop it; return None where it is not installed."""
    command = proxy.command(place)
    if command is None:
        return None
    log = place.folder / f"{proxy.name}.log"
    with running(command, place.port, log, cpu=PROXY_CPU) as pid:
        scenario.load(place.port, options.warm_up, options.connections)
        before = cpu_seconds(pid)
        load = scenario.load(place.port, options.seconds, options.connections)
        return Sample(load, cpu_seconds(pid) - before, peak_bytes(pid))


def compare(options: argparse.Namespace) -> int:
    """Run all rounds and print the table; return the exit code."""
    scenario = SCENARIOS[options.scenario]
    chosen = [proxy for proxy in PROXIES if not options.only or proxy.name in options.only]
    samples: dict[str, list[Sample]] = {}
    remarks: dict[str, str] = {}
    failed = False
    with tempfile.TemporaryDirectory(prefix="authproxy-bench-") as name:
        folder, origin_port = Path(name), free_port()
        origin = origin_command(Place(origin_port, origin_port, folder))
        log = folder / "origin.log"
        with running(origin, origin_port, log, cpu=LOAD_CPU, authorization=AUTHORIZATION):
            for round_number in range(1, options.rounds + 1):
                for proxy in chosen:
                    if proxy.name in remarks:
                        continue
                    print(f"round {round_number}/{options.rounds}: {proxy.name}", file=sys.stderr)
                    try:
                        sample = measure(proxy, scenario, options, Place(free_port(), origin_port, folder))
                    except (Failed, OSError, subprocess.CalledProcessError) as error:
                        remarks[proxy.name] = f"failed: {error}"
                        failed = True
                        continue
                    if sample is None:
                        remarks[proxy.name] = "not installed"
                    else:
                        samples.setdefault(proxy.name, []).append(sample)
    print_table(scenario, [proxy.name for proxy in chosen], samples, remarks)
    return int(failed)


def print_table(
    scenario: Scenario, names: list[str], samples: dict[str, list[Sample]], remarks: dict[str, str]
) -> None:
    """Print the medians, the cost as a share of Go's, and how far the rounds lay apart."""

    def cost(sample: Sample) -> float:
        return sample.cpu_seconds / sample.load.units * scenario.cost_per_unit

    def speed(sample: Sample) -> float:
        return sample.load.units / sample.load.seconds * scenario.speed_per_unit

    reference = samples.get(REFERENCE)
    cost_of_reference = statistics.median(map(cost, reference)) if reference else None
    digits = 2 if scenario.speed_per_unit < 1 else 0
    print(f"{'':16} {scenario.cost:>15} {'rounds':>15} {'of Go':>7} {scenario.speed:>11} {'peak MiB':>9}")
    for name in names:
        if name in remarks:
            print(f"{name:16} {remarks[name]}")
            continue
        costs = sorted(map(cost, samples[name]))
        median = statistics.median(costs)
        share = f"{median / cost_of_reference:.2f}" if cost_of_reference else "-"
        spread = f"{costs[0]:.1f}-{costs[-1]:.1f}"
        fast = f"{statistics.median(map(speed, samples[name])):,.{digits}f}"
        peak = statistics.median(sample.peak_bytes for sample in samples[name]) / MIB
        print(f"{name:16} {median:15.1f} {spread:>15} {share:>7} {fast:>11} {peak:9.0f}")


def main() -> int:
    """Read the command line, and compare."""
    parser = argparse.ArgumentParser(description="Compare authproxy with other reverse proxies.")
    parser.add_argument("--scenario", choices=SCENARIOS, default="small")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of load a round (small)")
    parser.add_argument("--warm-up", type=float, default=1.0, help="seconds of load before that (small)")
    parser.add_argument("--connections", type=int, default=50, help="of wrk (small)")
    parser.add_argument("--only", action="append", metavar="NAME", choices=[each.name for each in PROXIES])
    options = parser.parse_args()
    if options.scenario == "small" and shutil.which("wrk") is None:
        parser.error("wrk is not installed; it makes the load")
    if pinned(LOAD_CPU):
        os.sched_setaffinity(0, {LOAD_CPU})
    else:
        print("note: not pinned to CPUs, so expect noise", file=sys.stderr)
    return compare(options)


if __name__ == "__main__":
    sys.exit(main())
