"""CPU time a request without a network: bytes in at one end of the proxy, out at the other, in one process.

    request ─▶ fake transport ─▶ ProxyServer ─▶ upstream connection ─▶ fake transport ─▶ seen
       seen ◀─ fake transport ◀─ ProxyServer ◀─ upstream connection ◀─ fake transport ◀─ reply

For small differences, which a machine that does other work hides from `compare.py`. The proxy is
`authproxy run` itself; only the loop is ours: where it is asked for a server it keeps the factory, where it
is asked for a connection it returns one whose transport keeps what is written. So no name of the proxy's
inside is needed here. One µs here is two to four over a socket.

With `--baseline` another checkout is measured in turn, and the ratio is the median of the rounds'.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import NamedTemporaryFile, TemporaryFile
from typing import Any

import uvloop

ROOT = Path(__file__).parent.parent
BLOCK = 2_000  # requests between two looks at the clock
TURNS = 100  # of the loop that a request may take; from then on it waits for something
LOST_SECONDS = 5.0
START_SECONDS = 30.0
END = 4  # bytes by which one knows that all has come: of a head, of the last chunk, or of a body


def _head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode()


PYTHON = (
    "Host: localhost:8080", "User-Agent: python-requests/2.32.3", "Accept-Encoding: gzip, deflate",
    "Accept: application/json", "Connection: keep-alive",
)  # fmt: skip
REPLY = (
    "HTTP/1.1 200 OK",
    "Server: nginx",
    "Date: Tue, 25 Nov 2025 22:51:01 GMT",
    "Content-Type: application/json",
)
SMALL = _head(*REPLY, "Content-Length: 150") + b"." * 149 + b"!"
LARGE = _head(*REPLY, "Content-Length: 10240") + b"." * 10239 + b"!"
CHUNKED = _head(*REPLY, "Transfer-Encoding: chunked") + b"2800\r\n" + b"." * 10240 + b"\r\n0\r\n\r\n"
WRK = _head("GET /items HTTP/1.1", "Host: localhost:8080")


@dataclass(frozen=True, slots=True)
class Shape:
    """A request, the reply to it, and whether there is an access log. `%08d` in a request is its number."""

    request: bytes
    reply: bytes = SMALL
    logs: bool = False


SHAPES = {
    "wrk": Shape(WRK),
    "python": Shape(_head("GET /items?page=2 HTTP/1.1", *PYTHON)),
    "vary": Shape(_head("GET /items/%08d HTTP/1.1", *PYTHON, "X-Request-Id: %08d")),
    "log": Shape(WRK, logs=True),
    "10k": Shape(WRK, LARGE),
    "chunked": Shape(WRK, CHUNKED),
    "post": Shape(_head("POST /items HTTP/1.1", *PYTHON, "Content-Length: 10240") + b"." * 10239 + b"!"),
}


# ── the loop and its transports ──────────────────────────────────────────────────────────────────


class FakeTransport(asyncio.Transport):
    """Keeps how the last thing that was written ends."""

    def __init__(self, sock: socket.socket | None = None) -> None:
        super().__init__({"socket": sock, "peername": ("127.0.0.1", 5), "sockname": ("127.0.0.1", 8080)})
        self.end = b""
        self._closing = False

    def write(self, data: "bytes | bytearray | memoryview[Any]") -> None:
        if data:
            self.end = bytes(data[-END:])

    def writelines(self, parts: Any) -> None:
        self.write(b"".join(parts))

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Have no buffer."""

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True

    abort = close

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Go on: nobody looks."""

    def is_reading(self) -> bool:
        return True

    def pause_reading(self) -> None:
        """Have nothing to hold back: whoever feeds us waits for the answer."""

    resume_reading = pause_reading


class FakeServer:
    async def start_serving(self) -> None:
        """Have nobody to accept."""

    def close(self) -> None:
        """Have nothing to close."""


class Loop(uvloop.Loop):
    """A loop that opens no server and no connection; asked for a server, it begins `work` with itself."""

    def __init__(self, work: "Callable[[Loop], Coroutine[Any, Any, None]]") -> None:
        super().__init__()
        self._work = work
        self._working: asyncio.Task[None] | None = None
        self.make_client: Callable[[], asyncio.Protocol]
        self.upstream: asyncio.Protocol
        self.to_upstream = FakeTransport()

    async def create_server(self, factory: Any, *_: Any, **__: Any) -> Any:
        if self._working is None:
            self.make_client = factory
            self._working = self.create_task(self._work(self))
        return FakeServer()

    async def create_connection(self, factory: Any, *_: Any, sock: Any = None, **__: Any) -> Any:
        self.upstream, self.to_upstream = factory(), FakeTransport(sock)
        self.upstream.connection_made(self.to_upstream)
        return self.to_upstream, self.upstream


# ── measuring ────────────────────────────────────────────────────────────────────────────────────


class Through:
    """One client connection, and the upstream connection that its requests take."""

    def __init__(self, loop: Loop, shape: Shape) -> None:
        self._loop = loop
        self._shape = shape
        self._sent = 0
        self._client, self._to_client = loop.make_client(), FakeTransport()
        self._client.connection_made(self._to_client)

    async def once(self) -> None:
        """Send a request through, and its reply back. In the best case nothing here waits."""
        request, reply = self._shape.request, self._shape.reply
        if numbers := request.count(b"%08d"):
            request %= (self._sent,) * numbers
        self._sent += 1
        self._loop.to_upstream.end = self._to_client.end = b""
        self._client.data_received(request)
        await self._until(lambda: self._loop.to_upstream.end == request[-END:])
        self._loop.upstream.data_received(reply)
        await self._until(lambda: self._to_client.end == reply[-END:])

    async def _until(self, done: Callable[[], bool]) -> None:
        for _ in range(TURNS):
            if done():
                return
            await asyncio.sleep(0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOST_SECONDS):
                while not done():  # noqa: ASYNC110 - nobody tells us
                    await asyncio.sleep(0.001)
        if not done():
            raise AssertionError(f"request {self._sent} did not come through: {self._to_client.end!r}")


def run_command(shape: Shape, seconds: float) -> None:
    """Be `authproxy run`; once it serves, print its fewest CPU µs a request, and end the process."""

    async def measure(loop: Loop) -> None:
        try:
            through = Through(loop, shape)
            for _ in range(BLOCK):
                await through.once()
            print(await _fewest(through, seconds), flush=True)
        except BaseException:  # noqa: BLE001 - told where the process ends
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    uvloop.new_event_loop = lambda: Loop(measure)
    uvloop.run = lambda work: asyncio.Runner(loop_factory=uvloop.new_event_loop).run(work)
    from authproxy.cli import main as authproxy  # noqa: PLC0415 - of the checkout that PYTHONPATH names

    with socket.create_server(("127.0.0.1", 0)) as upstream, NamedTemporaryFile("w", suffix=".yaml") as file:
        route = {  # the upstream is dialled once, and gets no byte
            "name": "bench", "upstream": f"http://127.0.0.1:{upstream.getsockname()[1]}",
            "auth": {"grant": "static", "token": "bench-token"},
        }  # fmt: skip
        settings = {"listen": "127.0.0.1:0", "log": {"access": shape.logs}, "routes": [route]}
        json.dump(settings, file)
        file.flush()
        sys.argv = ["authproxy", "run", "--no-admin", "-c", file.name]
        authproxy()


async def _fewest(through: Through, seconds: float) -> float:
    blocks: list[float] = []
    stop_at = time.monotonic() + seconds
    while time.monotonic() < stop_at or not blocks:
        began = time.process_time()
        for _ in range(BLOCK):
            await through.once()
        blocks.append((time.process_time() - began) / BLOCK * 1e6)
        await asyncio.sleep(0)
    return min(blocks)


def in_process(checkout: Path, shape: str, seconds: float) -> float:
    """Measure `shape` in a process of its own, with the authproxy of `checkout`."""
    command = [sys.executable, "-P", __file__, "--worker", shape, "--seconds", str(seconds)]
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    with TemporaryFile("w+") as log:
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True, check=False,
            timeout=seconds + START_SECONDS,
        )  # fmt: skip
        if done.returncode:
            log.seek(0)
            sys.exit(log.read()[-2000:])
    return float(done.stdout.splitlines()[-1])


def profile(shape: str, seconds: float) -> None:
    """Print where the time of `shape` goes, by the file whose code runs, as py-spy samples it."""
    sampler = Path(sys.executable).parent / "py-spy"
    if not sampler.exists():
        sys.exit("py-spy is not installed: make bench, or pip install --group bench")
    with NamedTemporaryFile("r") as file:
        command = [str(sampler), "record", "--format", "raw", "--output", file.name, "--rate", "500", "--"]
        command += [sys.executable, "-P", __file__, "--worker", shape, "--seconds", str(seconds)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        samples = Counter[str]()
        for line in file.read().splitlines():
            stack, _, count = line.rpartition(" ")
            _, ours, below = stack.partition("once (bytes_through.py")
            if ours:
                samples[_file_of(below)] += int(count)
    # What py-spy itself says is there too; with it beside, all takes a little longer.
    each = next(float(line) for line in told.splitlines() if re.fullmatch(r"[\d.]+", line))
    print(f"{shape}: {each:.1f} µs\n\n| file | µs | share |\n|---|--:|--:|")
    for name, count in samples.most_common(25):
        share = count / samples.total()
        print(f"| `{name}` | {share * each:.1f} | {share:.0%} |")


def _file_of(stack: str) -> str:
    """Return the innermost file of a stack that is not the standard library's."""
    files = re.findall(r"\(((?:authproxy|aiohttp|httptools|yarl|multidict)/[\w/]+\.\w+):", stack)
    return files[-1] if files else "the harness"


def compare(options: argparse.Namespace) -> None:
    """Measure all shapes in rounds, the checkouts in turn, and print the table."""
    checkouts = [ROOT, *([options.baseline] if options.baseline else [])]
    print(
        f"{'shape':10} {'µs':>7} {'rounds':>15}"
        + (f" {'before':>7} {'ratio':>6}" if options.baseline else "")
    )
    for shape in options.shapes or SHAPES:
        rounds = [
            [in_process(each, shape, options.seconds) for each in checkouts] for _ in range(options.rounds)
        ]
        ours = [each[0] for each in rounds]
        line = f"{shape:10} {median(ours):7.2f} {f'{min(ours):.2f} … {max(ours):.2f}':>15}"
        if options.baseline:
            ratio = median(each[0] / each[1] for each in rounds)
            line += f" {median(each[1] for each in rounds):7.2f} {ratio:6.2f}"
        print(line, flush=True)


def main() -> None:
    """Read the command line; compare, or be the process that measures."""
    parser = argparse.ArgumentParser(description="CPU time a request without a network.")
    parser.add_argument("shapes", nargs="*", metavar="SHAPE", help=", ".join(SHAPES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--baseline", type=Path, metavar="PATH", help="another checkout of authproxy")
    parser.add_argument("--profile", action="store_true", help="where the time goes, by file")
    parser.add_argument("--worker", choices=SHAPES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.shapes) - set(SHAPES):
        parser.error(f"unknown shape: {', '.join(unknown)}")
    if options.worker is not None:
        run_command(SHAPES[options.worker], options.seconds)
    elif options.profile:
        for shape in options.shapes or SHAPES:
            profile(shape, 5 * options.seconds)
    else:
        compare(options)


if __name__ == "__main__":
    main()
