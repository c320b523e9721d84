"""The only place that does what a flow asks for: HTTP, programs, files, one-time codes, people.

Here foreign errors become `TokenError`s. Redirects are never followed, a reply is read up to 1 MiB, and
nothing is sent twice: a token request repeated on a stale connection would be a second login.
"""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, Self

import aiohttp
from yarl import URL

from authproxy import __version__
from authproxy.errors import (
    BadTokenReply,
    CredentialRejected,
    LoginRequired,
    TokenError,
    TokenLoop,
    TokenTimeout,
    TokenUnavailable,
)
from authproxy.grants.client import client_session
from authproxy.grants.discovery import Server, discover
from authproxy.grants.http import (
    CONNECT_TIMEOUT,
    MAX_REPLY,
    PROXY_REFUSED,
    TOTAL_TIMEOUT,
    client_tls,
    no_way,
    proxy_to,
    read_up_to,
    translated,
)
from authproxy.grants.steps import (
    Answer,
    Ask,
    Callback,
    Code,
    Discover,
    Flow,
    Now,
    Read,
    Run,
    Show,
    Step,
    UseUp,
    Wait,
)
from authproxy.grants.totp import CODE_PERIOD, TAKEN_PERIODS, code_of
from authproxy.net.http_proxy import ADVICE, HTTPProxy, Setting
from authproxy.net.own_listeners import NOBODY, OwnListeners
from authproxy.places import working_directory
from authproxy.tokens.source import Clock
from authproxy.tokens.token import Token

DISCOVERY_LASTS = 3600.0  # seconds
EXEC_INFO = {  # what kubectl tells its credential plugins; without it some will not work
    "KUBERNETES_EXEC_INFO": '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", '
    '"spec": {"interactive": false}}'
}


class LoginUI(Protocol):
    """How a login reaches its user: a terminal, or a page."""

    async def show(self, show: Show) -> None:
        """Have the user open a URL, or enter a code there; do not wait until it is done."""
        ...

    async def callback(self, state: str) -> Mapping[str, str]:
        """Return the query with which the user's browser came back. One with another `state` is not ours."""
        ...


class FlowRunner:
    """Carries out the steps of flows. Use as `async with FlowRunner() as runner`.

    None of `own`, the proxy's listeners, is ever asked. Programs are run in `directory`, from which a
    relative path of theirs starts too.
    """

    def __init__(
        self,
        *,
        own: OwnListeners = NOBODY,
        directory: Path = Path(),
        clock: Clock = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._own = own
        self._directory = working_directory() / directory
        self._clock = clock
        self._sleep = sleep
        self._session: aiohttp.ClientSession | None = None
        self._periods: dict[str, deque[int]] = {}  # those of the last codes made from each secret
        self._used_up: set[UseUp] = set()
        self._servers: dict[
            str, tuple[float, Server]
        ] = {}  # what each issuer publishes, and since when we know
        self._handlers: dict[type, Callable[[Any], Awaitable[Any]]] = {
            Now: self._now,
            Wait: self._wait,
            Run: self._run,
            Read: self._read,
            Code: self._code,
            UseUp: self._use_up,
        }

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def run(self, flow: Flow, ui: LoginUI | None = None, *, http_proxy: Setting = None) -> Token:
        """Hold `flow`'s conversation to its end; a login has it with a person too. Raises `TokenError`.

        `http_proxy` is the route's: its requests go that way.
        """
        try:
            step = next(flow)
            while True:
                try:
                    answer = await self._answer(step, ui, http_proxy)
                except TokenError as failure:
                    step = flow.throw(failure)
                else:
                    step = flow.send(answer)
        except StopIteration as end:
            token: Token = end.value
            return token
        finally:
            flow.close()

    async def _answer(self, step: Step, ui: LoginUI | None, http_proxy: Setting) -> Any:
        if isinstance(step, Show | Callback):
            return await _of_the_user(step, ui)
        if isinstance(step, Ask):
            return await self._ask(step, http_proxy)
        if isinstance(step, Discover):
            return await self._discover(step, http_proxy)
        handler = self._handlers.get(type(step))
        if handler is None:
            raise TypeError(f"a flow cannot ask for a {type(step).__name__}")
        return await handler(step)

    # ── HTTP ─────────────────────────────────────────────────────────────────────────────────────

    async def _ask(self, ask: Ask, http_proxy: Setting) -> Answer:
        place = ask.place
        proxy = proxy_to(ask, http_proxy, self._own)
        # aiohttp sends a proxy's headers with CONNECT; where there is none, the request itself carries them.
        forwarded = proxy.headers if proxy is not None and ask.url.startswith("http:") else {}
        tls = await client_tls(ask.client_certificate) if ask.client_certificate is not None else True
        asked_at = self._clock()
        try:
            await self._refuse_loops(ask, proxy)
            async with self._client().request(
                ask.method,
                URL(ask.url, encoded=True),
                data=ask.body,
                headers={"User-Agent": f"authproxy/{__version__}", **ask.headers, **forwarded},
                skip_auto_headers=("Content-Type", "Accept-Encoding"),
                allow_redirects=False,
                proxy=str(proxy) if proxy is not None else None,
                proxy_headers=proxy.headers if proxy is not None else None,
                ssl=tls,
            ) as response:
                if response.status == PROXY_REFUSED and proxy is not None:
                    raise no_way(proxy, place)
                body = await read_up_to(response.content, MAX_REPLY, place)
                return Answer(body, asked_at, place, response.status, response.headers, secrets=ask.secrets)
        except TimeoutError as error:
            raise TokenTimeout(f"{place} did not answer in time") from error
        except (aiohttp.ClientHttpProxyError, aiohttp.ClientProxyConnectionError) as error:
            assert proxy is not None  # noqa: S101 - else there was none to fail
            raise no_way(proxy, place) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise translated(error, place) from error

    async def _refuse_loops(self, ask: Ask, proxy: HTTPProxy | None) -> None:
        """Raise `TokenLoop` when `ask` would come back to ourselves."""
        url = URL(ask.url, encoded=True)
        host, port = (proxy.host, proxy.port) if proxy is not None else (url.host or "", url.port or 0)
        if not self._own.listens_at(port):
            return
        try:
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(CONNECT_TIMEOUT):
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):  # a timeout is one as well; who asks hears of it
            return
        if any(self._own.reached_by(each[4]) for each in found):
            what = f"the HTTP proxy {proxy}" if proxy is not None else ask.place
            raise TokenLoop(
                f"{what} is one of authproxy's own listeners: requests would come back to it",
                hint=ADVICE if proxy is not None else "name the token endpoint's own address",
            )

    async def _discover(self, step: Discover, http_proxy: Setting) -> Server:
        """Return what the issuer publishes; what is known already is good for an hour."""
        found_at, known = self._servers.get(step.issuer, (0.0, None))
        if known is not None and abs(self._clock() - found_at) < DISCOVERY_LASTS:
            return known
        talk = discover(step.issuer)
        ask = next(talk)
        try:
            while True:
                ask = talk.send(await self._ask(ask, http_proxy))
        except StopIteration as end:
            server: Server = end.value
        self._servers[step.issuer] = self._clock(), server
        return server

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = client_session(
                aiohttp.ClientTimeout(
                    total=TOTAL_TIMEOUT, connect=CONNECT_TIMEOUT, sock_connect=CONNECT_TIMEOUT
                )
            )
        return self._session

    # ── time ─────────────────────────────────────────────────────────────────────────────────────

    async def _now(self, _step: Now) -> float:
        return self._clock()

    async def _wait(self, step: Wait) -> None:
        await self._sleep(step.seconds)

    # ── programs and files ───────────────────────────────────────────────────────────────────────

    async def _run(self, run: Run) -> Answer:
        program, loop = run.argv[0], asyncio.get_running_loop()
        asked_at = self._clock()
        try:
            transport, protocol = await loop.subprocess_exec(
                lambda: asyncio.subprocess.SubprocessStreamProtocol(MAX_REPLY, loop),
                *run.argv,
                cwd=self._directory,
                env=EXEC_INFO | os.environ,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=None,  # goes where ours goes, as with kubectl's credential plugins
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            reason = (
                os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "bad arguments"
            )
            raise BadTokenReply(f"cannot run {program}: {reason}") from error
        process = asyncio.subprocess.Process(transport, protocol, loop)
        try:
            async with asyncio.timeout(TOTAL_TIMEOUT):
                assert process.stdout is not None  # noqa: S101 - asked for above
                output = await read_up_to(process.stdout, MAX_REPLY, program)
                code = await process.wait()
        except TimeoutError as error:
            raise TokenTimeout(f"{program} did not end within {TOTAL_TIMEOUT:.0f} s") from error
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            transport.close()  # else the end of one that has more to print is never heard of
            await process.wait()
        if code != 0:
            raise TokenUnavailable(
                f"{program} ended with exit code {code}", hint="run the command by hand to see why"
            )
        return Answer(output, asked_at, program)

    async def _read(self, read: Read) -> Answer:
        asked_at = self._clock()
        try:
            body, written_at = await asyncio.to_thread(_content, read.path)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else type(error).__name__
            raise TokenUnavailable(f"cannot read {read.path}: {reason}") from error
        if len(body) > MAX_REPLY:
            raise BadTokenReply(f"{read.path} holds more than {MAX_REPLY >> 20} MiB")
        return Answer(body, asked_at, read.path, age=abs(asked_at - written_at))

    # ── one-time codes ───────────────────────────────────────────────────────────────────────────

    async def _code(self, code: Code) -> str:
        """Make a code; if this period's is taken already, wait for the next one that is not.

        Which periods are taken is remembered one by one: after the clock was set back, the last of them may
        be hours away.
        """
        now = self._clock()
        taken = self._periods.setdefault(code.secret, deque(maxlen=TAKEN_PERIODS))
        period = int(now // CODE_PERIOD)
        while period in taken:
            period += 1
        taken.append(period)
        if period * CODE_PERIOD > now:
            await self._sleep(period * CODE_PERIOD - now)
        return code_of(period, code.secret)

    async def _use_up(self, step: UseUp) -> None:
        if step in self._used_up:
            raise CredentialRejected(
                f"the one-time code for {step.place} was used already",
                hint="give a new code, or the secret from which authproxy makes the codes",
            )
        self._used_up.add(step)


def _content(path: str) -> tuple[bytes, float]:
    """Return what is in a file, up to a little more than a token may have, and when it was written to."""
    with Path(path).open("rb") as file:
        return file.read(MAX_REPLY + 1), os.fstat(file.fileno()).st_mtime


async def _of_the_user(step: Show | Callback, ui: LoginUI | None) -> Mapping[str, str] | None:
    if ui is None:
        raise LoginRequired("this needs a person, and nobody is there")
    if isinstance(step, Callback):
        return await ui.callback(step.state)
    await ui.show(step)
    return None
