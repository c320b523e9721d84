"""A worker's side: it asks the broker for tokens, tells it what it has counted, and hears of replaced tokens.

CachedSource ─▶ BrokerSource ─▶ BrokerClient ─▶ Channel ═══ the broker
"""

import asyncio
import socket
import time
from collections.abc import Callable

from authproxy import errors
from authproxy.config.route import RouteConfig
from authproxy.errors import TokenError, TokenTimeout
from authproxy.tokens.source import Innermost
from authproxy.tokens.token import Token
from authproxy.workers.channel import Channel, Message

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
    value, expires_at, issued_at = answer["token"]
    return Token(value, expires_at=expires_at, issued_at=issued_at)


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
        self.counts: Callable[[], Message] | None = None  # what this worker has counted
        # Told of a credential's key, of a token that was refused, and of its successor.
        self.replaced: Callable[[str, Token, Token], None] | None = None
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
        if "count" in answer:
            if self.counts is not None:
                line.send({"counts": self.counts(), "who": self._who})
        elif "reload" in answer:
            (self._reloads or self._early.append)(answer)
        elif "replaced" in answer:
            if self.replaced is not None:
                self.replaced(answer["key"], Token(answer["replaced"]), _token_of(answer))
        elif "again" in answer:  # a new broker: the old one took our questions with it
            for question, _ in self._waiting.values():
                line.send(question)
        elif (waiting := self._waiting.get(int(str(answer["id"])))) is not None and not waiting[1].done():
            waiting[1].set_result(answer)
