"""The installed command, as processes of its own: `running_proxy` serves, `authproxy` runs a verb to its end.

async with running_proxy({"routes": […]}) as proxy:
    proxy.url, proxy.pid, proxy.log()
    assert await proxy.stop() == 0

ended = await authproxy("token", "api", config={"routes": […]})
assert ended.code == 0, ended.log
"""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM, Signals
from tempfile import TemporaryDirectory
from typing import Any

COMMAND = str(Path(sys.executable).with_name("authproxy"))
PATIENCE = 20.0  # seconds until a process that does not start, or does not end, has failed

_NOT_INHERITED = re.compile(r"AUTHPROXY_.*|.*_PROXY", re.IGNORECASE)


class Proxy:
    """`authproxy run` at work; `url` is its first listener's."""

    def __init__(self, process: asyncio.subprocess.Process, log_file: Path, config_file: Path | None) -> None:
        self.config_file = config_file
        self.url = ""
        self._process = process
        self._log_file = log_file
        self._lines: list[str] = []

    @property
    def pid(self) -> int:
        return self._process.pid

    def log(self) -> str:
        """Return what it wrote to stderr; `stop` first, as access lines wait a moment for others."""
        return self._log_file.read_text("utf-8")

    async def said(self, start: str) -> str:
        """Return the rest of the first line on stdout that begins with `start`; wait for it if need be."""
        for line in self._lines:
            if line.startswith(start):
                return line.removeprefix(start)
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            while raw := await self._process.stdout.readline():
                line = raw.decode().rstrip("\n")
                self._lines.append(line)
                if line.startswith(start):
                    return line.removeprefix(start)
        raise AssertionError(
            f"ended with {await self._ended()} before it said {start!r}; its log:\n{self.log()}"
        )

    def signal(self, number: Signals) -> None:
        self._process.send_signal(number)

    async def stop(self, number: Signals = SIGTERM) -> int:
        """End it, unless it has ended already; return its exit code."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)
        return await self._ended()

    async def _ended(self) -> int:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._process.communicate()  # reads on, so that the pipe is closed too
        except TimeoutError:
            self._process.kill()
            await self._process.communicate()
        assert self._process.returncode is not None
        return self._process.returncode


@asynccontextmanager
async def running_proxy(
    config: Mapping[str, Any] | str | None, *args: str, env: Mapping[str, str] | None = None
) -> AsyncIterator[Proxy]:
    """Run `authproxy run` with `config` (plain data, or YAML as it stands; None for none) and `args`.

    It listens on a free port unless `config` or `args` say where; it has no admin listener without `--admin`.
    """
    options = list(args)
    if "--listen" not in args and not (isinstance(config, Mapping) and "listen" in config):
        options += ["--listen", "127.0.0.1:0"]
    if "--admin" not in args:
        options += ["--no-admin"]
    with TemporaryDirectory() as directory:
        log_file = Path(directory, "log")
        config_file = _written(config, directory)
        with log_file.open("wb") as log:  # noqa: ASYNC230 - a local file
            process = await asyncio.create_subprocess_exec(
                COMMAND,
                "run",
                *(["-c", str(config_file)] if config_file else []),
                *options,
                env=_environment(env, directory),
                cwd=directory,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        proxy = Proxy(process, log_file, config_file)
        try:
            proxy.url = await proxy.said("listening on ")
            yield proxy
        except BaseException:
            sys.stderr.write(proxy.log())  # pytest shows it with the failure
            raise
        finally:
            await proxy.stop()
        assert "internal error" not in proxy.log(), proxy.log()


@dataclass(frozen=True, slots=True)
class Ended:
    """How a verb ended: its exit code, its result (stdout) and everything else (stderr)."""

    code: int
    result: str
    log: str


async def authproxy(
    *args: str, config: Mapping[str, Any] | str | None = None, env: Mapping[str, str] | None = None
) -> Ended:
    """Run `authproxy` with `args` to its end; `config` is given to the verb as its file."""
    with TemporaryDirectory() as directory:
        config_file = _written(config, directory)
        process = await asyncio.create_subprocess_exec(
            COMMAND,
            *args,
            *(["-c", str(config_file)] if config_file else []),
            env=_environment(env, directory),
            cwd=directory,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(PATIENCE):
                result, log = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.communicate()
            raise
    assert process.returncode is not None
    return Ended(process.returncode, result.decode(), log.decode())


def _written(config: Mapping[str, Any] | str | None, directory: str) -> Path | None:
    if config is None:
        return None
    file = Path(directory, "authproxy.yaml")
    file.write_text(config if isinstance(config, str) else json.dumps(config, indent=2), "utf-8")
    return file


def _environment(more: Mapping[str, str] | None, directory: str) -> dict[str, str]:
    """Return this process's environment, without what would send or configure the proxy elsewhere.

    What the proxy remembers is kept in `directory`, unless `more` says where.
    """
    inherited = {name: value for name, value in os.environ.items() if not _NOT_INHERITED.fullmatch(name)}
    # Nobody's real keyring is opened by a test.
    own = {"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}
    if "HOME" not in (more or {}):
        own["XDG_STATE_HOME"] = str(Path(directory, "state"))
    return inherited | own | dict(more or {})
