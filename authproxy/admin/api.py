"""The admin API: what the proxy knows and did, for programs and for the page.

    GET  /api/status                      routes, their states and counts
    GET  /api/requests?route=&status=&…   the last requests, newest first
    GET  /api/requests/ID                 one of them, with its headers
    GET  /api/requests/stream?rate=       events as they happen (events.py)
    POST /api/requests/ID/replay          send it again
    POST /api/routes/NAME/refresh         renew the route's token now
    POST /api/routes/NAME/forget          forget it
    POST /api/reload                      read the configuration again

Every document is made by the backend, secrets masked.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Protocol, cast

from aiohttp import web

from authproxy.admin.events import Streams
from authproxy.admin.listener import problem
from authproxy.errors import AuthproxyError, BadRequest, Fault, NoRoute, RequestTimeout
from authproxy.observe.feed import MAX_RATE
from authproxy.observe.recent import Filter
from authproxy.proxy.guard import Guard

if TYPE_CHECKING:
    from authproxy.admin.listener import AdminConnection

FILTERS = ("route", "status", "method", "q", "limit", "before")
Do = Callable[[str], Awaitable[dict[str, object] | None]]

HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
NOT_SERVED = NoRoute(
    "the API is not served here: others than you could reach it, while the proxy is for you alone",
    hint="have `admin` listen on a Unix socket too, or set `access`",
)


class APIBackend(Protocol):
    """What the API needs of the application. What it raises becomes a problem document."""

    @property
    def guard(self) -> Guard:
        """Who may ask, as it is now."""

    @property
    def serves_api(self) -> bool:
        """Whether who reaches the listener may use the API."""

    @property
    def streams(self) -> Streams:
        """The live streams."""

    async def status(self) -> dict[str, object]: ...
    async def requests(self, wanted: Filter) -> list[dict[str, object]]: ...
    async def request(self, wanted: str) -> dict[str, object]: ...
    async def replay(self, wanted: str) -> str: ...
    async def refresh(self, name: str) -> dict[str, object]: ...
    async def forget(self, name: str) -> None: ...
    async def reload(self) -> list[Fault]: ...


def api_routes(backend: APIBackend, *, body_seconds: float) -> Iterable[web.AbstractRouteDef]:
    """Return the routes of the API; a body that nobody needs has `body_seconds` to come."""
    views = _API(backend, body_seconds)
    return [
        web.get("/api/status", views.status),
        web.get("/api/requests", views.requests),
        web.get("/api/requests/stream", views.stream),
        web.get("/api/requests/{id}", views.request),
        web.post("/api/requests/{id}/replay", views.replay),
        web.post("/api/routes/{name}/refresh", views.refresh),
        web.post("/api/routes/{name}/forget", views.forget),
        web.post("/api/reload", views.reload),
    ]


class _API:
    def __init__(self, backend: APIBackend, body_seconds: float) -> None:
        self._backend = backend
        self._body_seconds = body_seconds

    async def status(self, _request: web.Request) -> web.StreamResponse:
        return answer(await self._backend.status())

    async def requests(self, request: web.Request) -> web.StreamResponse:
        try:
            wanted = Filter.of(**{name: value for name in FILTERS if (value := _one(request, name))})
        except ValueError as error:
            raise BadRequest(str(error)) from None
        return answer({"requests": await self._backend.requests(wanted)})

    async def request(self, request: web.Request) -> web.StreamResponse:
        return answer(await self._backend.request(request.match_info["id"]))

    async def stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **HEADERS})
        if request.method == "HEAD":
            return response
        with self._backend.streams.open(_rate(request)) as stream:
            cast("AdminConnection", request.protocol).has_no_end()
            await response.prepare(request)
            async for piece in stream.pieces():
                if not self._is_still_admitted(request):  # a reload took its key back
                    break
                await response.write(piece)
        response.force_close()
        return response

    def _is_still_admitted(self, request: web.Request) -> bool:
        guard = self._backend.guard
        return guard.is_admitted(request.headers.get(guard.key_header, "")) and self._backend.serves_api

    async def replay(self, request: web.Request) -> web.StreamResponse:
        await self._drop_body(request)
        return answer({"id": await self._backend.replay(request.match_info["id"])}, status=202)

    async def refresh(self, request: web.Request) -> web.StreamResponse:
        return await self._at_route(request, self._backend.refresh)

    async def forget(self, request: web.Request) -> web.StreamResponse:
        return await self._at_route(request, self._backend.forget)

    async def _at_route(self, request: web.Request, do: Do) -> web.StreamResponse:
        """Do something to the route that the path names; a problem is that of this route, if it is one."""
        await self._drop_body(request)
        name = request.match_info["name"]
        try:
            document = await do(name)
        except AuthproxyError as error:
            return problem(error, route=name if not isinstance(error, NoRoute) else None)
        return answer(document) if document is not None else web.Response(status=204, headers=HEADERS)

    async def reload(self, request: web.Request) -> web.StreamResponse:
        await self._drop_body(request)
        faults = [asdict(each) for each in await self._backend.reload()]
        return answer({"faults": faults}, status=422) if faults else answer({"reloaded": True})

    async def _drop_body(self, request: web.Request) -> None:
        """Read what nobody needs: nothing is done before all of it is here. Raises `RequestTimeout`."""
        try:
            async with asyncio.timeout(self._body_seconds):
                await request.read()
        except TimeoutError:
            raise RequestTimeout(f"the body took longer than {self._body_seconds:g} s") from None


def _one(request: web.Request, name: str) -> str | None:
    """Return the value of a parameter, None for none. Raises `ValueError` when it is there twice."""
    values = request.query.getall(name, [])
    if len(values) > 1:
        raise ValueError(f"{name}: is given more than once")
    return values[0] if values else None


def _rate(request: web.Request) -> int:
    """Return how many requests a second are enough for who asks for the stream. Raises `BadRequest`."""
    try:
        wanted = _one(request, "rate") or str(MAX_RATE)
    except ValueError as error:
        raise BadRequest(str(error)) from None
    if not re.fullmatch(r"0*[1-9][0-9]*", wanted):
        raise BadRequest("rate: should be a number of requests a second, 1 or more")
    return min(int(wanted.lstrip("0")[:9]), MAX_RATE)


def answer(document: object, *, status: int = 200) -> web.Response:
    """Return a document as an answer."""
    return web.Response(
        body=json.dumps(document).encode() + b"\n",
        status=status,
        headers={"Content-Type": "application/json", **HEADERS},
    )
