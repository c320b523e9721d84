"""The admin listener: `/healthz` while the process lives, `/readyz` while every route can serve."""

import json
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from aiohttp import HttpVersion, web
from multidict import CIMultiDictProxy

from authproxy.admin.status import RouteStatus, readiness
from authproxy.errors import AuthproxyError
from authproxy.proxy.guard import Guard


class Asked(NamedTuple):
    """A request, as the guard wants to see it."""

    method: str
    target: str
    version: HttpVersion
    headers: CIMultiDictProxy[str]


States = Callable[[], list[RouteStatus]]


def admin_application(guard: Guard, states: States) -> web.Application:
    """Return the application of the admin listener, behind the same guard as the proxy."""

    async def healthz(_request: web.Request) -> web.Response:
        return _json({"alive": True})

    async def readyz(request: web.Request) -> web.Response:
        wanted = request.query.get("route")
        routes = [each for each in states() if wanted in {None, each.route}]
        if wanted is not None and not routes:
            return _json({"detail": "there is no route of that name"}, status=404)
        status, document = readiness(routes)
        return _json(document, status=status)

    @web.middleware
    async def guarded(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            guard.check(Asked(request.method, request.raw_path, request.version, request.headers))
        except AuthproxyError as error:
            return _json({"detail": error.detail, "hint": error.hint}, status=error.status)
        return await handler(request)

    application = web.Application(middlewares=[guarded])
    application.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz)])
    return application


def _json(document: dict[str, object], *, status: int = 200) -> web.Response:
    return web.Response(text=json.dumps(document) + "\n", status=status, content_type="application/json")
