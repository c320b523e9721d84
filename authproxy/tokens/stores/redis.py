"""Keeps tokens in Redis, for all replicas.

    PREFIX + NAME             a sealed token, until it and its refresh token are of no more use
    PREFIX + NAME + ":lock"   who renews it, for the length of a lease

The lease is short, so that a dead replica is soon out of the way, and extended while its holder lives, so
that a slow token endpoint cannot outlive it. Taking and extending are one script that may be sent twice. A
holder that finds its lock gone (Redis began anew) takes it again; one that finds another's in its place was
stopped for too long.
"""

import asyncio
import contextlib
import os
import random
import secrets
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from math import inf
from typing import Any, TypeVar, cast

from authproxy import logs
from authproxy.errors import StoreBusy, StoreError
from authproxy.masking import without_query
from authproxy.tokens.rejection import Rejection
from authproxy.tokens.source import Clock
from authproxy.tokens.stores import LOCK_SECONDS
from authproxy.tokens.stores.cipher import Cipher, Unreadable
from authproxy.tokens.token import Token

PREFIX = "authproxy:"
IS_IT_UP = "check host and port in token_store.url, and whether Redis is up"
LEASE_SECONDS = 15.0
CONNECT_SECONDS = 1.0
ANSWER_SECONDS = 2.0
WHOLE_SECONDS = 3.0  # for one command, its second try included
KEEP_SECONDS = 400 * 86400.0  # an entry that may be good for ever: it holds a refresh token, or never expires
KEEP_REJECTION_SECONDS = 86400.0  # so long it counts how often in a row a credential was rejected
KEEP_EXPIRED_SECONDS = 60.0  # an entry without a refresh token, after its token expired
FIRST_POLL = 0.02  # seconds between two tries for a lock, doubled up to…
MAX_POLL = 0.2

T = TypeVar("T")

_TAKE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


class RedisStore:
    """The tokens under `prefix` in the Redis at `url`, sealed with the passphrase `key`.

    `url` is `redis://`, `rediss://` or `unix://`, with user, password and database if need be.
    `lease_seconds` is how long a dead holder keeps others waiting, `lock_seconds` how long `lock` waits at
    all. Nothing is connected to before the first use. Raises `StoreError` without the `redis` package or
    with a bad URL.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        prefix: str = PREFIX,
        lease_seconds: float = LEASE_SECONDS,
        lock_seconds: float = LOCK_SECONDS,
        clock: Clock = time.time,
    ) -> None:
        self._client, self._place = _client(url)
        self._passphrase = key
        self._prefix = prefix
        self._lease_seconds = lease_seconds
        self._lock_seconds = lock_seconds
        self._clock = clock
        self._opening = asyncio.Lock()
        self._cipher: Cipher | None = None
        self._reported: set[str] = set()  # entries that were warned of already

    async def load(self, key: str) -> Token | None:
        return await self._load(key, Cipher.unseal)

    async def save(self, key: str, token: Token) -> None:
        await self._save(key, token, self._kept_seconds(token))

    async def load_rejection(self, key: str) -> Rejection | None:
        return await self._load(key, Cipher.unseal_rejection)

    async def save_rejection(self, key: str, rejection: Rejection) -> None:
        await self._save(key, rejection, KEEP_REJECTION_SECONDS)

    async def mark(self, text: str) -> str:
        return (await self._open()).name(text)

    async def forget(self, key: str) -> None:
        await self._asked(self._client.delete(self._prefix + (await self._open()).name(key)))

    @contextlib.asynccontextmanager
    async def lock(self, key: str) -> AsyncIterator[None]:
        name = f"{self._prefix}{(await self._open()).name(key)}:lock"
        holder = secrets.token_hex(16)
        try:
            await self._wait_for(name, holder)
        except asyncio.CancelledError:
            await self._release(name, holder)  # the script may have run all the same
            raise
        extending = asyncio.create_task(self._extend(name, holder), name="extend a token lock")
        try:
            yield
        finally:
            extending.cancel()
            await asyncio.wait([extending])
            await self._release(name, holder)

    async def close(self) -> None:
        with contextlib.suppress(StoreError):
            await self._asked(self._client.aclose())

    # ── the lock ─────────────────────────────────────────────────────────────────────────────────

    async def _wait_for(self, name: str, holder: str) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._lock_seconds
        poll = FIRST_POLL
        while not await self._take(name, holder):
            if loop.time() > deadline:
                raise StoreBusy(
                    f"another replica has been renewing this token for {self._lock_seconds:.0f} s"
                )
            await asyncio.sleep(poll * random.uniform(0.5, 1))  # noqa: S311 - so that nobody keeps step
            poll = min(poll * 2, MAX_POLL)

    async def _take(self, name: str, holder: str) -> bool:
        lease = str(int(self._lease_seconds * 1000))
        return bool(await self._asked(self._client.eval(_TAKE, 1, name, holder, lease)))

    async def _extend(self, name: str, holder: str) -> None:
        """Keep the lock until cancelled. Losing it stops nobody.

        The token request is out already: breaking it off would lose the refresh token in its answer.
        """
        while True:
            await asyncio.sleep(self._lease_seconds / 3)
            with contextlib.suppress(StoreError):  # tried again; without Redis nobody else can take it either
                if not await self._take(name, holder):
                    logs.warning(
                        "token lock lost", store=self._place, hint="this process was suspended for too long"
                    )
                    return

    async def _release(self, name: str, holder: str) -> None:
        with contextlib.suppress(StoreError):  # then the lease ends it
            await self._asked(self._client.eval(_RELEASE, 1, name, holder))

    # ── Redis ────────────────────────────────────────────────────────────────────────────────────

    async def _open(self) -> Cipher:
        async with self._opening:
            if self._cipher is None:
                self._cipher = await asyncio.to_thread(Cipher.from_passphrase, self._passphrase)
            return self._cipher

    async def _load(self, key: str, unseal: Callable[[Cipher, str, bytes], T]) -> T | None:
        cipher = await self._open()
        name = cipher.name(key)
        sealed = await self._asked(self._client.get(self._prefix + name))
        if sealed is None:
            return None
        try:
            return unseal(cipher, key, sealed)
        except Unreadable as error:
            if name not in self._reported:
                self._reported.add(name)
                logs.warning("stored token unreadable", store=self._place, entry=name[:8], cause=str(error))
            return None

    async def _save(self, key: str, kept: Token | Rejection, seconds: float) -> None:
        cipher = await self._open()
        name, sealed = self._prefix + cipher.name(key), cipher.seal(key, kept)
        await self._asked(self._client.set(name, sealed, px=int(seconds * 1000)))

    async def _asked(self, command: Coroutine[Any, Any, T]) -> T:
        """Return Redis's answer. Raises `StoreError`, and soon: requests wait for this.

        The command has a task of its own, which whoever is cancelled waits for. In ours, the client would
        now and then take our cancellation for its own affair, and we would go on as if nothing had happened.
        """
        answering = asyncio.create_task(command, name="ask Redis")
        answering.add_done_callback(_noted)
        try:
            await asyncio.wait([answering], timeout=WHOLE_SECONDS)
        except asyncio.CancelledError:
            await asyncio.wait([answering], timeout=WHOLE_SECONDS)
            raise
        finally:
            answering.cancel()  # of no effect, unless it took too long
        if not answering.done():
            raise StoreError(f"Redis at {self._place} did not answer in time", hint=IS_IT_UP)
        with _translated(self._place):
            return answering.result()

    def _kept_seconds(self, token: Token) -> float:
        if token.refresh_token is not None or token.expires_at == inf:
            return KEEP_SECONDS
        return min(max(token.expires_at - self._clock(), 0.0) + KEEP_EXPIRED_SECONDS, KEEP_SECONDS)

    def __repr__(self) -> str:
        return f"<RedisStore {self._place}>"


def _client(url: str) -> tuple[Any, str]:
    """Return a client for `url`, and its address without user and password."""
    try:
        from redis.asyncio import Redis  # noqa: PLC0415 - an extra
        from redis.asyncio.retry import Retry  # noqa: PLC0415
        from redis.backoff import NoBackoff  # noqa: PLC0415
    except ImportError:
        raise StoreError(
            "the package redis is not installed", hint="pip install 'authproxy[redis]'"
        ) from None
    place = without_query(url)
    # Without a password OpenSSL would ask for that of an encrypted key on the terminal.
    tls: dict[str, Any] = {"ssl_password": ""} if url.startswith("rediss://") else {}
    try:
        client = Redis.from_url(
            url,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 1),  # once: a kept connection may have died since
            decode_responses=False,
            **tls,
        )
    except ValueError:
        raise StoreError(
            f"{place} is not a Redis URL", hint="redis://:PASSWORD@HOST:6379/0, rediss://… or unix://…"
        ) from None
    return cast("Any", client), place


def _noted(task: asyncio.Task[Any]) -> None:
    """Keep asyncio from complaining of a failure that nobody waits for any more."""
    if not task.cancelled():
        task.exception()


@contextlib.contextmanager
def _translated(place: str) -> Iterator[None]:
    """Make `StoreError` of what the client raises, without its text: that may quote a command."""
    from redis import exceptions  # noqa: PLC0415

    try:
        yield
    except (exceptions.AuthenticationError, exceptions.NoPermissionError) as error:
        raise StoreError(
            f"Redis at {place} denied access", hint="check the user and the password in token_store.url"
        ) from error
    except (TimeoutError, exceptions.TimeoutError) as error:
        raise StoreError(f"Redis at {place} did not answer in time", hint=IS_IT_UP) from error
    except (exceptions.RedisError, OSError) as error:
        raise StoreError(f"Redis at {place} cannot be used: {_why(error)}", hint=IS_IT_UP) from error


def _why(error: BaseException) -> str:
    """Return what the system said, where `error` was made of that; else what the client calls it."""
    said: BaseException | None = error
    while said is not None and not isinstance(said, OSError):
        said = said.__cause__ or said.__context__
    match said:
        case None:
            return type(error).__name__
        case socket.gaierror():
            return "its host name does not resolve"
        case ssl.SSLError():  # its errno is OpenSSL's own
            return "no TLS with it"
        case _:  # where several addresses were tried, there is no one errno
            return os.strerror(said.errno) if said.errno else "cannot connect"
