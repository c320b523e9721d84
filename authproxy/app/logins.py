"""Logins that people are in the middle of, in the running proxy.

    GET /login/NAME ──▶ start() ──▶ what to show: a URL to go to, or a code to enter there
                          │ task: the grant's login(), waiting for the browser
    GET /callback ─────▶ came_back() ──▶ the one login with that `state`, once ──▶ the token, adopted

A callback that nobody waits for (forged, replayed, too late) reaches no login at all.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from authproxy import logs
from authproxy.errors import AuthproxyError, TokenTimeout
from authproxy.grants.runner import FlowRunner
from authproxy.grants.steps import Flow, Show
from authproxy.grants.transport import DIRECT, Transport
from authproxy.tokens.token import Token

if TYPE_CHECKING:
    from authproxy.grants.interactive import InteractiveGrant

LOGIN_SECONDS = 600.0  # how long a person may take
MAX_LOGINS = 100  # under way at the same time

Adopt = Callable[[Token], Awaitable[None]]


@dataclass(slots=True, eq=False)
class PendingLogin:
    """One login; it reaches its user through what it is asked to show, and a callback."""

    route: str
    shown: asyncio.Future[Show]
    query: asyncio.Future[Mapping[str, str]]
    state: str | None = None
    task: asyncio.Task[str | None] | None = field(default=None, repr=False)

    async def show(self, show: Show) -> None:
        self.shown.set_result(show)

    async def callback(self, state: str) -> Mapping[str, str]:
        self.state = state
        return await self.query


class Logins:
    """The logins under way, at most `MAX_LOGINS`; the oldest gives way."""

    def __init__(self, runner: FlowRunner) -> None:
        self._runner = runner
        self._pending: list[PendingLogin] = []

    async def start(
        self,
        route: str,
        grant: "InteractiveGrant",
        redirect_uri: str,
        adopt: Adopt,
        *,
        transport: Transport = DIRECT,
    ) -> Show:
        """Begin a login; return what the user is to be shown. Raises `TokenError`."""
        loop = asyncio.get_running_loop()
        login = PendingLogin(route, loop.create_future(), loop.create_future())
        work = self._run(login, grant.login(redirect_uri), grant, adopt, transport)
        login.task = asyncio.create_task(work, name=f"login {route}")
        login.task.add_done_callback(lambda task: self._ended(login, task))
        self._pending.append(login)
        if len(self._pending) > MAX_LOGINS:
            self._give_up(self._pending[0])
        waiting: list[asyncio.Future[Any]] = [login.shown, login.task]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not login.shown.done():
            await login.task  # it failed before there was anything to show
        return login.shown.result()

    async def came_back(self, query: Mapping[str, str]) -> tuple[str, str | None] | None:
        """Give a browser's query to the login that waits for it.

        Returns the route and, if need be, advice for the user; None when no login waits for that `state`.
        Raises `TokenError` when the login fails.
        """
        state = query.get("state")
        login = next((each for each in self._pending if state and each.state == state), None)
        if login is None or login.query.done() or login.task is None:
            return None
        login.query.set_result(query)
        return login.route, await asyncio.shield(login.task)

    async def close(self) -> None:
        """Break off what is under way."""
        for login in list(self._pending):
            self._give_up(login)

    async def _run(
        self, login: PendingLogin, flow: Flow, grant: "InteractiveGrant", adopt: Adopt, transport: Transport
    ) -> str | None:
        try:
            async with asyncio.timeout(LOGIN_SECONDS):
                token = await self._runner.run(flow, login, transport=transport)
        except TimeoutError:
            raise TokenTimeout("the login was not completed in time") from None
        await adopt(token)
        advice = grant.advice(token)
        logs.info("logged in", route=login.route, advice=advice)
        return advice

    def _ended(self, login: PendingLogin, task: asyncio.Task[str | None]) -> None:
        """Let go of a login. Nobody else may be there to hear of its failure: a device's user is not."""
        self._pending.remove(login)
        failure = None if task.cancelled() else task.exception()
        if isinstance(failure, AuthproxyError):
            logs.warning("login failed", route=login.route, cause=failure.detail, hint=failure.hint)
        elif failure is not None:
            logs.error("login failed", route=login.route, cause=type(failure).__name__)

    @staticmethod
    def _give_up(login: PendingLogin) -> None:
        if login.task is not None:
            login.task.cancel()
