"""Answers the workers' questions for tokens, and asks all of them what the admin listener is asked.

worker ─▶ a token?      ─▶ the sources here
worker ◀─ a question?   ◀─ the admin listener; an answer each, those in time together
worker ◀▶ told          a token was replaced or forgotten, a route is refused, a request is finished
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from authproxy import logs
from authproxy.app.credentials import TokenSources
from authproxy.config.model import Config
from authproxy.config.route import RouteConfig
from authproxy.errors import TokenError, TokenUnavailable
from authproxy.observe.standing import Refusal
from authproxy.tokens.token import Token
from authproxy.workers.broker_client import to_message
from authproxy.workers.channel import Channel, Message

WORKER_SECONDS = 1.0  # how long who asks the admin listener waits for the workers' answers

if TYPE_CHECKING:
    from authproxy.app.application import App


class _Question:
    """One that all workers were asked, and their answers."""

    def __init__(self, awaited: int) -> None:
        self.answers: dict[int, Any] = {}  # by worker
        self.all_answered = asyncio.Event()
        self._awaited = awaited

    def take(self, who: int, answer: Any) -> None:
        self.answers[who] = answer
        if len(self.answers) >= self._awaited:
            self.all_answered.set()


def to_told(token: Token) -> Message:
    """Return `token` as it is told to workers: its refresh token stays here."""
    return {"token": [token.value, token.expires_at, token.issued_at, token.fields]}


def _published(issuer: str, urls: tuple[str, ...]) -> Message:
    return {"published": issuer, "urls": list(urls)}


class Broker:
    """Answers the workers' questions for tokens, and asks them what the admin listener is asked."""

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
        self._asked: dict[int, _Question] = {}
        self._number = time.monotonic_ns()  # a predecessor's questions are answered here as well
        self._rate = 0  # of finished requests that are to be told
        self._app: App | None = None

    def attach(self, app: "App") -> None:
        """Be the others of `app`, which has the admin listener."""
        self._app = app
        app.others = self

    # ── what the workers are asked ───────────────────────────────────────────────────────────────

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
        answers = await self._ask_all("counts", None)  # who does not answer in time has its last count
        self._counted |= {who: counts for who, counts in answers.items() if counts is not None}
        return list(self._counted.values())

    async def ask_all(self, question: str, about: Any) -> list[Any]:
        """Return what each worker answers that does so in time."""
        return [answer for answer in (await self._ask_all(question, about)).values() if answer is not None]

    async def _ask_all(self, question: str, about: Any) -> dict[int, Any]:
        self._number += 1
        number = self._number
        asked = self._asked[number] = _Question(len(self._open_channels))
        try:
            self._tell({"question": question, "about": about, "number": number})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WORKER_SECONDS):
                    await asked.all_answered.wait()
        finally:
            del self._asked[number]
        return asked.answers

    # ── what they are told ───────────────────────────────────────────────────────────────────────

    def watch(self, rate: int) -> None:
        """Be told of finished requests, `rate` a second at most by each worker, or not any more (0)."""
        self._rate = rate
        self._tell({"watch": rate})

    def replaced(self, key: str, refused: Token, token: Token) -> None:
        """Have all workers go on with `token`."""
        self._tell({"replaced": refused.value, "key": key} | to_told(token))

    def forgotten(self, key: str) -> None:
        """Have no worker go on with the token of `key`."""
        self._tell({"forgotten": key})

    def published(self, issuer: str, urls: tuple[str, ...]) -> None:
        """Have all workers know the token endpoints that `issuer` publishes."""
        self._tell(_published(issuer, urls))

    def _tell(self, message: Message, *, but: "Channel | None" = None) -> None:
        for channel in self._open_channels:
            if channel is not but:
                channel.send(message)

    def start(self) -> None:
        """Listen to the workers; ask those who asked a broker before us to ask again."""
        self._open_channels = [Channel(channel, self._hear) for channel in self._channels]
        for channel in self._open_channels:
            channel.send({"again": True})

    def _hear(self, channel: "Channel", question: Message) -> None:
        if "reload" in question:
            if self._reloads is not None:
                self._reloads(channel, question)
            return
        if "id" not in question:
            self._take(channel, question)
            return
        task = asyncio.create_task(self._answer(channel, question))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _take(self, channel: "Channel", told: Message) -> None:
        """Take an answer, and what a worker says of its own accord."""
        if "answer" in told:
            if (asked := self._asked.get(told["number"])) is not None:
                asked.take(told["who"], told["answer"])
        elif self._app is None:
            return
        elif "seen" in told:
            if self._app.observing.seen is not None:
                self._app.observing.seen(told["seen"], told["lost"])
        elif "stands" in told:
            refusal = Refusal(**told["refusal"]) if told["refusal"] is not None else None
            self._app.observed.standings.hear(told["stands"], refusal)
            self._tell(told, but=channel)
        elif "here" in told:
            self._greet(channel, self._app)

    def _greet(self, channel: "Channel", app: "App") -> None:
        """Tell a new worker what the others were told."""
        if self._rate:
            channel.send({"watch": self._rate})
        for route, refused in app.observed.standings.refused().items():
            channel.send({"stands": route, "refusal": asdict(refused)})
        for issuer, urls in self._sources.published.items():
            channel.send(_published(issuer, urls))

    async def _answer(self, channel: "Channel", question: Message) -> None:
        """Answer in any case: a worker that hears nothing has its client wait."""
        try:
            token = await self._token(question)
            answer: Message = to_told(token)
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
        self._tell({"replaced": refused, "key": question["key"]} | answer, but=asker)

    async def _token(self, question: Message) -> Token:
        refused = question.get("instead_of")
        route = self._routes.get(str(question["key"]))
        stack = self._sources.stack(route) if route is not None else None
        if stack is None:  # a request that has been under way for two reloads
            raise TokenUnavailable("the configuration has no such credential any more")
        return await stack.outer.token(instead_of=Token(refused) if isinstance(refused, str) else None)
