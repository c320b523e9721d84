"""A worker's side: it asks the broker for tokens, answers its questions, and hears what others learnt.

CachedSource ─▶ BrokerSource ─▶ BrokerClient ─▶ Channel ═══ the broker
                                                    what it asks of this worker's requests ─▶ App
"""

import asyncio
import socket
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from authproxy import errors, logs
from authproxy.config.route import RouteConfig
from authproxy.errors import TokenError, TokenTimeout
from authproxy.observe.standing import Refusal
from authproxy.tokens.source import Innermost
from authproxy.tokens.token import Token
from authproxy.workers.channel import Channel, Message

if TYPE_CHECKING:
    from authproxy.app.application import App

TOLD = ("question", "watch", "replaced", "forgotten", "published", "stands")
"""What the broker says of its own accord begins with one of these."""
ANSWER_SECONDS = 60.0  # a worker waits this long for the broker; a token request takes 30 s at most


class BrokerSource(Innermost):
    """A worker's source: the broker, asked over `channel`."""

    def __init__(self, channel: "BrokerClient", key: str) -> None:
        self._channel = channel
        self._key = key

    async def token(self, *, instead_of: Token | None = None) -> Token:
        refused = instead_of.value if instead_of is not None else None
        answer = await self._channel.ask({"key": self._key, "instead_of": refused})
        if "error" in answer:
            raise from_message(answer["error"])
        return _token_of(answer)


def _token_of(answer: Message) -> Token:
    value, expires_at, issued_at, fields = answer["token"]
    pairs = tuple((pointer, text) for pointer, text in fields)
    return Token(value, expires_at=expires_at, issued_at=issued_at, fields=pairs)


def to_message(error: TokenError) -> Message:
    """Return `error` as it is told to a worker."""
    kept = {name: getattr(error, name) for name in ("detail", "hint", "error", "retry_after")}
    return {"kind": type(error).__name__, "kept": kept, "title": error.title, "rejects": error.rejects}


def from_message(told: Message) -> TokenError:
    """Return the error that `to_message` told of."""
    error: TokenError = getattr(errors, told["kind"])(**told["kept"])
    error.title, error.rejects = told["title"], told["rejects"]
    return error


class BrokerClient:
    """A worker's end of its line to the broker."""

    def __init__(self, sock: socket.socket) -> None:
        self._app: App | None = None
        self._reloads: Callable[[Message], None] | None = None
        self._early: list[Message] = []  # what came about a reload before anybody wanted to hear of it
        self._waiting: dict[int, tuple[Message, asyncio.Future[Message]]] = {}
        # A predecessor may have asked on this line: its answers must not be taken for ours.
        self._next = self._who = time.monotonic_ns()
        self._channel = Channel(sock, self._hear)

    def inner_source(self, route: RouteConfig) -> BrokerSource:
        """Return what a worker's `CachedSource` wraps."""
        return BrokerSource(self, route.key)

    def reloads(self, hear: Callable[[Message], None]) -> None:
        """Have `hear` told what the broker says about a reload, and has said already."""
        self._reloads = hear
        early, self._early = self._early, []
        for message in early:
            hear(message)

    def tell(self, message: Message) -> None:
        """Say something that is not answered."""
        self._channel.send(message)

    def attach(self, app: "App") -> None:
        """Answer the broker's questions by `app`, and tell it what the others have to hear."""
        self._app = app
        app.observing.seen = lambda seen, lost: self._channel.send({"seen": seen, "lost": lost})
        app.observed.standings.remote = self._tell_standing
        self._channel.send({"here": True})

    def _tell_standing(self, route: str, refusal: Refusal | None) -> None:
        self._channel.send({"stands": route, "refusal": asdict(refusal) if refusal is not None else None})

    async def ask(self, question: Message) -> Message:
        """Return the broker's answer. Raises `TokenTimeout`."""
        self._next += 1
        number = self._next
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        question = {"id": number, **question}
        self._waiting[number] = question, future
        try:
            self._channel.send(question)
            async with asyncio.timeout(ANSWER_SECONDS):
                return await future
        except TimeoutError:
            raise TokenTimeout("the process that keeps the tokens did not answer in time") from None
        finally:
            del self._waiting[number]

    def _hear(self, line: "Channel", answer: Message) -> None:
        if "reload" in answer:
            (self._reloads or self._early.append)(answer)
        elif "again" in answer:  # a new broker: the old one took our questions with it
            for question, _ in self._waiting.values():
                line.send(question)
            if self._app is not None:
                for route, refusal in self._app.observed.standings.refused().items():
                    self._tell_standing(route, refusal)
        elif any(each in answer for each in TOLD):
            if self._app is not None:
                self._take(self._app, answer)
        elif (waiting := self._waiting.get(int(str(answer["id"])))) is not None and not waiting[1].done():
            waiting[1].set_result(answer)

    def _take(self, app: "App", told: Message) -> None:
        """Go by what the broker tells, and answer what it asks."""
        if "question" in told:
            try:
                found = app.observing.answer(told["question"], told["about"])
            except Exception as error:  # noqa: BLE001 - whoever asked goes on without us
                logs.logger.error("a question of the admin API failed", exc_info=error)
                found = None
            self._channel.send({"answer": found, "number": told["number"], "who": self._who})
        elif "watch" in told:
            app.observing.watch(told["watch"])
        elif "replaced" in told:
            app.sources.replaced(told["key"], Token(told["replaced"]), _token_of(told))
        elif "forgotten" in told:
            app.sources.forgotten(told["forgotten"])
        elif "published" in told:
            app.learn(told["published"], tuple(told["urls"]))
        else:
            refusal = Refusal(**told["refusal"]) if told["refusal"] is not None else None
            app.observed.standings.take(told["stands"], refusal)
