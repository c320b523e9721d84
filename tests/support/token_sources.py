"""Stand-ins for what hands out tokens (`authproxy.tokens.source`). An error in a token's place is raised."""

import asyncio

from authproxy.tokens.source import Innermost, Origin
from authproxy.tokens.token import Token


class AnswersInTurn(Innermost):
    """Gives each of its answers once, in their order; `open` holds all who ask back while it is not set."""

    def __init__(self, *answers: Token | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[Token | None] = []
        self.open = asyncio.Event()
        self.open.set()

    async def token(self, *, instead_of: Token | None = None) -> Token:
        self.asked.append(instead_of)
        await self.open.wait()
        return _given(self.answers.pop(0))


class OneAnswer(Innermost):
    """Gives the same `answer` whenever it is asked; `open` holds all who ask back while it is not set."""

    def __init__(self, answer: Token | Exception) -> None:
        self.answer = answer
        self.asked: list[Token | None] = []
        self.adopted: list[Token] = []
        self.closed = False
        self.open = asyncio.Event()
        self.open.set()

    async def token(self, *, instead_of: Token | None = None) -> Token:
        self.asked.append(instead_of)
        await self.open.wait()
        return _given(self.answer)

    async def adopt(self, token: Token) -> None:
        self.adopted.append(token)

    async def close(self) -> None:
        self.closed = True


class CachedTokens(Innermost):
    """Has the `current` token at hand, and gets the next of `tokens` for who wants another one."""

    def __init__(self, *tokens: Token | BaseException, current: Token | None = None) -> None:
        self.tokens = list(tokens)
        self.current = current
        self.asked: list[Token | None] = []

    def take(self) -> Token | None:
        return self.current

    def origin(self) -> Origin:
        return "fetched" if self.current is None else "renewed"

    async def token(self, *, instead_of: Token | None = None) -> Token:
        self.asked.append(instead_of)
        await asyncio.sleep(0)
        if self.current is None or self.current == instead_of:
            self.current = _given(self.tokens.pop(0))
        return self.current


def _given(answer: Token | BaseException) -> Token:
    if isinstance(answer, BaseException):
        raise answer
    return answer
