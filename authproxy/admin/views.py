"""The admin listener: health, counts, and the logins of people.

/healthz            200 while the process lives
/readyz             200 while every route can serve; ?route=NAME for one
/login/NAME         begins a login
/callback           where the browser comes back to
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, Protocol

from aiohttp import HttpVersion, web
from multidict import CIMultiDictProxy

from authproxy.admin.listener import problem
from authproxy.admin.pages import SECURITY_HEADERS, code_page, page
from authproxy.admin.status import RouteStatus, readiness
from authproxy.errors import AuthproxyError, NoRoute
from authproxy.grants.base import Show
from authproxy.proxy.guard import Guard

CALLBACK = "/callback"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Asked(NamedTuple):
    """A request, as the guard wants to see it."""

    method: str
    target: str
    version: HttpVersion
    headers: CIMultiDictProxy[str]


class Desk(Protocol):
    """What the admin listener needs of the application."""

    def states(self) -> list[RouteStatus]:
        """Return the state of every route's token."""
        ...

    async def metrics(self) -> bytes:
        """Return the counts of all processes in the Prometheus text format."""
        ...

    async def begin_login(self, route: str, callback_url: str) -> Show | None:
        """Begin a login and return what to show; None when nobody can log in to `route`."""
        ...

    async def end_login(self, query: Mapping[str, str]) -> tuple[str, str | None] | None:
        """End the login that `query` belongs to; return its route and advice; None when there is none."""
        ...


def admin_application(guard: Guard, desk: Desk) -> web.Application:
    """Return the application of the admin listener, behind the same guard as the proxy."""
    views = _Views(desk)

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            guard.check(
                Asked(request.method, request.raw_path, request.version, request.headers),
                # The login's server sends the browser here: another site, by nature. `state` is its key.
                from_any_site=request.path == CALLBACK and request.method == "GET",
            )
        except AuthproxyError as error:
            return problem(error)
        return await handler(request)

    application = web.Application(middlewares=[guarded])
    application.add_routes(
        [
            web.get("/healthz", views.healthz),
            web.get("/readyz", views.readyz),
            web.get("/metrics", views.metrics),
            web.get("/login/{route}", views.login),
            web.get(CALLBACK, views.callback),
        ]
    )
    return application


class _Views:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def healthz(self, _request: web.Request) -> web.Response:
        return _json({"alive": True})

    async def readyz(self, request: web.Request) -> web.Response:
        wanted = request.query.get("route")
        routes = [each for each in self._desk.states() if wanted in {None, each.route}]
        if wanted is not None and not routes:
            return problem(NoRoute("there is no route of that name"))
        status, document = readiness(routes)
        return _json(document, status=status)

    async def metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=await self._desk.metrics(), headers={"Content-Type": PROMETHEUS})

    async def login(self, request: web.Request) -> web.Response:
        route = request.match_info["route"]
        try:
            show = await self._desk.begin_login(route, f"{request.scheme}://{request.host}{CALLBACK}")
        except AuthproxyError as error:
            return _page("The login cannot begin", error.detail, error.hint or "", status=error.status)
        if show is None:
            return _page("No login there", f"Nobody can log in to a route {route}.", status=404)
        if show.code is None:
            return web.Response(status=302, headers={"Location": show.url, **SECURITY_HEADERS})
        return _html(code_page(route, show.code, show.url, show.complete_url))

    async def callback(self, request: web.Request) -> web.Response:
        query = dict(request.query)
        if len(query) < len(request.query):
            return _page("That is no answer to a login", "A parameter is there twice.", status=400)
        try:
            ended = await self._desk.end_login(query)
        except AuthproxyError as error:
            return _page("The login failed", error.detail, error.hint or "", status=error.status)
        if ended is None:
            return _page(
                "No login waits for this",
                "It was answered before, it took too long, or it did not begin here. Begin it again.",
                status=400,
            )
        route, advice = ended
        return _page(f"Logged in to {route}", "You can close this page.", advice or "")


def _json(document: dict[str, object], *, status: int = 200) -> web.Response:
    return web.Response(text=json.dumps(document) + "\n", status=status, content_type="application/json")


def _page(title: str, *paragraphs: str, status: int = 200) -> web.Response:
    return _html(page(title, *filter(None, paragraphs)), status=status)


def _html(text: str, *, status: int = 200) -> web.Response:
    return web.Response(text=text, status=status, content_type="text/html", headers=SECURITY_HEADERS)
