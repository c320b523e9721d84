"""The only place that does what a flow asks for: HTTP, programs, files, one-time codes, people.

Here foreign errors become `TokenError`s. Redirects are never followed, a reply is read up to 1 MiB, and
nothing is sent twice: a token request repeated on a stale connection would be a second login.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from authproxy.capabilities import kill_with_children
from authproxy.errors import (
    BadTokenReply,
    CredentialRejected,
    LoginRequired,
    TokenError,
    TokenTimeout,
    TokenUnavailable,
)
from authproxy.grants.discovery import Server
from authproxy.grants.reply import MAX_REPLY, TOTAL_TIMEOUT, read_up_to
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
from authproxy.grants.totp import OneTimeCodes
from authproxy.grants.transport import DIRECT, Transport
from authproxy.net.own_listeners import NOBODY, OwnListeners
from authproxy.places import working_directory
from authproxy.tokens.source import Clock
from authproxy.tokens.token import Token

if TYPE_CHECKING:
    from authproxy.grants.http import TokenEndpointClient

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
    relative path of theirs starts too. `heard` is told of each answer of a token endpoint, `discovered` of
    what an issuer publishes.
    """

    def __init__(
        self,
        *,
        own: OwnListeners = NOBODY,
        directory: Path = Path(),
        clock: Clock = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        heard: Callable[[Ask, Answer], None] = lambda _ask, _answer: None,
        discovered: Callable[[str, Server], None] = lambda _issuer, _server: None,
    ) -> None:
        self._discovered = discovered
        self._heard = heard
        self._directory = working_directory() / directory
        self._clock = clock
        self._sleep = sleep
        self._own = own
        self._client: TokenEndpointClient | None = None  # from the first request on
        self._codes = OneTimeCodes(clock, sleep)
        self._used_up: set[UseUp] = set()
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
        if self._client is not None:
            await self._client.close()

    async def run(self, flow: Flow, ui: LoginUI | None = None, *, transport: Transport = DIRECT) -> Token:
        """Hold `flow`'s conversation to its end; a login has it with a person too. Raises `TokenError`.

        Its requests go by `transport`, the route's.
        """
        try:
            step = next(flow)
            while True:
                try:
                    answer = await self._answer(step, ui, transport)
                except TokenError as failure:
                    step = flow.throw(failure)
                else:
                    step = flow.send(answer)
        except StopIteration as end:
            token: Token = end.value
            return token
        finally:
            flow.close()

    async def _answer(self, step: Step, ui: LoginUI | None, transport: Transport) -> Any:
        if isinstance(step, Show | Callback):
            return await _of_the_user(step, ui)
        if isinstance(step, Ask):
            answer = await self._http().ask(step, transport)
            self._heard(step, answer)
            return answer
        if isinstance(step, Discover):
            server = await self._http().discover(step.issuer, transport)
            self._discovered(step.issuer, server)
            return server
        handler = self._handlers.get(type(step))
        if handler is None:
            raise TypeError(f"a flow cannot ask for a {type(step).__name__}")
        return await handler(step)

    def _http(self) -> "TokenEndpointClient":
        if self._client is None:
            from authproxy.grants.http import TokenEndpointClient

            self._client = TokenEndpointClient(self._own, self._clock)
        return self._client

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
                    kill_with_children(process.pid)
            transport.close()  # else the end of one that has more to print is never heard of
            await process.wait()
        if code != 0:
            raise TokenUnavailable(
                f"{program} ended with exit code {code}", hint="run the command by hand to see why"
            )
        return Answer(output, asked_at, program, setting="")

    async def _read(self, read: Read) -> Answer:
        asked_at = self._clock()
        try:
            body, written_at = await asyncio.to_thread(_content, read.path)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else type(error).__name__
            raise TokenUnavailable(f"cannot read {read.path}: {reason}") from error
        if len(body) > MAX_REPLY:
            raise BadTokenReply(f"{read.path} is larger than {MAX_REPLY >> 20} MiB")
        return Answer(body, asked_at, read.path, age=abs(asked_at - written_at), setting="")

    # ── one-time codes ───────────────────────────────────────────────────────────────────────────

    async def _code(self, code: Code) -> str:
        return await self._codes.make(code.secret)

    async def _use_up(self, step: UseUp) -> None:
        if step in self._used_up:
            raise CredentialRejected(
                f"the one-time code for {step.place} has already been used",
                hint="set a new code, or the secret from which authproxy generates codes",
            )
        self._used_up.add(step)


def _content(path: str) -> tuple[bytes, float]:
    """Return what is in a file, up to a little more than a token may have, and when it was written to."""
    with Path(path).open("rb") as file:
        return file.read(MAX_REPLY + 1), os.fstat(file.fileno()).st_mtime


async def _of_the_user(step: Show | Callback, ui: LoginUI | None) -> Mapping[str, str] | None:
    if ui is None:
        raise LoginRequired("this needs a user, and there is none")
    if isinstance(step, Callback):
        return await ui.callback(step.state)
    await ui.show(step)
    return None
