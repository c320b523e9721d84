"""The command as a process, for tests that run an event loop; `tests.live.command` says what it starts with."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.live import command


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command came out: its exit code, and what it wrote to stdout and to stderr."""

    code: int
    result: str
    log: str


class Proxy:
    """A proxy at work."""

    def __init__(self, running: command.RunningProxy) -> None:
        self._running = running
        self.url = running.url
        self.admin_url = running.admin_url
        self.pid = running.pid

    def log(self) -> str:
        """Return what it wrote to stderr so far."""
        return self._running.log()

    async def stop(self) -> int:
        """Stop it, if it is still there; return its exit code."""
        return await asyncio.to_thread(self._running.stop)


@asynccontextmanager
async def running_proxy(
    config: Mapping[str, Any], *args: str, env: Mapping[str, str] | None = None
) -> AsyncIterator[Proxy]:
    """Run the proxy with `config` until the end of the block; ports are free ones unless it says otherwise."""
    running = command.running_proxy(config, *args, env=env)
    proxy = Proxy(await asyncio.to_thread(running.__enter__))
    try:
        yield proxy
    finally:
        await asyncio.to_thread(running.__exit__, None, None, None)


async def authproxy(
    *args: str, config: Mapping[str, Any] | str | None = None, env: Mapping[str, str] | None = None
) -> Ended:
    """Run the command to its end; `config`, a mapping or YAML, becomes its `-c`."""
    ended = await asyncio.to_thread(command.authproxy, *args, config=config, env=env)
    return Ended(ended.returncode, ended.stdout, ended.stderr)
