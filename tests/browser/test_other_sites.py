"""A page of another site tries to use the proxy, in a real browser: what it sends is what counts."""

import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from aiohttp import web

from tests.support.async_command import running_proxy

from .conftest import ELSEWHERE

pytestmark = pytest.mark.asyncio(loop_scope="session")

TOKEN = "the token that is lent"

# Each way in which a page can have the browser ask; each ends when its answer, or its failure, is there.
WAYS = """
async base => {
    const ends = (target, start) => new Promise(end => {
        for (const event of ["load", "error", "open", "close"]) target.addEventListener(event, end);
        start && start(target);
    });
    const add = element => document.body.append(element);
    const make = (tag, attributes) => Object.assign(document.createElement(tag), attributes);
    const quietly = promise => promise.catch(() => null);
    const form = (target, method) => make("form", {action: `${base}/form-${method}`, method, target});

    await ends(make("img", {src: `${base}/img`}), add);
    await ends(make("script", {src: `${base}/script`}), add);
    await ends(make("link", {rel: "stylesheet", href: `${base}/style`}), add);
    await ends(make("iframe", {src: `${base}/iframe`}), add);
    await quietly(fetch(`${base}/fetch`));
    await quietly(fetch(`${base}/fetch-no-cors`, {mode: "no-cors", credentials: "include"}));
    await quietly(fetch(`${base}/fetch-text`, {method: "POST", mode: "no-cors", body: "a=1"}));
    await quietly(fetch(`${base}/fetch-json`, {method: "POST", headers: {"X-Own": "1"}}));
    await quietly(fetch(`${base}/fetch-put`, {method: "PUT", body: "x"}));
    for (const method of ["get", "post"]) {
        const frame = make("iframe", {name: `frame-${method}`});
        add(frame);
        const sent = form(frame.name, method);
        add(sent);
        await ends(frame, () => sent.submit());
    }
    await ends(new WebSocket(`${base.replace("http", "ws")}/websocket`));
    await ends(new EventSource(`${base}/events`));
}
"""
ASKED = {
    "/img", "/script", "/style", "/iframe", "/fetch", "/fetch-no-cors", "/fetch-text", "/fetch-json",
    "/fetch-put", "/form-get", "/form-post", "/websocket", "/events",
}  # fmt: skip


@dataclass
class Site:
    """A site with an empty page; `asked` are the requests for anything else that it got."""

    port: int = 0
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path != "/page":
            self.asked.append((request.method, request.path, request.headers.get("Authorization")))
        return web.Response(text="<!doctype html><title>a page</title><body>", content_type="text/html")


@asynccontextmanager
async def serving() -> AsyncIterator[Site]:
    site = Site()
    runner = web.ServerRunner(web.Server(site.answer), shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    site.port = runner.addresses[0][1]
    try:
        yield site
    finally:
        await runner.cleanup()


@pytest_asyncio.fixture(loop_scope="session")
async def upstream():
    async with serving() as site:
        yield site


@pytest_asyncio.fixture(loop_scope="session")
async def other():
    async with serving() as site:
        yield site


def config(upstream, **more):
    auth = {"grant": "static", "token": TOKEN}
    login = {
        "grant": "authorization_code",
        "client_id": "a",
        "authorization_url": f"{upstream.url}/authorize",
        "token_url": f"{upstream.url}/token",
    }
    routes = [
        {"name": "api", "upstream": upstream.url, "auth": auth},
        {"name": "login", "path": "/login", "upstream": upstream.url, "auth": login},
    ]
    return {"token_store": {"type": "memory"}, "routes": routes, **more}


async def test_nothing_that_another_sites_page_asks_for_gets_through(page, upstream, other):
    async with running_proxy(config(upstream)) as proxy:
        for host in (ELSEWHERE, "127.0.0.1"):  # another site, and another port of the same one
            await page.goto(f"http://{host}:{other.port}/page")
            await page.evaluate(WAYS, proxy.url)
        assert await proxy.stop() == 0
        answered = re.findall(r" request .* method=(\S+) .* status=(\d+)", proxy.log())
    assert Counter(answered) == {
        ("GET", "403"): 2 * (len(ASKED) - 4),
        ("POST", "403"): 2 * 2,
        ("OPTIONS", "403"): 2 * 2,  # before what a page may not send without asking first
    }
    assert upstream.asked == []


async def test_what_the_proxys_own_pages_and_the_user_ask_for_gets_through(page, upstream):
    async with running_proxy(config(upstream)) as proxy:
        response = await page.goto(f"{proxy.url}/page")
        assert response.status == 200
        await page.evaluate(WAYS, proxy.url)
    assert {path for _, path, _ in upstream.asked} >= ASKED
    assert {authorization for _, _, authorization in upstream.asked} == {f"Bearer {TOKEN}"}


async def test_a_name_that_is_made_to_point_at_the_proxy_gets_nothing(page, upstream):
    async with running_proxy(config(upstream)) as proxy:
        rebound = f"http://{ELSEWHERE}:{urlsplit(proxy.url).port}"
        response = await page.goto(f"{rebound}/page")
        assert response.status == 403
        for method in ("GET", "POST"):
            status = await page.evaluate(f"fetch('/x', {{method: '{method}'}}).then(reply => reply.status)")
            assert status == 403
    assert upstream.asked == []


async def test_an_allowed_origins_page_can_ask_and_read_the_answer(page, upstream, other):
    origin = f"http://{ELSEWHERE}:{other.port}"
    async with running_proxy(config(upstream, allowed_origins=[origin])) as proxy:
        await page.goto(f"{origin}/page")
        text = await page.evaluate(
            "url => fetch(url, {method: 'PUT', headers: {'X-Own': '1'}}).then(reply => reply.text())",
            f"{proxy.url}/events",
        )
    assert "a page" in text
    assert upstream.asked == [("PUT", "/events", f"Bearer {TOKEN}")], "the preflight was not forwarded"


async def test_another_sites_page_cannot_begin_a_login(page, upstream, other):
    async with running_proxy(config(upstream)) as proxy:
        admin = proxy.admin_url
        link = f"{admin}/login/login"
        answers = []
        page.on("response", lambda response: answers.append((response.url, response.status)))
        for host in (ELSEWHERE, "127.0.0.1"):
            await page.goto(f"http://{host}:{other.port}/page")
            await page.evaluate("url => fetch(url, {mode: 'no-cors'}).catch(() => null)", link)
            await page.evaluate(WAYS, admin)
            await page.evaluate("url => { location.href = url }", link)
            await page.wait_for_url(link)
        assert {status for url, status in answers if url.startswith(admin)} == {403}
        assert answers.count((link, 403)) == 4
    assert upstream.asked == [], "nobody was sent to the authorization endpoint"
