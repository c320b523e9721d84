"""`authproxy login ROUTE`: a person logs in, and the token is kept where the proxy finds it."""

import asyncio
import threading
import webbrowser
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from io import FileIO
from typing import TYPE_CHECKING

import click

from authproxy import logs
from authproxy.admin.pages import CALLBACK, SECURITY_HEADERS, page
from authproxy.app.application import App
from authproxy.app.logins import LOGIN_SECONDS
from authproxy.app.sockets import ListenError, listening_sockets
from authproxy.capabilities import run_interruptibly
from authproxy.cli.completing import complete_routes
from authproxy.cli.options import config_option, find_route, load_config
from authproxy.cli.terminal import Progress
from authproxy.config.model import Config
from authproxy.config.route import RouteConfig
from authproxy.errors import LoginRequired, TokenTimeout
from authproxy.grants.device_code import DeviceCode, device_login
from authproxy.grants.interactive import InteractiveGrant, leads_to_loopback
from authproxy.grants.requests import callback_query
from authproxy.grants.runner import FlowRunner
from authproxy.grants.steps import Show
from authproxy.values import split_url

if TYPE_CHECKING:
    from aiohttp import web

STDIN = 0
ELSEWHERE = "use --no-browser, or the login link of the running proxy"


@click.command()
@click.argument("route", shell_complete=complete_routes)
@config_option
@click.option(
    "--no-browser", is_flag=True, help="Print the URL, and ask for the one that the browser is redirected to."
)
@click.option("--device", is_flag=True, help="Log in on another device, with a code (RFC 8628).")
def login(*, route: str, config_file: str | None, no_browser: bool, device: bool) -> None:
    """Log in to ROUTE and keep its token, for the proxy to use.

    A running proxy picks it up by itself, as long as both use the same `token_store`.
    """
    if no_browser and device:
        raise click.UsageError("--no-browser and --device cannot be used together")
    config = load_config(config_file)
    wanted = find_route(config, route)
    if not isinstance(wanted.grant, InteractiveGrant):
        click.echo(f"route {route} needs no login: its grant gets tokens by itself")
        return
    if device and wanted.grant.issuer is None and not isinstance(wanted.grant, DeviceCode):
        raise click.UsageError(
            f"the route {route} has no device_authorization_url, nor an issuer to discover it from"
        )
    logs.set_up("error", config.log.format)
    run_interruptibly(_login(config, wanted, wanted.grant, no_browser=no_browser, device=device))


async def _login(
    config: Config, route: RouteConfig, grant: InteractiveGrant, *, no_browser: bool, device: bool
) -> None:
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(App(config))
        store = app.grant_sources.store(route)
        if store is None:
            raise click.ClickException(
                "the token would be lost at once, as tokens are kept in memory; set token_store, or log in "
                "through the admin listener of the running proxy"
            )
        await store.load(route.key)  # one that cannot be used should say so before a person takes the trouble
        runner = await stack.enter_async_context(FlowRunner(own=app.own))
        progress = stack.enter_context(Progress(f"waiting for the login to {route.name}"))
        terminal = Terminal(no_browser=no_browser, progress=progress)
        redirect_uri = grant.comes_back_to
        if not (no_browser or device):
            redirect_uri = await stack.enter_async_context(LoopbackReceiver(terminal, redirect_uri))
        flow = device_login(grant) if device else grant.login(redirect_uri or f"http://127.0.0.1{CALLBACK}")
        try:
            async with asyncio.timeout(LOGIN_SECONDS):
                token = await runner.run(flow, terminal, transport=route.transport)
        except TimeoutError:
            raise TokenTimeout("the login was not completed in time", hint="log in again") from None
        async with store.lock(route.key):
            await store.save(route.key, token)
    click.echo(f"logged in to {route.name}")
    if advice := grant.advice(token):
        click.echo(f"authproxy: {advice}", err=True)


class Terminal:
    """A login's user, at a terminal; `came_back` is set by the browser's way back, if it has one."""

    def __init__(self, *, no_browser: bool, progress: Progress) -> None:
        self._no_browser = no_browser
        self._progress = progress
        self.came_back: asyncio.Future[Mapping[str, str]] = asyncio.get_running_loop().create_future()
        self.state: str | None = None

    async def show(self, show: Show) -> None:
        if show.code is not None:
            self._progress.tell(f"Open {show.url} on any device and enter the code {show.code}")
            if show.complete_url is not None:
                self._progress.tell(f"or open {show.complete_url}")
        elif self._no_browser:
            self._progress.tell(f"Open this URL in a browser:\n\n{show.url}\n")
            self._progress.stop()  # somebody is to type something
        else:
            self._progress.tell(f"If no browser opens, open this URL:\n\n{show.url}\n")
            # Some browsers, such as one in $BROWSER, are only done when they are closed.
            threading.Thread(target=webbrowser.open, args=(show.url,), daemon=True).start()

    async def callback(self, state: str) -> Mapping[str, str]:
        self.state = state
        return await (self._pasted(state) if self._no_browser else self.came_back)

    async def _pasted(self, state: str) -> Mapping[str, str]:
        click.echo("After the login, paste the whole URL that the browser was redirected to:", err=True)
        lines = _typed_lines()
        while line := await lines.get():
            try:
                query = callback_query(line)
            except ValueError as error:
                click.echo(f"That {error}. Try again:", err=True)
                continue
            if query["state"] == state:
                return query
            click.echo("That URL belongs to another login. Try again:", err=True)
        raise LoginRequired(
            "the input ended before the login was completed",
            hint="paste the URL that the browser was redirected to",
        )


def _typed_lines() -> asyncio.Queue[str]:
    """Return a queue that gets what is typed, line by line, and an empty string at the end."""
    loop, lines = asyncio.get_running_loop(), asyncio.Queue[str]()

    def put(line: str) -> None:
        with suppress(RuntimeError):  # nobody listens any more
            loop.call_soon_threadsafe(lines.put_nowait, line)

    # A read cannot be broken off, and a thread of the loop's own would hold up the end of the process.
    threading.Thread(target=_read_lines, args=(put,), daemon=True).start()
    return lines


def _read_lines(put: Callable[[str], None]) -> None:
    with suppress(OSError), FileIO(STDIN, closefd=False) as stdin:
        while line := stdin.readline():
            put(line.decode("utf-8", "replace"))
    put("")


class LoopbackReceiver:
    """Listens on loopback for the browser to come back, once (RFC 8252 §7.3)."""

    def __init__(self, terminal: Terminal, redirect_uri: str | None) -> None:
        from aiohttp import web

        self._terminal = terminal
        self._redirect_uri = redirect_uri
        self._path = CALLBACK
        self._runner = web.ServerRunner(web.Server(self._answer), access_log=None)

    async def __aenter__(self) -> str:
        from aiohttp import web

        address = "127.0.0.1:0"
        if self._redirect_uri is not None:
            parts = split_url(self._redirect_uri)
            if not leads_to_loopback(self._redirect_uri):
                raise click.ClickException(
                    f"redirect_uri {self._redirect_uri} does not point at this machine; {ELSEWHERE}"
                )
            host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
            address, self._path = f"{host}:{parts.port or 80}", parts.path or "/"
        try:
            sockets = listening_sockets(address)
        except ListenError as error:
            raise ListenError(error.detail, hint=ELSEWHERE) from error
        await self._runner.setup()
        for sock in sockets:
            await web.SockSite(self._runner, sock).start()
        return self._redirect_uri or f"http://127.0.0.1:{sockets[0].getsockname()[1]}{CALLBACK}"

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: "web.BaseRequest") -> "web.StreamResponse":
        came_back, state = self._terminal.came_back, self._terminal.state
        if request.method != "GET" or request.path != self._path:
            return _page("Nothing here", status=404)
        query = dict(request.query)
        if len(query) < len(request.query):
            return _page("Not a valid login response", "A parameter occurs twice.", status=400)
        if state is None or query.get("state") != state or came_back.done():
            return _page("No login is waiting for this", status=400)
        came_back.set_result(query)
        return _page(
            "Return to the terminal", "It shows whether the login succeeded. You can close this page."
        )


def _page(title: str, *paragraphs: str, status: int = 200) -> "web.Response":
    from aiohttp import web

    text = page(title, *paragraphs)
    return web.Response(text=text, status=status, content_type="text/html", headers=SECURITY_HEADERS)
