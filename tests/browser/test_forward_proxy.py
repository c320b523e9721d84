"""A browser that has us as its proxy: whose pages may use what we lend, and all else is as without us."""

import re
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.support.async_command import running_proxy
from tests.support.forward import TOKEN, Named, forward_url, forwarding, inside, route, tunnel
from tests.support.installed import need
from tests.support.wire import Message, Upstream, Wire, reply, request

from .conftest import PATIENCE
from .test_other_sites import WAYS
from .test_page import Watched, dialog_of, is_live, run, watched

__all__ = ["watched"]  # a fixture

pytestmark = pytest.mark.asyncio(loop_scope="session")

HTML = "Content-Type: text/html"
PAGE = reply(200, HTML, body=b"<!doctype html><title>a page</title><body>here")


def pages(came: Message, _wire: Wire) -> bytes:
    if came.path == "/data":
        return reply(200, "Content-Type: text/plain", body=(came.one("Authorization") or "nothing").encode())
    return PAGE


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Named]:
    """The upstream of a route."""
    with Named(tmp_path) as made:
        made.answer = pages
        yield made


@pytest.fixture
def foreign() -> Iterator[Upstream]:
    """A site that is no route's."""
    with Upstream(pages) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def behind(chromium: Any, api: Named) -> AsyncIterator[Any]:
    """Return an empty page in a browser that asks our forward proxy for everything."""
    async with running_proxy(forwarding(route(api))) as proxy:
        server = {"server": forward_url(proxy), "bypass": "<-loopback>"}
        context = await chromium.new_context(proxy=server, ignore_https_errors=True)
        context.set_default_timeout(PATIENCE)
        yield await context.new_page()
        await context.close()


async def test_a_hosts_own_pages_use_what_the_proxy_lends(behind: Any, api: Named) -> None:
    await behind.goto(f"https://{api.authority}/page")
    assert await behind.title() == "a page"
    said = await behind.evaluate("() => fetch('/data').then(answer => answer.text())")
    posted = await behind.evaluate(
        "() => fetch('/data', {method: 'POST', body: 'x'}).then(each => each.text())"
    )
    assert {said, posted} == {f"Bearer {TOKEN}"}


async def test_another_sites_page_does_not_in_whatever_way_it_asks(
    behind: Any, api: Named, foreign: Upstream
) -> None:
    await behind.goto(f"http://127.0.0.1:{foreign.port}/page")
    assert await behind.title() == "a page"
    await behind.evaluate(WAYS, f"https://{api.authority}")
    said = await behind.evaluate("() => fetch('/data').then(answer => answer.text())")
    assert said == "nothing"  # its own site is as it is without us
    assert api.requests == []
    async with behind.expect_navigation() as gone:
        await behind.evaluate("url => { location = url; }", f"https://{api.authority}/data")
    assert (await gone.value).status == 403
    assert "/data" not in [each.target for each in api.requests]


async def test_sites_that_are_no_routes_are_as_without_us(
    behind: Any, tmp_path: Path, foreign: Upstream
) -> None:
    foreign.answer = lambda came, wire: (
        reply(200, "Access-Control-Allow-Origin: *", body=b"for all")
        if came.path == "/for-all"
        else pages(came, wire)
    )
    with Named(tmp_path) as other:
        other.answer = pages
        await behind.goto(f"https://{other.authority}/page")
        assert await behind.title() == "a page"
        said = await behind.evaluate("() => fetch('/data').then(answer => answer.text())")
    assert said == "nothing"
    await behind.goto(f"http://127.0.0.1:{foreign.port}/page")
    url = f"http://localhost:{foreign.port}/for-all"
    assert await behind.evaluate("url => fetch(url).then(answer => answer.text())", url) == "for all"


# ── the live page ────────────────────────────────────────────────────────────────────────────────


async def test_the_page_tells_of_tunnels_and_its_curl_goes_the_same_way(
    watched: Watched, api: Named, foreign: Upstream
) -> None:
    need("curl", "sh")
    async with running_proxy(forwarding(route(api))) as proxy:
        with tunnel(proxy, f"127.0.0.1:{foreign.port}") as blind:
            assert blind.send(request()).answer().status == 200
        with inside(proxy, "localhost", api.port) as within:
            assert within.send(request("GET", "/seen?a=1", host=api.authority)).answer().status == 200
            assert within.send(request("GET", "/other", host="other.example")).answer().status == 421
        await watched.page.goto(proxy.admin_url)
        await is_live(watched.page)
        listeners = await watched.page.locator("#listeners").inner_text()
        assert listeners == f"listens on {proxy.url}, forward proxy on {forward_url(proxy)}"
        rows = await watched.page.locator("#rows").inner_text()
        assert f"https://{api.authority}/seen" in rows
        assert f"https://{api.authority}/other" in rows
        assert re.search(r"tunnelled, \S+ bytes sent, \S+ bytes received", rows)
        dialog = await dialog_of(watched.page, "CONNECT")
        said = await dialog.get_by_label("What was done").inner_text()
        assert "tunnelled" in said
        assert await dialog.get_by_role("button", name="Replay").count() == 0
        await watched.page.keyboard.press("Escape")
        dialog = await dialog_of(watched.page, "/seen")
        assert "the forward proxy, intercepted" in await dialog.inner_text()
        await dialog.get_by_text("The curl command").click()
        command = await dialog.get_by_label("The request as a curl command").text_content()
        assert f"-x {forward_url(proxy)}" in command
        assert await run(f"{command.replace('REDACTED', '1')} -s") == PAGE.partition(b"\r\n\r\n")[2].decode()
    assert [each.target for each in api.requests] == ["/seen?a=1", "/seen?a=1"]
    assert {each.one("Authorization") for each in api.requests} == {f"Bearer {TOKEN}"}
    await watched.check(TOKEN)


async def test_a_tunnel_that_came_to_nothing_is_red_and_says_why(watched: Watched, api: Named) -> None:
    async with running_proxy(forwarding(route(api))) as proxy:
        with tunnel(proxy, api.authority) as wire, pytest.raises(ssl.SSLCertVerificationError):
            api.client().wrap_socket(wire.sock, server_hostname="localhost")
        await watched.page.goto(proxy.admin_url)
        await is_live(watched.page)
        code = watched.page.locator("#rows .code").first
        assert await code.get_attribute("data-tone") == "bad"
        dialog = await dialog_of(watched.page, "CONNECT")
        said = await dialog.inner_text()
        assert "Broken off: The tunnel came to nothing" in said
        assert "unknown ca" in said
        assert "bundle.pem" in said
        assert "Upstream answered" not in said
        assert "authproxy itself" not in said
    await watched.check(TOKEN)


async def test_how_long_a_tunnel_lasts_is_no_latency(watched: Watched, api: Named) -> None:
    async with running_proxy(forwarding(route(api))) as proxy:
        await watched.page.goto(proxy.admin_url)
        await is_live(watched.page)
        slowest = await watched.page.evaluate(
            """async () => {
                const {Series} = await import("/page/series.js");
                const series = new Series(), now = Date.now();
                for (const [method, ms] of [["GET", 3], ["CONNECT", 4000]])
                    series.sample({method, ms, at: new Date(now - ms).toISOString()});
                return Math.max(...series.steps(now / 1000).map(each => each.p99 ?? 0));
            }"""
        )
    assert slowest == 3
    await watched.check(TOKEN)
