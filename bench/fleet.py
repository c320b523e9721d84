"""Simulates replicas that share one credential through a real Redis, and counts their token requests.

    1,000 of (CachedSource ─▶ SharedSource ─▶ BackoffSource ─▶ GrantSource)   as in as many processes
                                   │                               │
                              one Redis                     one token endpoint

Each replica asks its source for a token about once a second, as its traffic would. The sources, their stores
and their connections are the real ones, one set a replica; they only live in one process. Token requests an
hour are told for tokens of 900 seconds: four lifetimes, however short one is here.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from processes import Command, free_port, start, stop, wait_until_listening
from proxies import ROOT, program

sys.path.insert(0, str(ROOT))  # this checkout's authproxy, whichever is installed

from authproxy import logs
from authproxy.app.credentials import GrantSources, TokenSources
from authproxy.config.read import parse
from authproxy.errors import TokenError
from authproxy.grants.runner import FlowRunner
from authproxy.observe.counters import Counters
from authproxy.tokens.source import CachingSource

ENDPOINT_SECONDS = 0.1  # how long the token endpoint takes
ASK_SECONDS = 1.0  # between two requests of a replica
LIFETIME_TOLD = 900.0  # in the table: tokens an hour, if they lived so long
MAX_FILES = 65536


class TokenEndpoint:
    """Counts who asks; answers with a token of `lifetime` seconds, or, while `down`, with 503."""

    def __init__(self, lifetime: float) -> None:
        self.lifetime = lifetime
        self.down = False
        self.asked: Counter[int] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
                await reader.readexactly(int(length[1]) if length else 0)
                await asyncio.sleep(ENDPOINT_SECONDS)
                status = 503 if self.down else 200
                self.asked[status] += 1
                token = {"access_token": f"token-{self.asked.total()}", "token_type": "Bearer"}
                body = json.dumps(token | {"expires_in": self.lifetime}).encode()
                writer.write(
                    b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                    % (status, len(body), body)
                )


class Redis:
    """A Redis of our own, keeping nothing on disk, which can die, hang and come back."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._log = folder / "redis.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no"]
        command = Command([program("redis-server", "apt-get install redis-server"), *options])
        self._process = start(command, self._log, cpus=os.sched_getaffinity(0))
        wait_until_listening(self._process, self.port, self._log)

    def die(self) -> None:
        """End it as a crash would: what it held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Let it take connections and answer nothing."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.thaw()
        if self._process is not None:
            stop(self._process)


@dataclass(slots=True)
class Phase:
    """What happened to the fleet meanwhile."""

    name: str
    seconds: float = 0.0
    token_requests: int = 0
    asked: int = 0
    failed: int = 0
    longest_wait: float = 0.0
    tokens: set[str] = field(default_factory=set)


class Fleet:
    """The replicas. `phase` is who counts at the moment."""

    def __init__(self, sources: list[CachingSource]) -> None:
        self._sources = sources
        self.phase = Phase("")

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for source in self._sources:
                group.create_task(self._traffic(source))

    async def _traffic(self, source: CachingSource) -> None:
        while True:
            began, phase = time.monotonic(), self.phase
            phase.asked += 1
            try:
                token = source.cached() or await source.token()
                phase.tokens.add(token.value)
            except TokenError:
                phase.failed += 1
            phase.longest_wait = max(phase.longest_wait, time.monotonic() - began)
            await asyncio.sleep(ASK_SECONDS * random.uniform(0.5, 1.5))


@contextlib.asynccontextmanager
async def fleet(count: int, endpoint_port: int, redis: Redis | None) -> AsyncIterator[Fleet]:
    """Build `count` replicas, with a store in `redis` or with none, and let them ask until the block ends."""
    store = (
        {"type": "redis", "url": f"redis://127.0.0.1:{redis.port}/0", "key": "of the fleet"}
        if redis
        else None
    )
    auth = {
        "grant": "client_credentials", "token_url": f"http://127.0.0.1:{endpoint_port}/",
        "client_id": "fleet", "client_secret": "bench-secret",
    }  # fmt: skip
    route = {"name": "fleet", "upstream": "http://127.0.0.1:9", "auth": auth}
    config = parse(json.dumps({"token_store": store, "routes": [route]}), "fleet.yaml")
    async with contextlib.AsyncExitStack() as stack:
        runner = await stack.enter_async_context(FlowRunner())
        replicas = []
        for _ in range(count):
            grants = GrantSources(config, runner, Counters())
            stack.push_async_callback(grants.close)
            sources = TokenSources(grants.inner_source)
            stack.push_async_callback(sources.close)
            replica = sources.stack(config.routes[0])
            assert replica is not None
            replicas.append(replica.outer)
        if redis is not None and (one := grants.store(config.routes[0])) is not None:
            await one.load("warm up")  # stretches the store's key, once for all that are in this process
        made = Fleet(replicas)
        traffic = asyncio.create_task(made.run())
        try:
            yield made
        finally:
            traffic.cancel()
            await asyncio.wait([traffic])


@contextlib.contextmanager
def phase(made: Fleet, endpoint: TokenEndpoint, name: str, phases: list[Phase]) -> Iterator[None]:
    """Count what happens until the block ends, and tell it."""
    counted = made.phase = Phase(name)
    phases.append(counted)
    before, began = endpoint.asked.total(), time.monotonic()
    yield
    counted.seconds = time.monotonic() - began
    counted.token_requests = endpoint.asked.total() - before
    lifetimes = counted.seconds / endpoint.lifetime
    hourly = counted.token_requests / lifetimes * 3600 / LIFETIME_TOLD
    cells = [f"{counted.seconds:.0f}", f"{counted.token_requests:,}", f"{hourly:,.0f}"]
    cells += [
        f"{len(counted.tokens):,}",
        f"{counted.asked:,}",
        f"{counted.failed:,}",
        f"{counted.longest_wait:.2f}",
    ]
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


async def simulate(options: argparse.Namespace, redis: Redis) -> list[Phase]:
    """Go through all phases."""
    phases: list[Phase] = []
    endpoint, lifetime = TokenEndpoint(options.lifetime), options.lifetime
    server = await asyncio.start_server(endpoint.serve, "127.0.0.1", 0, backlog=4096)
    port = server.sockets[0].getsockname()[1]
    columns = "seconds | token requests | an hour | tokens in use | asked | failed | longest wait s"
    print(f"| phase | {columns} |\n|---|--:|--:|--:|--:|--:|--:|--:|", flush=True)

    async def during(made: Fleet, name: str, lifetimes: float) -> None:
        with phase(made, endpoint, name, phases):
            await asyncio.sleep(lifetimes * lifetime)

    async with fleet(options.replicas, port, None) as made:
        await during(made, "no store: each replica for itself", 2)
    async with fleet(options.replicas, port, redis) as made:
        await during(made, "all start at once, with Redis", 0.5)
        await during(made, "Redis and the token endpoint are well", 3)
        endpoint.down = True
        await during(made, "the token endpoint answers 503, the first half of a lifetime", 0.5)
        await during(made, "… and on, past the end of the token", 1)
        endpoint.down = False
        await during(made, "the token endpoint is back", 1)
        redis.freeze()
        await during(made, "Redis hangs", 2)
        redis.thaw()
        await during(made, "Redis goes on", 1)
        redis.die()
        await during(made, "Redis is dead", 2)
        redis.start()
        await during(made, "Redis is back, empty", 1)
        await during(made, "a while later", 2)
    server.close()
    return phases


def main() -> None:
    """Read the command line, and simulate."""
    parser = argparse.ArgumentParser(description="Simulate replicas that share a credential through Redis.")
    parser.add_argument("--replicas", type=int, default=1000)
    parser.add_argument("--lifetime", type=float, default=20.0, help="of a token, in seconds")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, MAX_FILES) if most > 0 else MAX_FILES, most))
    logs.set_up("error", "text")
    with tempfile.TemporaryDirectory(prefix="authproxy-fleet-") as name:
        os.environ["XDG_STATE_HOME"] = name  # where rejections are remembered
        redis = Redis(Path(name))
        redis.start()
        try:
            asyncio.run(simulate(options, redis))
        finally:
            redis.close()


if __name__ == "__main__":
    main()
