"""Runs the command as its users do, for tests that are asynchronous: the other face of `launch` is `command`.

async with running_proxy({"routes": […]}) as proxy:
    proxy.url, proxy.admin_url, proxy.pid, proxy.log()
    assert await proxy.stop() == 0

ended = await authproxy("token", "api", config={"routes": […]})
assert ended.returncode == 0, ended.stderr
"""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from tests.support import command
from tests.support.launch import GUARD, POLL, STOP, Launched, launched


class RunningProxy(Launched):
    """A proxy at work."""

    async def wait(self) -> int:
        """Return the exit code, once there is one."""
        await wait_until(self.has_ended, lambda: f"it does not end: {self.log()}")
        code: int = self.process.returncode
        return code

    async def stop(self, number: int = STOP) -> int:
        """Stop it, if it is still there; return its exit code."""
        self.signal(number)
        return await self.wait()


@asynccontextmanager
async def running_proxy(
    config: Mapping[str, Any] | None, *args: str, **options: Any
) -> AsyncIterator[RunningProxy]:
    """Run the proxy with `config` until the end of the block; `options` are those of `launched`."""
    with launched(RunningProxy, config, *args, **options) as proxy:
        await wait_until(proxy.is_listening, proxy.why_not_listening)
        try:
            yield proxy
        finally:
            await proxy.stop()
        assert "internal error" not in proxy.log()


async def authproxy(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, with the `options` of `command.authproxy`."""
    return await asyncio.to_thread(command.authproxy, *args, **options)


async def wait_until(condition: Callable[[], object], otherwise: Callable[[], str]) -> None:
    """Wait until `condition` holds; fail with the sentence that `otherwise` returns."""
    try:
        async with asyncio.timeout(GUARD):
            while not condition():
                await asyncio.sleep(POLL)
    except TimeoutError:
        raise AssertionError(otherwise()) from None
