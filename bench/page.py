"""What the live page costs: CPU time a request with it open and closed, and how smooth it stays.

    load, paced ──► authproxy ──► origin.py
                        └── the stream ──► Chromium with the page

    python bench/page.py                        1,000 requests a second for 30 s, three rounds
    python bench/page.py --rate 200 --seconds 10
    python bench/page.py --slices 20            the same requests as the page's, by a program, in turns of 3 s

    closed   nobody looks
    blank    a Chromium that draws an empty page as often: what a busier machine costs, and the page does not
    open     the page

A browser takes CPUs and caches from the proxy, the more the fewer there are. The slices tell what is asked
of the proxy itself, each by its neighbour, so that the machine's other work meets both.

The page needs Playwright and a Chromium (AUTHPROXY_CHROMIUM). A frame is long when it takes more than 50 ms;
long tasks are what the browser itself calls so (W3C Long Tasks).
"""

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from processes import Command, cpu_seconds, free_port, running
from proxies import ROOT

CHROMIUM = os.environ.get("AUTHPROXY_CHROMIUM", "/usr/bin/chromium")
CONNECTIONS = 8
REQUEST = b"GET /api/items/%d HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n"
WARM_SECONDS = 3.0
SLICE_SECONDS = 3.0
SETTLE_SECONDS = 1.0  # a reader who comes is told of a burst first
CLOSED, BLANK, OPEN = STATES = ("closed", "blank", "open")
FRAMES = """() => {
    window.frames_ = []; window.tasks_ = [];
    let last = performance.now();
    const frame = now => { window.frames_.push(now - last); last = now; requestAnimationFrame(frame); };
    requestAnimationFrame(frame);
    new PerformanceObserver(list => window.tasks_.push(...list.getEntries().map(each => each.duration)))
        .observe({entryTypes: ["longtask"]});
}"""
LOOK = """() => ({frames: window.frames_, tasks: window.tasks_, nodes: document.querySelectorAll("*").length,
    heap: performance.memory?.usedJSHeapSize ?? 0, rows: document.querySelectorAll("tr[data-id]").length})"""


async def load(port: int, rate: int, seconds: float) -> int:
    """Send `rate` requests a second over kept connections; return how many were answered 200."""
    streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS)]
    started = time.perf_counter()
    answered = 0

    async def one(number: int) -> None:
        nonlocal answered
        reader, writer = streams[number]
        for turn in range(number, int(rate * seconds), CONNECTIONS):
            await asyncio.sleep(max(0.0, started + turn / rate - time.perf_counter()))
            writer.write(REQUEST % turn)
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
            answered += head.startswith(b"HTTP/1.1 200")

    await asyncio.gather(*map(one, range(CONNECTIONS)))
    for _, writer in streams:
        writer.close()
    return answered


def measure(pid: int, port: int, options: argparse.Namespace) -> float:
    """Return the CPU µs of the proxy a request; its clients live in a process of their own."""
    command = [sys.executable, __file__, "--load", str(port), "--rate", str(options.rate)]
    before = cpu_seconds(pid)
    done = subprocess.run(
        [*command, "--seconds", str(options.seconds)], stdout=subprocess.PIPE, text=True, check=True
    )
    spent, answered = cpu_seconds(pid) - before, int(done.stdout)
    wanted = int(options.rate * options.seconds)
    if answered < wanted:
        sys.exit(f"{answered} of {wanted} requests were answered 200")
    return spent / answered * 1e6


def with_page(url: str | None, work: Any) -> tuple[float, dict[str, Any]]:
    """Return what `work` does while the page (or an empty one) is open, and what is seen of its frames."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - only where there is a browser

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        if url is not None:
            page.goto(url)
            page.wait_for_selector("[data-is=live]")
        page.evaluate(FRAMES)
        cost = work()
        seen = page.evaluate(LOOK)
        seen["lost"] = page.locator("#requests-note").text_content() if url is not None else ""
        browser.close()
    return cost, seen


@contextlib.contextmanager
def reader(admin: int) -> Iterator[None]:
    """Ask for what the page asks for, until the block ends: the stream, and the status every 2 s."""
    done = threading.Event()
    stream = socket.create_connection(("127.0.0.1", admin))
    stream.sendall(b"GET /api/requests/stream?rate=20 HTTP/1.1\r\nHost: localhost\r\n\r\n")

    def listen() -> None:
        with contextlib.suppress(OSError):
            while stream.recv(1 << 16):
                pass

    def poll() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", admin)
        while not done.wait(2.0):
            connection.request("GET", "/api/status")
            connection.getresponse().read()
        connection.close()

    threads = [threading.Thread(target=each) for each in (listen, poll)]
    for each in threads:
        each.start()
    try:
        yield
    finally:
        done.set()
        stream.shutdown(socket.SHUT_RDWR)
        for each in threads:
            each.join()
        stream.close()


def compare_slices(pid: int, proxy: int, admin: int, options: argparse.Namespace) -> None:
    """Under one steady load, compare slices with a reader to those without, each to its neighbour."""
    command = [sys.executable, __file__, "--load", str(proxy), "--rate", str(options.rate)]
    seconds = (2 * options.slices + 1) * (SLICE_SECONDS + SETTLE_SECONDS)
    spent: list[float] = []
    with subprocess.Popen([*command, "--seconds", str(seconds)], stdout=subprocess.DEVNULL):
        for number in range(2 * options.slices):
            with reader(admin) if number % 2 else contextlib.nullcontext():
                time.sleep(SETTLE_SECONDS)
                before = cpu_seconds(pid)
                time.sleep(SLICE_SECONDS)
                spent.append(cpu_seconds(pid) - before)
    each = [read / alone - 1 for alone, read in zip(spent[::2], spent[1::2], strict=True)]
    requests = options.rate * SLICE_SECONDS
    alone, read = (statistics.median(part) / requests * 1e6 for part in (spent[::2], spent[1::2]))
    lowest, highest = min(spent[::2]) / requests * 1e6, min(spent[1::2]) / requests * 1e6
    print(
        f"alone {alone:.1f} µs a request, with a reader {read:.1f}: {statistics.median(each):+.1%} by pairs"
    )
    print(f"the cheapest slice of each: {lowest:.1f} and {highest:.1f} µs, {highest / lowest - 1:+.1%}")


def main() -> None:
    """Read the command line; measure, in turns with and without the page."""
    parser = argparse.ArgumentParser(description="What the live page costs.")
    parser.add_argument("--rate", type=int, default=1000, help="requests a second")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slices", type=int, default=0, help="pairs of slices, without a browser")
    parser.add_argument("--load", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        print(asyncio.run(load(options.load, options.rate, options.seconds)))
        return
    with tempfile.TemporaryDirectory() as made:
        compare(Path(made), options)


def compare(directory: Path, options: argparse.Namespace) -> None:
    """Start an origin and the proxy, and print a line a measurement."""
    cpus = os.sched_getaffinity(0)
    origin, proxy, admin = free_port(), free_port(), free_port()
    config = directory / "authproxy.json"
    route = {
        "name": "bench", "path": "/api", "upstream": f"http://127.0.0.1:{origin}",
        "auth": {"grant": "static", "token": "bench-token"},
    }  # fmt: skip
    settings = {"listen": f"127.0.0.1:{proxy}", "admin": {"listen": f"127.0.0.1:{admin}"}}
    config.write_text(json.dumps(settings | {"log": {"access": False}, "routes": [route]}))
    serve = Command(
        [sys.executable, "-m", "authproxy", "run", "-c", str(config)],
        {"PYTHONPATH": str(ROOT), "AUTHPROXY_DUMPABLE": "1"},
    )
    upstream = Command([sys.executable, str(ROOT / "bench/origin.py"), str(origin), "Bearer bench-token"])
    with (
        running(upstream, origin, directory / "origin.log", cpus=cpus),
        running(serve, proxy, directory / "proxy.log", cpus=cpus) as pid,
    ):
        warm = argparse.Namespace(rate=options.rate, seconds=WARM_SECONDS)
        measure(pid, proxy, warm)
        if options.slices:
            compare_slices(pid, proxy, admin, options)
            return
        costs: dict[str, list[float]] = {which: [] for which in STATES}
        for number in range(options.rounds):
            for which in STATES if number % 2 == 0 else reversed(STATES):
                costs[which].append(round_of(which, pid, proxy, admin, options))
    for which in STATES:
        print(f"{which}: {statistics.median(costs[which]):.1f} µs a request, lowest {min(costs[which]):.1f}")
    for before in (CLOSED, BLANK):
        each = [one / other - 1 for one, other in zip(costs[OPEN], costs[before], strict=True)]
        print(f"open to {before}: {statistics.median(each):+.1%}")


def round_of(which: str, pid: int, proxy: int, admin: int, options: argparse.Namespace) -> float:
    """Measure once and print it."""

    def work() -> float:
        return measure(pid, proxy, options)

    if which == CLOSED:
        cost = work()
        print(f"closed: {cost:6.1f} µs a request", flush=True)
        return cost
    cost, seen = with_page(f"http://127.0.0.1:{admin}/" if which == OPEN else None, work)
    frames, tasks = sorted(seen["frames"]), seen["tasks"]
    long = [each for each in frames if each > 50]
    print(
        f"{which:5}:  {cost:6.1f} µs a request; {len(frames)} frames, "
        f"p99 {frames[int(len(frames) * 0.99)]:.0f} ms, {len(long)} over 50 ms, "
        f"longest {frames[-1]:.0f} ms; {len(tasks)} long tasks; "
        f"{seen['rows']} rows, {seen['nodes']} elements, {seen['heap'] / 1e6:.1f} MB; {seen['lost']}",
        flush=True,
    )
    return cost


if __name__ == "__main__":
    main()
