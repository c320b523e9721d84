"""What is done to a proxy: `wrk`, a large file down or up, events, idle connections.

A load takes the proxy's port and returns what was seen from outside, by the names in results.py, and how many
units (requests, bytes, events) the proxy's CPU time is to be divided by.
"""

import asyncio
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import quantiles
from tempfile import NamedTemporaryFile, TemporaryDirectory
from typing import cast

import uvloop
from processes import MIB, Failed, pinned
from proxies import APT, FILES, build_with_go, program

TRANSFERS = 5  # a round
EVENT_CONNECTIONS = 100
IDLE_CONNECTIONS = 1000
MILLISECONDS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 60e3}


@dataclass(frozen=True, slots=True)
class Seen:
    """What a load saw: figures by name, and the units of work that were done."""

    figures: dict[str, float]
    units: float


Load = Callable[[int, float, set[int]], Seen]  # port, seconds, the CPUs of the load


# ── wrk ──────────────────────────────────────────────────────────────────────────────────────────

POST = """
wrk.method = "POST"
wrk.body = string.rep("x", 10240)
wrk.headers["Content-Type"] = "application/octet-stream"
"""
MANY_PATHS = """
local requests, next = {}, 0
function init()
    for number = %d, %d do requests[#requests + 1] = wrk.format("GET", string.format("/r%%05d/x", number)) end
end
function request()
    next = (next + 7919) %% #requests
    return requests[next + 1]
end
"""


def wrk(path: str = "/", *, connections: int = 50, script: str = "", may_fail: bool = False) -> Load:
    """Return the load of requests as fast as they are answered, over `connections`.

    Without `may_fail` an answer other than 2xx fails it; with it, their share is a figure.
    """

    def load(port: int, seconds: float, cpus: set[int]) -> Seen:
        command = [program("wrk", APT), "-t1", f"-c{connections}", "-d1h", "--latency"]
        with _script(script) as option:
            command = [*pinned(cpus), *command, *option, f"http://127.0.0.1:{port}{path}"]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                pass  # as it should: it takes whole seconds only, but ends when told to
            finally:
                process.send_signal(signal.SIGINT)
                told, _ = process.communicate()
        return _read_wrk(told, may_fail=may_fail)

    return load


@contextmanager
def _script(text: str) -> Iterator[list[str]]:
    if not text:
        yield []
        return
    with NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(text)
        file.flush()
        yield ["-s", file.name]


def _read_wrk(told: str, *, may_fail: bool) -> Seen:
    total = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m)", told)
    if total is None or not int(total[1]):
        raise Failed(f"wrk had no answer: {told[-200:]}")
    if (trouble := re.search(r"Socket errors.*", told)) is not None:
        raise Failed(trouble[0])
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", told)
    if failed is not None and not may_fail:
        raise Failed(failed[0])
    requests, seconds = int(total[1]), float(total[2]) * MILLISECONDS[total[3]] / 1e3
    shares = {
        share: float(value) * MILLISECONDS[unit]
        for share, value, unit in re.findall(r"^\s+(\d+)%\s+([\d.]+)(us|ms|s|m)$", told, re.MULTILINE)
    }
    if not {"50", "99"} <= shares.keys():
        raise Failed(f"wrk told no percentiles: {told[-400:]}")
    longest = re.search(r"Latency +\S+ +\S+ +([\d.]+)(us|ms|s|m)", told)
    figures = {"rps": requests / seconds, "p50_ms": shares["50"], "p99_ms": shares["99"]}
    if longest is not None:
        figures["max_ms"] = float(longest[1]) * MILLISECONDS[longest[2]]
    if may_fail:
        figures["errors"] = int(failed[1]) / requests if failed else 0.0
    return Seen(figures, requests)


# ── at a given rate ──────────────────────────────────────────────────────────────────────────────

PACED = Path(__file__).with_name("paced.go")


def paced(*, connections: int, rate: int) -> Load:
    """Return the load of `rate` requests a second in all, over `connections`, which ask in turn."""

    def load(port: int, seconds: float, cpus: set[int]) -> Seen:
        program = Path(_built().name, "paced")
        arguments = [f"127.0.0.1:{port}", str(connections), str(rate), str(seconds)]
        command = [*pinned(cpus), str(program), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(done.stderr[-200:])
        count, p50, p99, longest = (float(each) for each in done.stdout.split())
        figures = {"rps": count / seconds, "p50_ms": p50, "p99_ms": p99, "max_ms": longest}
        return Seen(figures, count)

    return load


@cache
def _built() -> "TemporaryDirectory[str]":
    """Return the folder with the program; it goes when we do."""
    folder = TemporaryDirectory(prefix="authproxy-bench-")
    build_with_go(PACED, Path(folder.name, "paced"))
    return folder


# ── a large file ─────────────────────────────────────────────────────────────────────────────────


def download(port: int, _seconds: float, _cpus: set[int]) -> Seen:
    """Fetch the large file a few times, one after the other.

    The kernel drops the bytes unread (`MSG_TRUNC`, tcp(7)), so that the client costs next to nothing.
    """
    started, buffer = time.monotonic(), bytearray(MIB)
    received = 0
    for _ in range(TRANSFERS):
        with _connected(port) as connection:
            connection.sendall(_request("GET /large", port, "Connection: close"))
            while count := connection.recv_into(buffer, MIB, socket.MSG_TRUNC):
                received += count
    if received < TRANSFERS * FILES["large"]:
        raise Failed(f"the downloads ended after {received} bytes")
    return _transferred(time.monotonic() - started)


def upload(port: int, _seconds: float, _cpus: set[int]) -> Seen:
    """Send a large file a few times, one after the other, and wait for each answer."""
    started = time.monotonic()
    with NamedTemporaryFile() as file:
        file.truncate(FILES["large"])
        for _ in range(TRANSFERS):
            file.seek(0)
            with _connected(port) as connection:
                connection.sendall(_request("POST /", port, f"Content-Length: {FILES['large']}"))
                connection.sendfile(file)
                _expect_200(connection)
    return _transferred(time.monotonic() - started)


def _transferred(seconds: float) -> Seen:
    units = TRANSFERS * FILES["large"]
    return Seen({"gb_s": units / seconds / 1e9}, units)


def _connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def _request(what: str, port: int, *headers: str) -> bytes:
    return "\r\n".join([f"{what} HTTP/1.1", f"Host: 127.0.0.1:{port}", *headers, "", ""]).encode()


def _expect_200(connection: socket.socket) -> None:
    """Read a small answer whole."""
    answer = b""
    while not answer.endswith(b"}") and (received := connection.recv(65536)):
        answer += received
    if not answer.startswith(b"HTTP/1.1 200"):
        raise Failed(f"answered {answer[:40]!r}")


# ── events ───────────────────────────────────────────────────────────────────────────────────────


class _Listener(asyncio.Protocol):
    """Notes how old each event is when it comes."""

    def __init__(self, port: int, ages: list[float]) -> None:
        self._port = port
        self._ages = ages

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(_request("GET /events", self._port))

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        self._ages += [(now - int(sent)) / 1e6 for sent in re.findall(rb"data: (\d+)\n", data)]


def events(port: int, seconds: float, _cpus: set[int]) -> Seen:
    """Listen to server-sent events on many connections."""
    ages: list[float] = []

    async def listen() -> None:
        loop = asyncio.get_running_loop()
        transports = []
        for _ in range(EVENT_CONNECTIONS):
            transport, _protocol = await loop.create_connection(
                lambda: _Listener(port, ages), "127.0.0.1", port
            )
            transports.append(transport)
        await asyncio.sleep(seconds)
        for transport in transports:
            transport.abort()

    uvloop.run(listen())
    if len(ages) < EVENT_CONNECTIONS:
        raise Failed(f"only {len(ages)} events came")
    shares = quantiles(ages, n=100)
    return Seen({"eps": len(ages) / seconds, "p50_ms": shares[49], "p99_ms": shares[98]}, len(ages))


# ── idle connections ─────────────────────────────────────────────────────────────────────────────


@contextmanager
def idle_connections(port: int, count: int = IDLE_CONNECTIONS) -> Iterator[None]:
    """Hold `count` connections open, each of which was answered one request."""
    with ExitStack() as stack:
        for _ in range(count):
            connection = stack.enter_context(_connected(port))
            connection.sendall(_request("GET /", port))
            _expect_200(connection)
        yield


def count_tokens(port: int) -> int:
    """Return how many tokens the origin at `port` has given out."""
    with _connected(port) as connection:
        connection.sendall(_request("GET /count", port))
        return int(connection.recv(4096).partition(b"\r\n\r\n")[2])
