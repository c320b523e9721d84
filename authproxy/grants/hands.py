"""The only place that does what a flow asks for: HTTP, programs, files, one-time codes.

Here foreign errors become `TokenError`s. Redirects are never followed, a reply is read up to 1 MiB, and
nothing is sent twice: a token request repeated on a stale connection would be a second login.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import pyotp
from yarl import URL

from authproxy import __version__
from authproxy.errors import (
    BadTokenReply,
    TokenError,
    TokenTimeout,
    TokenUnavailable,
)
from authproxy.grants.base import Answer, Ask, Code, Flow, Read, Run
from authproxy.tokens.source import Clock
from authproxy.tokens.token import Token

CONNECT_TIMEOUT = 10.0  # seconds
TOTAL_TIMEOUT = 30.0
LONGEST_REPLY = 1 << 20  # bytes
CODE_PERIOD = 30  # seconds a one-time code is good for (RFC 6238 §4.1)


class Hands:
    """Carries out the steps of flows. Use as `async with Hands() as hands`."""

    def __init__(
        self, *, clock: Clock = time.time, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._session: aiohttp.ClientSession | None = None
        self._last_period: dict[str, int] = {}  # the period of the last code made from each secret

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def carry_out(self, flow: Flow) -> Token:
        """Hold `flow`'s conversation to its end. Raises `TokenError`."""
        answer: Answer | str | None = None
        try:
            while True:
                answer = await self._answer(flow.send(answer))
        except StopIteration as end:
            token: Token = end.value
            return token
        finally:
            flow.close()

    async def _answer(self, step: object) -> Answer | str:
        match step:
            case Ask():
                return await self._ask(step)
            case Run():
                return await self._run(step)
            case Read():
                return await self._read(step)
            case Code():
                return await self._code(step)
            case _:
                raise TypeError(f"a flow cannot ask for a {type(step).__name__}")

    # ── HTTP ─────────────────────────────────────────────────────────────────────────────────────

    async def _ask(self, ask: Ask) -> Answer:
        place = ask.place
        asked_at = self._clock()
        try:
            async with self._client().request(
                ask.method,
                URL(ask.url, encoded=True),
                data=ask.body,
                headers={"User-Agent": f"authproxy/{__version__}", **ask.headers},
                skip_auto_headers=("Content-Type", "Accept-Encoding"),
                allow_redirects=False,
                proxy=environment_proxy(ask.url),
            ) as response:
                body = await _read_up_to(response.content, LONGEST_REPLY, place)
                return Answer(body, asked_at, place, response.status, response.headers)
        except TimeoutError as error:
            raise TokenTimeout(f"{place} did not answer in time") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _translated(error, place) from error

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # A connection of its own for each request: aiohttp repeats on a stale one by itself.
                connector=aiohttp.TCPConnector(force_close=True, limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(
                    total=TOTAL_TIMEOUT, connect=CONNECT_TIMEOUT, sock_connect=CONNECT_TIMEOUT
                ),
                trust_env=False,  # it would also read ~/.netrc
            )
        return self._session

    # ── programs and files ───────────────────────────────────────────────────────────────────────

    async def _run(self, run: Run) -> Answer:
        program = run.argv[0]
        asked_at = self._clock()
        try:
            process = await asyncio.create_subprocess_exec(
                *run.argv,
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
        try:
            async with asyncio.timeout(TOTAL_TIMEOUT):
                assert process.stdout is not None  # noqa: S101 - asked for above
                output = await _read_up_to(process.stdout, LONGEST_REPLY, program)
                code = await process.wait()
        except TimeoutError as error:
            raise TokenTimeout(f"{program} did not end within {TOTAL_TIMEOUT:.0f} s") from error
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if code != 0:
            raise TokenUnavailable(
                f"{program} ended with exit code {code}", hint="run the command by hand to see why"
            )
        return Answer(output, asked_at, program)

    async def _read(self, read: Read) -> Answer:
        asked_at = self._clock()
        try:
            body = await asyncio.to_thread(Path(read.path).read_bytes)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else type(error).__name__
            raise TokenUnavailable(f"cannot read {read.path}: {reason}") from error
        return Answer(body[:LONGEST_REPLY], asked_at, read.path)

    # ── one-time codes ───────────────────────────────────────────────────────────────────────────

    async def _code(self, code: Code) -> str:
        """Make a code; if this period's is taken already, wait for the next one that is not."""
        now = self._clock()
        period = max(int(now // CODE_PERIOD), self._last_period.get(code.secret, -1) + 1)
        self._last_period[code.secret] = period
        if period * CODE_PERIOD > now:
            await self._sleep(period * CODE_PERIOD - now)
        return pyotp.TOTP(code.secret, interval=CODE_PERIOD).at(period * CODE_PERIOD)


async def _read_up_to(stream: aiohttp.StreamReader | asyncio.StreamReader, limit: int, place: str) -> bytes:
    chunks, size = [], 0
    while chunk := await stream.read(1 << 16):
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            raise BadTokenReply(f"{place} sent more than {limit >> 20} MiB")
    return b"".join(chunks)


_TROUBLES: tuple[tuple[tuple[type[Exception], ...], str, str | None], ...] = (
    (
        (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError),
        "the TLS certificate of {} is not acceptable",
        "name its CA in SSL_CERT_FILE, or correct the URL",
    ),
    (
        (aiohttp.ClientConnectorDNSError,),
        "the host name of {} does not resolve",
        "check the URL and the network",
    ),
    ((aiohttp.ClientConnectorError,), "cannot connect to {}", "check the URL, and whether it is up"),
    ((aiohttp.ServerDisconnectedError,), "{} closed the connection without an answer", None),
    ((aiohttp.ClientPayloadError,), "{} broke off its answer", None),
    ((aiohttp.InvalidURL,), "{} is not a URL that can be asked", "check the URL"),
)


def _translated(error: Exception, place: str) -> TokenError:
    """Return the `TokenError` for a foreign error, without the foreign text: that may quote a header."""
    for kinds, sentence, hint in _TROUBLES:
        if isinstance(error, kinds):
            return TokenUnavailable(sentence.format(place), hint=hint)
    return TokenUnavailable(f"{place} did not answer in HTTP ({type(error).__name__})")


def environment_proxy(url: str) -> str | None:
    """Return the proxy that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name for `url`, or None."""
    parts = urlsplit(url)
    if not parts.hostname or proxy_bypass(parts.hostname):
        return None
    return getproxies().get(parts.scheme)
