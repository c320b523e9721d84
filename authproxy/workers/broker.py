"""Answers the workers' questions for tokens, and adds up what they have counted."""

import asyncio
import contextlib
import socket
from collections.abc import Callable

from authproxy import logs
from authproxy.app.credentials import TokenSources
from authproxy.config.model import Config
from authproxy.config.route import RouteConfig
from authproxy.errors import TokenError, TokenUnavailable
from authproxy.tokens.token import Token
from authproxy.workers.broker_client import to_message
from authproxy.workers.channel import Channel, Message

COUNT_SECONDS = 1.0  # how long a reader of `/metrics` waits for the workers' counts


# ── tokens between processes ─────────────────────────────────────────────────────────────────────


class Broker:
    """Answers the workers' questions for tokens."""

    def __init__(self, config: Config, sources: TokenSources, channels: list[socket.socket]) -> None:
        self._routes: dict[str, RouteConfig] = {}
        self._now: dict[str, RouteConfig] = {}  # those of them that the configuration has
        self.serve(config)
        self._reloads: Callable[[Channel, Message], None] | None = None
        self._sources = sources
        self._channels = channels
        self._open_channels: list[Channel] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._counted: dict[int, Message] = {}  # by worker, the dead included: their counts still count
        self._awaited = 0
        self._all_counted = asyncio.Event()

    def serve(self, config: Config) -> None:
        """Answer for the credentials of `config`, and for those before it: requests may be under way."""
        before, self._now = self._now, {route.key: route for route in config.routes}
        self._routes = before | self._now

    def reloads(self, hear: Callable[["Channel", Message], None]) -> list["Channel"]:
        """Have `hear` told what the workers say about a reload; return the ways to tell them."""
        self._reloads = hear
        return self._open_channels

    async def counts(self) -> list[Message]:
        """Return what each worker has counted, those that died included."""
        self._awaited = len(self._open_channels)
        self._all_counted.clear()
        for channel in self._open_channels:
            channel.send({"count": True})
        with contextlib.suppress(TimeoutError):  # who does not answer in time has its last count
            async with asyncio.timeout(COUNT_SECONDS):
                await self._all_counted.wait()
        return list(self._counted.values())

    def start(self) -> None:
        """Listen to the workers; ask those who asked a broker before us to ask again."""
        self._open_channels = [Channel(channel, self._hear) for channel in self._channels]
        for channel in self._open_channels:
            channel.send({"again": True})

    def _hear(self, channel: "Channel", question: Message) -> None:
        if "counts" in question:
            self._counted[question["who"]] = question["counts"]
            self._awaited -= 1
            if self._awaited <= 0:
                self._all_counted.set()
            return
        if "reload" in question:
            if self._reloads is not None:
                self._reloads(channel, question)
            return
        task = asyncio.create_task(self._answer(channel, question))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, channel: "Channel", question: Message) -> None:
        """Answer in any case: a worker that hears nothing has its client wait."""
        try:
            token = await self._token(question)
            answer: Message = {"token": [token.value, token.expires_at, token.issued_at]}
            self._tell_others(channel, question, answer)
        except TokenError as error:
            answer = {"error": to_message(error)}
        except Exception as error:  # noqa: BLE001 - as above
            logs.logger.error("token renewal failed", exc_info=error)
            answer = {"error": to_message(TokenUnavailable("something went wrong inside authproxy"))}
        channel.send({"id": question["id"]} | answer)

    def _tell_others(self, asker: "Channel", question: Message, answer: Message) -> None:
        """Have the other workers go on with the new token too: else each would hear a 401 of its own."""
        refused = question.get("instead_of")
        if refused is None or refused == answer["token"][0]:
            return
        for channel in self._open_channels:
            if channel is not asker:
                channel.send({"replaced": refused, "key": question["key"]} | answer)

    async def _token(self, question: Message) -> Token:
        refused = question.get("instead_of")
        route = self._routes.get(str(question["key"]))
        stack = self._sources.stack(route) if route is not None else None
        if stack is None:  # a request that has been under way for two reloads
            raise TokenUnavailable("the configuration has no such credential any more")
        return await stack.outer.token(instead_of=Token(refused) if isinstance(refused, str) else None)
