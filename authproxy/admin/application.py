"""The admin listener: health, counts, and the logins of people.

/                   the live page (live_page.py)
/healthz            200 while the process lives
/readyz             200 while every route can serve; ?route=NAME for one; the reasons are for who has the key
/metrics            counts
/api/…              the state of routes, the last requests, and what a person may do (requests.py)
/login/NAME         begins a login
/callback           where the browser comes back to
/ca.pem             the certificate of the authority of `tls: auto`, for clients to trust
/forward-ca.pem     the certificates of the authority of `forward`, for clients to trust

With `access` everything wants the key but health, the page, which asks for it, the two `.pem`s, which are no
secrets, and `/callback`, whose `state` only the one knows who began the login. `/login/NAME` asks for it too.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, Protocol, Self
from urllib.parse import parse_qs, urlsplit

from aiohttp import web
from multidict import CIMultiDictProxy

from authproxy.admin.api import NOT_SERVED, APIBackend, api_routes
from authproxy.admin.listener import problem
from authproxy.admin.live_page import ASSET, INDEX, page_routes
from authproxy.admin.pages import (
    CALLBACK,
    FORM_HEADERS,
    SECURITY_HEADERS,
    code_page,
    key_page,
    onward_page,
    page,
    paste_page,
)
from authproxy.admin.status import RouteStatus, readiness
from authproxy.errors import AuthproxyError, BadRequest, KeyRequired, NoRoute, RequestTimeout
from authproxy.grants.requests import callback_query
from authproxy.grants.steps import Show
from authproxy.proxy.guard import local_address
from authproxy.proxy.plain import Version
from authproxy.proxy.problem import CHALLENGE
from authproxy.values import is_loopback

LOGIN = "/login/{route}"
LIVE_PAGE = frozenset({INDEX, ASSET})
AUTHORITY = "/ca.pem"
FORWARD_AUTHORITY = "/forward-ca.pem"
WITHOUT_KEY = (
    frozenset({"/healthz", "/readyz", AUTHORITY, FORWARD_AUTHORITY, CALLBACK, LOGIN}) | LIVE_PAGE
)  # the last two see to it
LARGEST_FORM = 16 << 10  # bytes
PEM = "application/x-pem-file"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class AdminRequest(NamedTuple):
    """A request, as the guard wants to see it."""

    method: str
    target: str
    version: Version
    headers: CIMultiDictProxy[str]
    local_address: str | None

    @classmethod
    def by(cls, request: web.Request) -> Self:
        here = local_address(request.transport)
        return cls(request.method, request.raw_path, request.version, request.headers, here)


class AdminBackend(APIBackend, Protocol):
    """What the admin listener needs of the application."""

    def states(self) -> list[RouteStatus]:
        """Return the state of every route's token."""
        ...

    async def authority(self) -> bytes | None:
        """Return the certificate, PEM, of the authority that signs for the listeners; None without one."""
        ...

    async def forward_authority(self) -> bytes | None:
        """Return the certificates, PEM, of the authority of `forward`; b"" for none, None without it."""
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


def admin_application(backend: AdminBackend, *, form_seconds: float) -> web.Application:
    """Return the application of the admin listener, behind the same guard as the proxy.

    `form_seconds` is how long the form of a login, or another body, may take to come.
    """
    views = _Views(backend, form_seconds)

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        asked, resource = AdminRequest.by(request), request.match_info.route.resource
        place = resource.canonical if resource is not None else None
        try:
            # The login's server sends the browser to the callback: another site, by nature.
            guard = backend.guard
            guard.check(asked, from_any_site=place == CALLBACK and request.method == "GET")
            if place not in WITHOUT_KEY:
                guard.check_key(asked)
            needs_api = request.path.startswith("/api/") or place in LIVE_PAGE
            if needs_api and not backend.serves_api:
                raise NOT_SERVED
        except AuthproxyError as error:
            return problem(error)
        return await handler(request)

    application = web.Application(middlewares=[guarded], client_max_size=LARGEST_FORM)
    application.add_routes(
        [
            web.get("/healthz", views.healthz),
            web.get("/readyz", views.readyz),
            web.get("/metrics", views.metrics),
            web.get(LOGIN, views.login),
            web.post(LOGIN, views.login),
            web.get(CALLBACK, views.callback),
            web.get(AUTHORITY, views.authority),
            web.get(FORWARD_AUTHORITY, views.forward_authority),
            *api_routes(backend, body_seconds=form_seconds),
            *page_routes(lambda: backend.guard.key_header),
        ]
    )
    return application


class _Views:
    def __init__(self, backend: AdminBackend, form_seconds: float) -> None:
        self._backend = backend
        self._form_seconds = form_seconds

    async def healthz(self, _request: web.Request) -> web.Response:
        return _json({"alive": True})

    async def readyz(self, request: web.Request) -> web.Response:
        wanted = request.query.get("route")
        if len(request.query.getall("route", [])) > 1:
            raise BadRequest("route: is given more than once; ask for each by itself, or without it for all")
        routes = [each for each in self._backend.states() if wanted in {None, each.route}]
        if wanted is not None and not routes:
            return problem(NoRoute("there is no route of that name"))
        status, document = readiness(routes, reasons=self._has_key(request))
        return _json(document, status=status)

    def _has_key(self, request: web.Request) -> bool:
        try:
            self._backend.guard.check_key(AdminRequest.by(request))
        except KeyRequired:
            return False
        return True

    async def metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=await self._backend.metrics(), headers={"Content-Type": PROMETHEUS})

    async def authority(self, _request: web.Request) -> web.Response:
        certificate = await self._backend.authority()
        if certificate is None:
            return problem(NoRoute("there is no local authority: `tls: auto` is not set"))
        return web.Response(body=certificate, headers={"Content-Type": PEM})

    async def forward_authority(self, _request: web.Request) -> web.Response:
        certificates = await self._backend.forward_authority()
        if certificates is None:
            return problem(NoRoute("there is no authority for a forward proxy: `forward` is not set"))
        if not certificates:
            return problem(NoRoute("the forward proxy needs no authority: no route's upstream is https"))
        return web.Response(body=certificates, headers={"Content-Type": PEM})

    async def login(self, request: web.Request) -> web.Response:
        """Begin a login, for who has the access key: in its header, or in the form that is shown for it."""
        route, by_form = request.match_info["route"], request.method == "POST"
        if not self._has_key(request):
            if not by_form:
                return _html(key_page(route), headers=FORM_HEADERS)
            if not self._backend.guard.is_key(await _key_in_form(request, self._form_seconds)):
                challenge = {"WWW-Authenticate": CHALLENGE}
                return _html(key_page(route, wrong=True), status=401, headers=FORM_HEADERS | challenge)
        return await self._begin(request, route, redirects=not by_form)

    async def _begin(self, request: web.Request, route: str, *, redirects: bool) -> web.Response:
        here = f"{request.scheme}://{request.host}{CALLBACK}"
        try:
            show = await self._backend.begin_login(route, here)
        except AuthproxyError as error:
            return _page(
                "The login could not be started", error.detail, error.hint or "", status=error.status
            )
        if show is None:
            return _page("No such login", f"There is no route {route} that needs a login.", status=404)
        if show.code is not None:
            return _html(code_page(route, show.code, show.url, show.complete_url))
        if show.back_to is not None and not _is_same_place(show.back_to, here):
            return _html(paste_page(route, show.url), headers=FORM_HEADERS)
        if not redirects:
            return _html(onward_page(route, show.url))
        return web.Response(status=302, headers={"Location": show.url, **SECURITY_HEADERS})

    async def callback(self, request: web.Request) -> web.Response:
        query = dict(request.query)
        if len(query) < len(request.query):
            return _page("Not a valid login response", "A parameter occurs twice.", status=400)
        if query.keys() == {"url"}:  # the form of `paste_page`
            try:
                query = callback_query(query["url"])
            except ValueError as error:
                return _page("Not a valid login response", f"What was pasted {error}.", status=400)
        try:
            ended = await self._backend.end_login(query)
        except AuthproxyError as error:
            return _page("The login failed", error.detail, error.hint or "", status=error.status)
        if ended is None:
            return _page(
                "No login is waiting for this",
                "It was completed before, took too long, or did not start here. Start it again.",
                status=400,
            )
        route, advice = ended
        return _page(f"Logged in to {route}", "You can close this page.", advice or "")


async def _key_in_form(request: web.Request, seconds: float) -> str:
    """Return what the form of `key_page` holds, "" if it is another one.

    Raises `RequestTimeout`, a 413 of aiohttp's, and what is wrong with the body.
    """
    try:
        async with asyncio.timeout(seconds):
            body = await request.read()
    except TimeoutError:
        raise RequestTimeout(f"the form took longer than {seconds:g} s") from None
    form = parse_qs(body.decode("utf-8", "replace"))
    keys = form.get("key", [])
    return keys[0] if len(keys) == 1 else ""


def _is_same_place(one: str, other: str) -> bool:
    """Tell whether two URLs are the same to a browser: whatever the scheme, and the name of this machine."""
    own, asked = urlsplit(one), urlsplit(other)
    if (own.port, own.path) != (asked.port, asked.path):
        return False
    hosts = {own.hostname or "", asked.hostname or ""}
    return len(hosts) == 1 or all(map(is_loopback, hosts))


def _json(document: dict[str, object], *, status: int = 200) -> web.Response:
    return web.Response(text=json.dumps(document) + "\n", status=status, content_type="application/json")


def _page(title: str, *paragraphs: str, status: int = 200) -> web.Response:
    return _html(page(title, *filter(None, paragraphs)), status=status)


def _html(text: str, *, status: int = 200, headers: Mapping[str, str] = SECURITY_HEADERS) -> web.Response:
    return web.Response(text=text, status=status, content_type="text/html", headers=headers)
