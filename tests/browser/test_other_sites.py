"""A page of another site tries to use the proxy, in a real browser: what it sends is what counts."""

import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp
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
API = """
async base => {
    const quietly = promise => promise.then(reply => reply.text()).catch(() => "");
    const ends = (target, start) => new Promise(end => {
        for (const event of ["load", "error", "open", "close"]) target.addEventListener(event, end);
        start && start(target);
    });
    const add = element => document.body.append(element);
    const make = (tag, attributes) => Object.assign(document.createElement(tag), attributes);
    const gets = ["/api/status", "/api/requests", "/api/requests/stream", "/api/requests/" + "0".repeat(22)];
    const posts = ["/api/routes/api/refresh", "/api/routes/api/forget", "/api/reload",
                   "/api/requests/" + "0".repeat(22) + "/replay"];
    let read = "";
    for (const path of gets) {
        await ends(make("img", {src: base + path}), add);
        await ends(make("script", {src: base + path}), add);
        await ends(make("link", {rel: "stylesheet", href: base + path}), add);
        const frame = make("iframe", {src: base + path});
        await ends(frame, add);
        try { read += frame.contentDocument.body.textContent; } catch {}
        read += await quietly(fetch(base + path));
        read += await quietly(fetch(base + path, {mode: "no-cors", credentials: "include"}));
        read += await quietly(fetch(base + path, {headers: {"X-Own": "1"}}));
        const source = new EventSource(base + path);
        source.onmessage = event => { read += event.data; };
        await ends(source);
        source.close();
    }
    for (const path of [...gets, ...posts]) {
        read += await quietly(fetch(base + path, {method: "POST", mode: "no-cors", body: "a=1"}));
        read += await quietly(fetch(base + path, {method: "POST", headers: {"X-Own": "1"}}));
        read += await quietly(fetch(base + path, {method: "POST", keepalive: true, mode: "no-cors"}));
        navigator.sendBeacon(base + path, "a=1");
        const name = "frame" + path;
        const frame = make("iframe", {name});
        add(frame);
        const form = make("form", {action: base + path, method: "post", target: name});
        add(form);
        await ends(frame, () => form.submit());
        try { read += frame.contentDocument.body.textContent; } catch {}
        await ends(new WebSocket(base.replace("http", "ws") + path));
    }
    return read;
}
"""
CANARY = "c4n4ry-in-a-route"
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


def machine(upstream, **more):
    """Return a configuration whose route has a token that can be renewed, and a name that can leak."""
    auth = {
        "grant": "client_credentials",
        "client_id": "a",
        "client_secret": CANARY,
        "token_url": f"{upstream.url}/token",
    }
    route = {"name": "api", "path": f"/{CANARY}", "upstream": upstream.url, "auth": auth}
    return {"routes": [route], **more}


def leaks(read):
    """Return what gives away that a page got to see a document of the API."""
    return [each for each in (CANARY, "started_at", "event:", '"requests"') if each in read]


@pytest.mark.parametrize("which", ["admin listener", "proxy"])
async def test_another_sites_page_gets_nothing_of_the_admin_api_and_changes_nothing(
    page, upstream, other, which
):
    async with running_proxy(machine(upstream)) as proxy:
        base = proxy.admin_url if which == "admin listener" else f"{proxy.url}/{CANARY}"
        answers = []
        page.on(
            "response", lambda reply: answers.append(reply.status) if reply.url.startswith(base) else None
        )
        read = ""
        for host in (ELSEWHERE, "127.0.0.1"):  # another site, and another port of the same one
            await page.goto(f"http://{host}:{other.port}/page")
            read += await page.evaluate(API, base)
        status = await state_of(proxy)
    assert leaks(read) == []
    assert set(answers) == {403}
    assert len(answers) > 2 * 30
    assert upstream.asked == [], "neither the upstream nor the token endpoint heard of it"
    assert (status["state"], status["requests"]) == ("idle", 0)


async def test_a_name_that_is_made_to_point_at_the_admin_listener_gets_nothing(page, upstream):
    async with running_proxy(machine(upstream)) as proxy:
        rebound = f"http://{ELSEWHERE}:{urlsplit(proxy.admin_url).port}"
        response = await page.goto(f"{rebound}/api/status")
        assert response.status == 403
        read = await page.evaluate(API, rebound)  # to the browser it is the page's own origin
        assert "are not answered here" in read
        assert leaks(read) == []
        assert (await state_of(proxy))["state"] == "idle"
    assert upstream.asked == []


async def test_a_page_that_the_proxy_serves_is_another_origin_to_the_admin_api(page, upstream):
    async with running_proxy(config(upstream)) as proxy:
        await page.goto(f"{proxy.url}/page")
        read = await page.evaluate(API, proxy.admin_url)
        assert leaks(read) == []
        assert {path for _, path, _ in upstream.asked} <= {"/favicon.ico"}
        async with aiohttp.ClientSession() as session, session.get(f"{proxy.admin_url}/api/status") as reply:
            assert [each["name"] for each in (await reply.json())["routes"]] == ["api", "login"]


async def test_the_admin_listeners_own_page_and_the_user_may_use_the_api(page, upstream):
    async with running_proxy(config(upstream)) as proxy:
        response = await page.goto(f"{proxy.admin_url}/api/status")
        assert response.status == 200
        statuses = await page.evaluate(
            """async () => {
                const found = [];
                for (const [method, path] of [["GET", "/api/requests"], ["POST", "/api/routes/api/refresh"],
                                              ["POST", "/api/routes/api/forget"], ["POST", "/api/reload"]])
                    found.push((await fetch(path, {method})).status);
                const reply = await fetch("/api/requests/stream");
                found.push(reply.status);
                const reader = reply.body.getReader();
                found.push(new TextDecoder().decode((await reader.read()).value).startsWith(":"));
                await reader.cancel();
                return found;
            }"""
        )
        assert statuses == [200, 200, 204, 200, 200, True]


async def state_of(proxy):
    async with aiohttp.ClientSession() as session, session.get(f"{proxy.admin_url}/api/status") as reply:
        return (await reply.json())["routes"][0]


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
