"""The scenarios: what is measured, before which origin, and what a table shows of it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import loads
from processes import (
    MIB,
    Command,
    Failed,
    cpu_seconds,
    peak_bytes,
    resident_bytes,
    running,
    start,
    stop,
    wait_until_answering,
    wait_until_listening,
)
from proxies import Setup
from results import Figures

IDLE_WARM_UP = 20  # connections before those that are counted
IDLE_SETTLES = 2.0  # seconds, in which a proxy loads what it does not need at its start
STARTS = 2  # a round


@dataclass(frozen=True, slots=True)
class Launch:
    """A proxy that is ready to be started, and how long it is to be loaded."""

    command: Command
    setup: Setup
    log: Path
    cpus: set[int]
    load_cpus: set[int]
    seconds: float
    warm_up: float

    @contextmanager
    def running(self) -> Iterator[int]:
        with running(self.command, self.setup.port, self.log, cpus=self.cpus) as pid:
            wait_until_answering(self.setup.port)
            yield pid


Procedure = Callable[[Launch], Figures]


@dataclass(frozen=True, slots=True)
class Scenario:
    """`cost` is the figure of which ratios are made; `origin` is one of compare.py's.

    `everybody`: all proxies take part, not only the main ones. `compared_with` is a scenario that differs in
    nothing but `setup`; the report says what the difference costs.
    """

    name: str
    title: str
    measure: Procedure
    cost: str = "cpu_us"
    columns: tuple[str, ...] = ("rps", "p50_ms", "p99_ms", "peak_mib")
    origin: str = "nginx"
    setup: dict[str, Any] = field(default_factory=dict)
    everybody: bool = False
    compared_with: str | None = None
    leave_out: tuple[str, ...] = ()


# ── procedures ───────────────────────────────────────────────────────────────────────────────────


def under(load: loads.Load, cost: str = "cpu_us", per_unit: float = 1e6) -> Procedure:
    """Return what measures a proxy under `load`: what was seen, and `per_unit` times its CPU time a unit."""

    def measure(launch: Launch) -> Figures:
        port = launch.setup.port
        with launch.running() as pid:
            with suppress(Failed):  # a slow one may not have answered anything yet
                load(port, launch.warm_up, launch.load_cpus)
            before = cpu_seconds(pid)
            seen = load(port, launch.seconds, launch.load_cpus)
            spent = cpu_seconds(pid) - before
            return {cost: spent / seen.units * per_unit, **seen.figures, "peak_mib": peak_bytes(pid) / MIB}

    return measure


def with_expiring_tokens(load: loads.Load) -> Procedure:
    """Return what measures under `load`, and how many tokens were fetched meanwhile."""

    def measure(launch: Launch) -> Figures:
        before, began = loads.count_tokens(launch.setup.origin_port), time.monotonic()
        figures = under(load)(launch)
        tokens = loads.count_tokens(launch.setup.origin_port) - before
        return figures | {"tokens_s": tokens / (time.monotonic() - began)}

    return measure


def idle(launch: Launch) -> Figures:
    """Measure what a connection costs that was answered once and is idle since."""
    port = launch.setup.port
    with launch.running() as pid, loads.idle_connections(port, IDLE_WARM_UP):
        time.sleep(IDLE_SETTLES)
        before = resident_bytes(pid)
        with loads.idle_connections(port):
            grown = resident_bytes(pid) - before
    return {"idle_kib": grown / 1024 / loads.IDLE_CONNECTIONS, "rss_mib": before / MIB}


def starting(launch: Launch) -> Figures:
    """Measure the time from the start of the process until it takes a connection, and until it forwards."""
    listening = answering = cpu = 0.0
    for _ in range(STARTS):
        began = time.monotonic()
        process = start(launch.command, launch.log, cpus=launch.cpus)
        try:
            wait_until_listening(process, launch.setup.port, launch.log, every=0.002)
            listening += time.monotonic() - began
            wait_until_answering(launch.setup.port)
            answering += time.monotonic() - began
            cpu += cpu_seconds(process.pid)
            resident = resident_bytes(process.pid)
        finally:
            stop(process)
    return {
        "start_ms": listening / STARTS * 1e3,
        "answer_ms": answering / STARTS * 1e3,
        "start_cpu_ms": cpu / STARTS * 1e3,
        "rss_mib": resident / MIB,
    }


# ── all of them ──────────────────────────────────────────────────────────────────────────────────

GIB = 1 << 30
MANY_ROUTES = 10_000
PACE = 5_000  # requests a second: half of what the slowest of the main proxies can do
ASKED_ROUTES = 100  # each has connections of its own
SMALL = loads.wrk()

SCENARIOS = (
    Scenario("small", "150-byte answers, 50 connections", under(SMALL), everybody=True),
    Scenario("one", "150-byte answers, 1 connection", under(loads.wrk(connections=1))),
    Scenario("many", "150-byte answers, 500 connections", under(loads.wrk(connections=500))),
    Scenario(
        "paced", f"150-byte answers, 500 connections, {PACE:,} requests a second in all",
        under(loads.paced(connections=500, rate=PACE)),
        columns=("rps", "p50_ms", "p99_ms", "max_ms", "peak_mib"),
    ),
    Scenario("10k", "10 KiB answers, 50 connections", under(loads.wrk("/10k"))),
    Scenario("chunked", "chunked 10 KiB answers, 50 connections", under(loads.wrk("/chunked"))),
    Scenario("post", "10 KiB POST, 50 connections", under(loads.wrk(script=loads.POST)), origin="own"),
    Scenario(
        "events", f"server-sent events, {loads.EVENT_CONNECTIONS} connections, 50 a second each",
        under(loads.events, "cpu_us_event"),
        cost="cpu_us_event", columns=("eps", "p50_ms", "p99_ms", "peak_mib"), origin="own",
    ),
    Scenario(
        "download", "100 MiB down", under(loads.download, "cpu_s_gib", GIB),
        cost="cpu_s_gib", columns=("gb_s", "peak_mib"),
    ),
    Scenario(
        "upload", "100 MiB up", under(loads.upload, "cpu_s_gib", GIB),
        cost="cpu_s_gib", columns=("gb_s", "peak_mib"), origin="own",
    ),
    Scenario(
        "log", "150-byte answers, 50 connections, an access log in a file", under(SMALL),
        setup={"logs": True}, compared_with="small", leave_out=("Go", "pooled Go"),
    ),
    Scenario(
        "tls", "150-byte answers, 50 connections, TLS to the upstream", under(SMALL),
        origin="tls", setup={"ca_file": True}, compared_with="small",
    ),
    Scenario(
        "hundred", "150-byte answers, 50 connections, 100 routes in turn",
        under(loads.wrk(script=loads.MANY_PATHS % (0, ASKED_ROUTES - 1))),
        setup={"routes": ASKED_ROUTES}, compared_with="small",
    ),
    Scenario(
        "routes", "150-byte answers, 50 connections, the last 100 of 10,000 routes in turn",
        under(loads.wrk(script=loads.MANY_PATHS % (MANY_ROUTES - ASKED_ROUTES, MANY_ROUTES - 1))),
        setup={"routes": MANY_ROUTES}, compared_with="hundred",
    ),
    Scenario(
        "workers", "150-byte answers, 50 connections, 2 workers on 2 CPUs", under(SMALL),
        setup={"workers": 2}, compared_with="small",
    ),
    Scenario(
        "tokens", "150-byte answers, 50 connections, a token that ends every second",
        with_expiring_tokens(loads.wrk(may_fail=True)),
        columns=("rps", "p50_ms", "p99_ms", "max_ms", "errors", "tokens_s"), origin="expiring",
        setup={"token_expires": True}, compared_with="small",
        leave_out=("nginx", "HAProxy", "Go", "pooled Go"),
    ),
    Scenario(
        "idle", f"{loads.IDLE_CONNECTIONS:,} idle connections", idle,
        cost="idle_kib", columns=("rss_mib",),
    ),
    Scenario(
        "start", "from the start to listening", starting,
        cost="start_ms", columns=("answer_ms", "start_cpu_ms", "rss_mib"), everybody=True,
    ),
)  # fmt: skip


def shares_of_cpus(available: list[int], workers: int) -> tuple[set[int], set[int]]:
    """Return the CPUs of the proxy and those of the load and the origin.

    Both have the same where there are not enough.
    """
    if len(available) <= workers:
        return set(available[:workers]), set(available)
    return set(available[:workers]), set(available[workers:])
