"""Minutes of load with faults injected: what each client saw is judged by what it must have seen.

    python -m tests.soak --minutes 10        (`make soak MINUTES=10`)

    clients   requests on kept and on new connections, uploads, slow readers, clients that leave, events,
              a WebSocket
    faults    reloads, faulty files, Redis restarted, token endpoint down, tokens revoked, an upstream that
              resets, clock steps; in the first half also: workers and the broker killed

A fault names the outcomes that it may cause, and for how long; any other outcome than success is wrong.
Memory, descriptors and asyncio tasks of each process are sampled; their slope is that of the second half.
"""

import argparse
import asyncio
import contextlib
import itertools
import os
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from tests.support.aiohttp_server import served
from tests.support.async_command import RunningProxy, running_proxy
from tests.support.redis_server import RedisServer
from tests.support.workers import children

EVERY_SECONDS = 4.0  # between two faults
SAMPLE_SECONDS = 2.0
GRACE_SECONDS = 3.0  # for who was under way when a fault ended
MAX_SLOPE = 200 << 10  # bytes a minute and process
ANSWER_SECONDS = 90.0
LIFETIME = 60  # seconds of a token
BODY = bytes(range(256)) * 40  # 10 KiB
LARGE = b"x" * (300 << 10)

INSIDE = """
import asyncio, os, threading, time
_run, _time, _offset = asyncio.Runner.run, time.time, 0.0
def look(loop):
    global _offset
    directory = os.environ["SOAK"]
    while True:
        time.sleep(0.5)
        try:
            with open(os.path.join(directory, "clock")) as file:
                _offset = float(file.read() or 0)
            number = len(asyncio.all_tasks(loop))
            with open(os.path.join(directory, "tasks", str(os.getpid())), "w") as file:
                file.write(str(number))
        except (OSError, RuntimeError, ValueError):
            continue
def run(self, work, **more):
    threading.Thread(target=look, args=(self.get_loop(),), daemon=True).start()
    return _run(self, work, **more)
asyncio.Runner.run = run
time.time = lambda: _time() + _offset
"""
"""A sitecustomize: each process of the proxy says how many tasks it has, and its wall clock makes steps.

libfaketime (0.9.10) would do that for any program, but under it every `time.sleep` of Python fails (EINVAL).
"""


# ── what is asked ────────────────────────────────────────────────────────────────────────────────


class Systems:
    """The token endpoint and the API. `token_status` and `resets` are how they misbehave."""

    def __init__(self) -> None:
        self.url = ""
        self.token_requests = 0
        self.token_status = 200
        self.resets = False
        self.revoked_at = 0.0
        self._tokens: dict[str, float] = {}

    async def token(self, _request: web.Request) -> web.Response:
        self.token_requests += 1
        if self.token_status != 200:
            return web.Response(status=self.token_status)
        value = f"soak-token-{self.token_requests}"
        self._tokens[value] = time.monotonic()
        return web.json_response({"access_token": value, "expires_in": LIFETIME})

    def refuses(self, request: web.Request) -> web.Response | None:
        if self.resets and request.transport is not None:
            request.transport.abort()
            return web.Response()  # nobody gets it
        value = request.headers.get("Authorization", "").removeprefix("Bearer ")
        issued = self._tokens.get(value, 0.0)
        return web.Response(status=401) if issued <= self.revoked_at else None

    async def plain(self, request: web.Request) -> web.Response:
        return self.refuses(request) or web.Response(text=request.query_string)

    async def echo(self, request: web.Request) -> web.Response:
        body = await request.read()
        return self.refuses(request) or web.Response(body=body)

    async def large(self, request: web.Request) -> web.Response:
        return self.refuses(request) or web.Response(body=LARGE)

    async def events(self, request: web.Request) -> web.StreamResponse:
        if (refusal := self.refuses(request)) is not None:
            return refusal
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            for number in itertools.count():
                await response.write(b"data: %d\n\n" % number)
                await asyncio.sleep(0.1)
        return response

    async def socket(self, request: web.Request) -> web.StreamResponse:
        if (refusal := self.refuses(request)) is not None:
            return refusal
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket


# ── faults ───────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Window:
    """From when to when a fault may show, and as which outcomes."""

    name: str
    allowed: frozenset[str]
    began: float
    ended: float = float("inf")


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong for `seconds`; `work` begins it, and what that returns ends it."""

    name: str
    work: Callable[["Soak"], Awaitable[Callable[[], Awaitable[None]] | None]]
    allowed: frozenset[str] = frozenset()
    seconds: float = 0.0


async def reload(soak: "Soak") -> None:
    await soak.write(yaml.safe_dump(soak.config(soak.reloads)))
    soak.reloads += 1


async def faulty_file(soak: "Soak") -> None:
    await soak.write("routes: [{name: api, upstream:")


async def restart_redis(soak: "Soak") -> Callable[[], Awaitable[None]]:
    soak.redis.stop()

    async def again() -> None:
        await asyncio.to_thread(soak.redis.start)

    return again


async def token_endpoint_down(soak: "Soak") -> Callable[[], Awaitable[None]]:
    soak.systems.token_status = 500
    soak.systems.revoked_at = time.monotonic()

    async def again() -> None:
        soak.systems.token_status = 200

    return again


async def revoke(soak: "Soak") -> None:
    soak.systems.revoked_at = time.monotonic()


async def upstream_resets(soak: "Soak") -> Callable[[], Awaitable[None]]:
    soak.systems.resets = True

    async def again() -> None:
        soak.systems.resets = False

    return again


async def clock_forward(soak: "Soak") -> None:
    soak.step_clock(3600)


async def clock_back(soak: "Soak") -> None:
    soak.step_clock(-7200)


async def kill_worker(soak: "Soak") -> None:
    os.kill(next(pid for pid in children(soak.proxy.pid) if pid != soak.broker), signal.SIGKILL)


async def kill_broker(soak: "Soak") -> None:
    others = set(children(soak.proxy.pid)) - {soak.broker}
    os.kill(soak.broker, signal.SIGKILL)
    while len(now := set(children(soak.proxy.pid)) - {soak.broker}) <= len(others):
        await asyncio.sleep(0.05)
    (soak.broker,) = now - others


NONE: frozenset[str] = frozenset()
BROKEN = frozenset({"broken off"})
FAULTS = (
    Fault("reload", reload),
    Fault("faulty file", faulty_file),
    Fault("tokens revoked", revoke),
    Fault("Redis restarted", restart_redis, NONE, 2.0),
    # Who was refused, and got no other token, hears the refusal, or that there is no token for now; and so
    # until the backoff is over.
    Fault("token endpoint down", token_endpoint_down, frozenset({"401", "503"}), 2.0),
    Fault("reload", reload),
    Fault("upstream resets", upstream_resets, frozenset({"502"}) | BROKEN, 1.0),
    Fault("clock an hour ahead", clock_forward),
    Fault("faulty file", faulty_file),
    Fault("clock two hours back", clock_back),
)
KILLS = (Fault("worker killed", kill_worker, BROKEN), Fault("broker killed", kill_broker, frozenset({"503"})))
BACKOFF_SECONDS = 6.0  # until a credential is tried again after two seconds of failures


# ── clients ──────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Outcome:
    """What a client saw: `ok`, a status, `broken off`, or what was wrong with what it got."""

    kind: str
    what: str
    began: float
    ended: float


@dataclass
class Soak:
    """One run."""

    systems: Systems
    redis: RedisServer
    clock: Path
    proxy: RunningProxy = field(init=False)
    windows: list[Window] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    reloads: int = 0
    offset: int = 0
    stopping: bool = False
    broker: int = 0
    began: float = field(default_factory=time.monotonic)

    def config(self, number: int) -> dict[str, Any]:
        auth = {
            "grant": "client_credentials",
            "token_url": f"{self.systems.url}/token",
            "client_id": "soak",
            "client_secret": "the-secret-of-the-soak",
        }
        more = [
            {"name": f"n{each}", "path": f"/n{each}", "upstream": self.systems.url, "auth": auth}
            for each in range(number % 4)
        ]
        store = {"type": "redis", "url": self.redis.url, "key": "a passphrase of the soak"}
        return {
            "workers": 2,
            "listen": "127.0.0.1:0",
            "admin": {"listen": "127.0.0.1:0"},
            "log": {"access": number % 2 == 0, "level": "info"},
            "token_store": store,
            "routes": [{"name": "api", "upstream": self.systems.url, "auth": auth}, *more],
        }

    async def write(self, text: str) -> None:
        """Put a file in the configuration's place and have it read."""
        assert self.proxy.config_file is not None
        fresh = self.proxy.config_file.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self.proxy.config_file)
        self.proxy.signal(signal.SIGHUP)

    def step_clock(self, seconds: int) -> None:
        self.offset += seconds
        self.clock.write_text(str(self.offset))

    # ── clients ──

    async def client(self, kind: str, once: Callable[[], Awaitable[str]], pause: float) -> None:
        """Do something again and again, and note what came of it."""
        while not self.stopping:
            began = time.monotonic()
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    what = await once()
            except TimeoutError:
                what = "no answer"
            except (aiohttp.ClientError, OSError):
                what = "broken off"
            self.outcomes.append(Outcome(kind, what, began, time.monotonic()))
            await asyncio.sleep(pause)

    def wrong(self) -> list[Outcome]:
        """Return the outcomes that no fault accounts for."""
        return [each for each in self.outcomes if each.what != "ok" and not self._accounted(each)]

    def _accounted(self, outcome: Outcome) -> bool:
        return any(
            outcome.what in each.allowed and outcome.began <= each.ended and outcome.ended >= each.began
            for each in self.windows
        )


def judged(status: int, right: bool) -> str:  # noqa: FBT001
    """Return what came of a request whose body was `right`."""
    if status != 200:
        return str(status)
    return "ok" if right else "wrong body"


def clients(  # noqa: C901 - a list of them
    soak: Soak, kept: aiohttp.ClientSession, new: aiohttp.ClientSession
) -> Iterator[Any]:
    """Yield the coroutines of all clients."""
    url = soak.proxy.url
    numbers = itertools.count()

    async def get(session: aiohttp.ClientSession) -> str:
        number = str(next(numbers))
        async with session.get(f"{url}/x?{number}") as response:
            text = await response.text()
            return (
                str(response.status) if response.status != 200 else "ok" if text == number else "wrong body"
            )

    async def post() -> str:
        async with kept.post(f"{url}/echo", data=BODY) as response:
            return judged(response.status, await response.read() == BODY)

    async def read_slowly() -> str:
        async with kept.get(f"{url}/large") as response:
            if response.status != 200:
                return str(response.status)
            size = 0
            async for piece in response.content.iter_chunked(30 << 10):
                size += len(piece)
                await asyncio.sleep(0.1)
            return "ok" if size == len(LARGE) else "wrong body"

    async def leave() -> str:
        async with new.get(f"{url}/large") as response:
            await response.content.readany()
            response.close()
        return "ok"

    async def listen() -> str:
        expected = 0
        async with kept.get(f"{url}/events") as response:
            if response.status != 200:
                return str(response.status)
            async for line in response.content:
                if line.startswith(b"data:"):
                    if int(line[5:]) != expected:
                        return "an event is missing"
                    expected += 1
                if soak.stopping or expected == 200:
                    return "ok"
        return "broken off"

    async def talk() -> str:
        try:
            async with kept.ws_connect(f"{url}/socket") as socket:
                for number in range(200):
                    await socket.send_str(str(number))
                    message = await socket.receive()
                    if message.type is not aiohttp.WSMsgType.TEXT:
                        return "broken off"
                    if message.data != str(number):
                        return "a wrong echo"
                    if soak.stopping:
                        break
                    await asyncio.sleep(0.1)
        except aiohttp.WSServerHandshakeError as error:
            return str(error.status)
        return "ok"

    for _ in range(10):
        yield soak.client("request", lambda: get(kept), 0.05)
    for _ in range(4):
        yield soak.client("new connection", lambda: get(new), 0.1)
    for _ in range(3):
        yield soak.client("upload", post, 0.1)
        yield soak.client("slow reader", read_slowly, 0.1)
        yield soak.client("leaves", leave, 0.3)
        yield soak.client("events", listen, 0.1)
        yield soak.client("WebSocket", talk, 0.1)


async def inject(soak: Soak, seconds: float) -> None:
    """Have one fault after the other, for so long."""
    start = time.monotonic()
    with_kills = itertools.cycle([*FAULTS[:5], KILLS[0], *FAULTS[5:], KILLS[1]])
    without = itertools.cycle(FAULTS)
    while (elapsed := time.monotonic() - start) < seconds:
        fault = next(with_kills if elapsed < seconds * 0.45 else without)
        window = Window(fault.name, fault.allowed, time.monotonic())
        soak.windows.append(window)
        end = await fault.work(soak)
        await asyncio.sleep(fault.seconds)
        if end is not None:
            await end()
        grace = BACKOFF_SECONDS if fault.name == "token endpoint down" else GRACE_SECONDS
        window.ended = time.monotonic() + grace
        await asyncio.sleep(EVERY_SECONDS)


# ── what it takes ────────────────────────────────────────────────────────────────────────────────


@dataclass
class Sample:
    """What a process had at a moment: bytes, descriptors, tasks."""

    at: float
    memory: int
    descriptors: int
    tasks: int | None


async def measure(soak: Soak, tasks: Path, samples: dict[int, list[Sample]]) -> None:
    while not soak.stopping:
        for pid in (soak.proxy.pid, *children(soak.proxy.pid)):
            with contextlib.suppress(OSError, ValueError):
                samples.setdefault(pid, []).append(_sample(pid, tasks))
        await asyncio.sleep(SAMPLE_SECONDS)


def _sample(pid: int, tasks: Path) -> Sample:
    status = Path(f"/proc/{pid}/status").read_text()
    memory = int(status.partition("VmRSS:")[2].split()[0]) << 10
    said = tasks / str(pid)
    count = int(said.read_text() or 0) if said.exists() else None
    return Sample(time.monotonic(), memory, len(list(Path(f"/proc/{pid}/fd").iterdir())), count)


def slope(samples: list[Sample], of: Callable[[Sample], float | None]) -> float | None:
    """Return the growth a minute."""
    points = [(each.at, value) for each in samples if (value := of(each)) is not None]
    if len(points) < 10:
        return None
    return statistics.linear_regression(*zip(*points, strict=True)).slope * 60


# ── a run ────────────────────────────────────────────────────────────────────────────────────────


async def run(minutes: float) -> int:
    with tempfile.TemporaryDirectory(prefix="authproxy-soak-") as made:
        directory = Path(made)
        (directory / "sitecustomize.py").write_text(INSIDE)
        (directory / "tasks").mkdir()
        (directory / "clock").write_text("0")
        redis = RedisServer(directory)
        redis.start()
        systems = Systems()
        routes = [
            web.post("/token", systems.token),
            web.post("/echo", systems.echo),
            web.get("/large", systems.large),
            web.get("/events", systems.events),
            web.get("/socket", systems.socket),
            web.get("/{rest:.*}", systems.plain),
        ]
        env = {
            "PYTHONPATH": os.pathsep.join([str(directory), os.environ.get("PYTHONPATH", "")]),
            "SOAK": str(directory),
        }
        soak = Soak(systems, redis, directory / "clock")
        try:
            async with served(*routes) as url:
                systems.url = url
                async with running_proxy(soak.config(0), env=env) as proxy:
                    soak.proxy, soak.broker = proxy, children(proxy.pid)[0]
                    samples = await _load(soak, directory / "tasks", minutes * 60)
                    half = time.monotonic() - minutes * 30
                    alive = sorted(children(proxy.pid), key=lambda pid: pid != soak.broker)
                    code = await proxy.stop()
                    log = proxy.log()
        finally:
            redis.stop()
        if "SOAK_LOG" in os.environ:
            Path(os.environ["SOAK_LOG"]).write_text(log)
        return report(soak, {pid: samples[pid] for pid in alive if pid in samples}, half, code, log)


async def _load(soak: Soak, tasks: Path, seconds: float) -> dict[int, list[Sample]]:
    samples: dict[int, list[Sample]] = {}
    fresh = aiohttp.TCPConnector(force_close=True, limit=0)
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as kept,
        aiohttp.ClientSession(connector=fresh) as new,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(measure(soak, tasks, samples))
        for each in clients(soak, kept, new):
            group.create_task(each)
        await inject(soak, seconds)
        soak.stopping = True
    return samples


def report(soak: Soak, samples: dict[int, list[Sample]], half: float, code: int, log: str) -> int:
    """Print what came of it; return 1 if something was wrong."""
    kinds = Counter((each.kind, each.what) for each in soak.outcomes)
    wrong = soak.wrong()
    for (kind, what), count in sorted(kinds.items()):
        print(f"{kind}: {what}: {count}")
    print("faults:", dict(Counter(each.name for each in soak.windows)), "reloads:", soak.reloads)
    print("token requests:", soak.systems.token_requests)
    faults = [
        f"{each.kind}: {each.what} at {each.ended - soak.began:.1f} s ({_around(soak, each)})"
        for each in wrong
    ]
    for name, pid in zip(["broker", "worker 1", "worker 2"], samples, strict=False):
        second = [each for each in samples[pid] if each.at >= half]
        grown = slope(second, lambda each: each.memory)
        descriptors = slope(second, lambda each: each.descriptors)
        tasks = slope(second, lambda each: each.tasks)
        last = second[-1]
        print(*(f"{(each.at - soak.began):.0f}:{each.memory >> 10}" for each in samples[pid][::10]))
        print(
            f"{name}: {last.memory >> 10} KiB, {(grown or 0) / 1024:+.0f} KiB/min; "
            f"{last.descriptors} descriptors, {descriptors or 0:+.1f}/min; "
            f"{last.tasks} tasks, {tasks or 0:+.1f}/min"
        )
        if grown is not None and grown > MAX_SLOPE:
            faults.append(f"{name} grows by {grown / 1024:.0f} KiB a minute")
        if descriptors is not None and descriptors > 3:
            faults.append(f"{name} has {descriptors:.1f} descriptors more each minute")
    if code != 0:
        faults.append(f"it ended with {code}")
    if "internal error" in log or " at /" in log:
        faults.append("an internal error is in the log")
    print(*(f"{each.began - soak.began:.1f} {each.name}" for each in soak.windows), sep="; ")
    faults += [line for line in log.splitlines() if "internal error" in line][:5]
    print(f"wrong: {len(faults)}", *faults[:40], sep="\n  ")
    return 1 if faults else 0


def _around(soak: Soak, outcome: Outcome) -> str:
    """Return which fault was the last before the end of what went wrong."""
    before = [each for each in soak.windows if each.began <= outcome.ended]
    return f"{outcome.ended - before[-1].began:.1f} s after: {before[-1].name}" if before else "at the start"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=10.0)
    return asyncio.run(run(parser.parse_args().minutes))


if __name__ == "__main__":
    sys.exit(main())
