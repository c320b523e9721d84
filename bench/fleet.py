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
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import report
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
COLUMNS = (
    "phase", "lifetimes", "token requests", "an hour", "tokens in use", "asked", "failed", "still waiting",
    "longest wait s",
)  # fmt: skip
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
    """What the replicas met since the phase began."""

    asked: int = 0
    failed: int = 0
    longest_wait: float = 0.0
    tokens: set[str] = field(default_factory=set)


class Fleet:
    """The replicas. `phase` counts at the moment; `waiting` is since when who waits for a token does."""

    def __init__(self, sources: list[CachingSource]) -> None:
        self._sources = sources
        self.phase = Phase()
        self.waiting: dict[int, float] = {}

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number, source in enumerate(self._sources):
                group.create_task(self._traffic(number, source))

    async def _traffic(self, number: int, source: CachingSource) -> None:
        while True:
            began = self.waiting[number] = time.monotonic()
            self.phase.asked += 1
            try:
                token = source.cached() or await source.token()
                self.phase.tokens.add(token.value)
            except TokenError:
                self.phase.failed += 1
            self.phase.longest_wait = max(self.phase.longest_wait, time.monotonic() - began)
            del self.waiting[number]
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
        replicas = []
        for _ in range(count):
            runner = await stack.enter_async_context(FlowRunner())
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


class Simulation:
    """Goes through phases, and keeps a line of the table for each."""

    def __init__(self, replicas: int, endpoint: TokenEndpoint, redis: Redis) -> None:
        self.lines: list[str] = []
        self._replicas = replicas
        self._endpoint = endpoint
        self._redis = redis
        self._tell(*COLUMNS)
        self._tell("---", *["--:"] * (len(COLUMNS) - 1))

    async def run(self) -> None:
        server = await asyncio.start_server(self._endpoint.serve, "127.0.0.1", 0, backlog=4096)
        port = server.sockets[0].getsockname()[1]
        async with fleet(self._replicas, port, None) as made:
            await self._phase(made, "no store: each replica for itself", 2)
        async with fleet(self._replicas, port, self._redis) as made:
            await self._with_redis(made)
        server.close()

    async def _with_redis(self, made: Fleet) -> None:
        await self._phase(made, "with Redis: all start at once", 0.5)
        await self._phase(made, "all is well", 3)
        self._endpoint.down = True
        await self._phase(made, "the token endpoint answers 503, while the token lasts", 0.5)
        await self._phase(made, "… and on, past its end", 2)
        self._endpoint.down = False
        await self._phase(made, "the token endpoint is back", 2)
        self._redis.freeze()
        await self._phase(made, "Redis hangs", 2)
        self._redis.thaw()
        await self._phase(made, "Redis goes on", 2)
        self._redis.die()
        await self._phase(made, "Redis is dead", 2)
        self._redis.start()
        await self._phase(made, "Redis is back, empty", 1)
        await self._phase(made, "a while later", 2)

    async def _phase(self, made: Fleet, name: str, lifetimes: float) -> None:
        """Let `lifetimes` of a token go by, and tell what happened."""
        seen = made.phase = Phase()
        before = self._endpoint.asked.total()
        await asyncio.sleep(lifetimes * self._endpoint.lifetime)
        requests = self._endpoint.asked.total() - before
        now = time.monotonic()
        waits = [now - began for began in made.waiting.values()]
        stuck = sum(wait > ASK_SECONDS for wait in waits)
        self._tell(
            name, f"{lifetimes:g}", f"{requests:,}", f"{requests / lifetimes * 3600 / LIFETIME_TOLD:,.0f}",
            f"{len(seen.tokens):,}", f"{seen.asked:,}", f"{seen.failed:,}", f"{stuck:,}",
            f"{max(seen.longest_wait, *waits, 0):.1f}",
        )  # fmt: skip

    def _tell(self, *cells: str) -> None:
        self.lines.append(f"| {' | '.join(cells)} |")
        print(self.lines[-1], flush=True)


def main() -> None:
    """Read the command line, and simulate."""
    parser = argparse.ArgumentParser(description="Simulate replicas that share a credential through Redis.")
    parser.add_argument("--replicas", type=int, default=1000)
    parser.add_argument("--lifetime", type=float, default=20.0, help="of a token, in seconds")
    parser.add_argument("--write-docs", action="store_true", help="put the table into docs/scaling.md")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, MAX_FILES) if most > 0 else MAX_FILES, most))
    logs.set_up("error", "text")
    with tempfile.TemporaryDirectory(prefix="authproxy-fleet-") as name:
        os.environ["XDG_STATE_HOME"] = name  # where rejections are remembered
        redis = Redis(Path(name))
        redis.start()
        try:
            simulation = Simulation(options.replicas, TokenEndpoint(options.lifetime), redis)
            asyncio.run(simulation.run())
        finally:
            redis.close()
    if options.write_docs:
        told = f"{options.replicas:,} replicas, tokens of {options.lifetime:g} s:"
        report.write_between(report.SCALING, "fleet", "\n".join([told, "", *simulation.lines]))


if __name__ == "__main__":
    main()
