"""Logins through the running proxy: `/login/ROUTE` and `/callback` on its admin listener."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html import unescape
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, urlencode, urlsplit, urlunsplit

import pytest
import pytest_asyncio
import yaml
from aiohttp import web

from authproxy.demo import stand_ins
from authproxy.demo.accounts import USERNAME
from tests.support.async_command import RunningProxy, running_proxy, wait_until
from tests.support.authorization_server import CLIENT_SECRET, Provider, User, challenge, provider, user

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENCE = 20.0  # seconds until what should happen by itself has failed


ROUTES = {
    "api": Provider.auth,
    "found": Provider.discovered,
    "other": lambda server: server.auth(scope="other"),
    "lapsed": lambda server: server.auth(scope="lapsed"),
    "device": lambda server: server.auth("device_code"),
    "refused": lambda server: server.auth("device_code", scope="other"),
    "pasted": lambda server: server.auth(redirect_uri="https://my.app/cb"),
    "static": lambda _server: {"grant": "static", "token": "t0ken"},
    "nowhere": lambda _server: {"grant": "authorization_code", "client_id": "a", "issuer": NOWHERE},
}
NOWHERE = "http://127.0.0.1:9"


@dataclass
class Place:
    """A provider, a proxy with routes before it, and somebody who logs in."""

    server: Provider
    proxy: RunningProxy
    admin: str
    ann: User

    async def status(self, route: str = "api") -> int:
        return (await self.ann.open(f"{self.proxy.url}/{route}/events")).status

    async def readiness(self, route: str) -> tuple[int, str | None]:
        """Return the status of `/readyz` for the route, and the state that it tells."""
        page = await self.ann.open(f"{self.admin}/readyz?route={route}")
        return page.status, json.loads(page.text).get("routes", {}).get(route, {}).get("state")

    async def begin(self, route: str = "api") -> str:
        """Follow the link as far as the provider's authorization URL."""
        page = await self.ann.open(f"{self.admin}/login/{route}")
        assert page.status == 302, page.text
        return page.location


@asynccontextmanager
async def place(*args: str, store=None, **settings: Any) -> AsyncIterator[Place]:
    """Serve a provider and a proxy before it, with a route for each of `ROUTES`; `settings` are more keys."""
    async with provider() as server, user() as ann:
        config = {
            "log": {"level": "debug"},
            "token_store": store or {"type": "memory"},
            "routes": [
                {"name": name, "path": f"/{name}", "upstream": f"{server.url}/api", "auth": make(server)}
                for name, make in ROUTES.items()
            ],
            **settings,
        }
        async with running_proxy(config, *args) as proxy:
            yield Place(server, proxy, proxy.admin_url, ann)
            assert await proxy.stop() == 0
            for text in ("Traceback", "never retrieved", CLIENT_SECRET, *server.handed_out):
                assert text not in proxy.log()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_place():
    async with place() as found:
        yield found


@pytest.fixture
def here(shared_place):
    """Return the place that most tests share, its provider as it was in the beginning."""
    server = shared_place.server
    server.asked.clear()
    server.redeemed.clear()
    server.refuses, server.gives_refresh_tokens, server.device_answers = None, True, []
    server.refuses_refresh, server.lifetime = None, 600.0
    return shared_place


def with_query(url: str, **changes: str | None) -> str:
    """Return `url` with other values in its query; None takes a parameter away."""
    query = dict(parse_qsl(urlsplit(url).query)) | changes
    return urlunsplit(
        urlsplit(url)._replace(query=urlencode({k: v for k, v in query.items() if v is not None}))
    )


async def test_a_login_by_link_makes_the_route_work_at_once(here):
    assert await here.status("found") == 503
    assert await here.readiness("found") == (503, "login_required")
    back = await here.ann.log_in(await here.begin("found"))
    assert urlsplit(back)._replace(query="").geturl() == f"{here.admin}/callback"
    page = await here.ann.open(back, headers={"Sec-Fetch-Site": "cross-site"})  # the provider sent it there
    assert (page.status, "Logged in to found" in page.text) == (200, True)
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert await here.status("found") == 200
    assert await here.readiness("found") == (200, None)
    (asked,), (redeemed,) = here.server.asked, here.server.redeemed
    assert asked["code_challenge_method"] == "S256"
    assert asked["code_challenge"] == challenge(redeemed["code_verifier"])
    assert asked["redirect_uri"] == redeemed["redirect_uri"] == f"{here.admin}/callback"


async def test_a_login_whose_browser_comes_back_elsewhere_is_completed_by_pasting_its_url(here):
    assert await here.status("pasted") == 503
    page = await here.ann.open(f"{here.admin}/login/pasted")
    assert page.status == 200, page.text
    [url] = [unescape(each) for each in re.findall('<a href="([^"]+)"', page.text)]
    back = await here.ann.log_in(url)
    assert back.startswith("https://my.app/cb?")
    page = await here.ann.open(f"{here.admin}/callback?{urlencode({'url': back})}")
    assert (page.status, "Logged in to pasted" in page.text) == (200, True)
    assert await here.status("pasted") == 200


async def test_a_refresh_token_that_is_refused_in_other_words_leads_to_the_login_link(here):
    here.server.refuses_refresh = web.json_response({"error": "invalid_token"}, status=401)
    here.server.lifetime = 0.5
    assert (await here.ann.open(await here.ann.log_in(await here.begin("lapsed")))).status == 200
    async with asyncio.timeout(PATIENCE):
        while (page := await here.ann.open(f"{here.proxy.url}/lapsed/events")).status == 200:
            await asyncio.sleep(0.05)
    assert page.status == 503
    assert f"{here.admin}/login/lapsed" in json.loads(page.text)["hint"]
    here.server.lifetime = 600.0
    here.server.refuses_refresh = None
    assert (await here.ann.open(await here.ann.log_in(await here.begin("lapsed")))).status == 200
    assert await here.status("lapsed") == 200
    grants = [each["grant_type"] for each in here.server.redeemed]
    assert grants == ["authorization_code", "refresh_token", "authorization_code"]


async def test_what_is_no_answer_to_a_login_is_refused_and_redeems_nothing(here):
    back = await here.ann.log_in(await here.begin())
    for forged in (
        with_query(back, state="forged"),
        with_query(back, state=None),
        with_query(back, state=""),
        f"{back}&code=another",
        f"{back}&state=another",
        f"{here.admin}/callback",
    ):
        page = await here.ann.open(forged)
        assert page.status == 400, forged
        assert "forged" not in page.text
    assert here.server.redeemed == []
    assert (await here.ann.open(back)).status == 200, "the login itself is still waited for"
    assert (await here.ann.open(back)).status == 400, "but answered only once"
    assert len(here.server.redeemed) == 1


async def test_two_callbacks_at_once_redeem_one_code(here):
    back = await here.ann.log_in(await here.begin())
    pages = await asyncio.gather(here.ann.open(back), here.ann.open(back))
    assert sorted(page.status for page in pages) == [200, 400]
    assert len(here.server.redeemed) == 1


async def test_an_answer_by_another_issuer_ends_the_login_and_redeems_nothing(here):
    for iss in ("https://evil.example", None):
        back = await here.ann.log_in(await here.begin("found"))
        page = await here.ann.open(with_query(back, iss=iss))
        assert page.status >= 400
        assert "iss" in page.text
        assert (await here.ann.open(back)).status == 400
    assert here.server.redeemed == []


async def test_a_login_that_the_server_refuses_says_why_and_another_can_follow(here):
    here.server.refuses = "access_denied"
    page = await here.ann.open(await here.ann.log_in(await here.begin()))
    assert page.status >= 400
    assert "access_denied" in page.text
    assert here.server.redeemed == []
    here.server.refuses = None
    back = await here.ann.log_in(await here.begin())
    here.server.forget_codes()
    page = await here.ann.open(back)
    assert page.status >= 400
    assert "invalid_grant" in page.text
    assert (await here.ann.open(await here.ann.log_in(await here.begin()))).status == 200


async def test_logins_by_several_people_do_not_meet(here):
    first, second = await here.begin("api"), await here.begin("other")
    back_to_other, back_to_api = await here.ann.log_in(second), await here.ann.log_in(first)
    assert await here.status("other") == 503
    assert "Logged in to other" in (await here.ann.open(back_to_other)).text
    assert await here.status("other") == 200
    assert "Logged in to api" in (await here.ann.open(back_to_api)).text
    assert await here.status("api") == 200


async def test_a_device_code_is_shown_and_noticed_by_itself(here):
    here.server.device_answers = ["authorization_pending", "authorization_pending"]
    page = await here.ann.open(f"{here.admin}/login/device")
    assert page.status == 200
    assert "WDJB-MJHT" in page.text
    assert f'href="{here.server.url}/enter?user_code=WDJB-MJHT"' in page.text
    async with asyncio.timeout(PATIENCE):
        while await here.status("device") != 200:
            await asyncio.sleep(0.05)


async def test_a_device_code_that_the_user_refuses_is_logged(here):
    here.server.device_answers = ["access_denied"]
    before = here.proxy.log().count("login failed")
    assert (await here.ann.open(f"{here.admin}/login/refused")).status == 200
    async with asyncio.timeout(PATIENCE):
        while here.proxy.log().count("login failed") == before:
            await asyncio.sleep(0.05)
    assert await here.status("refused") == 503


async def test_only_who_means_it_can_begin_a_login(here):
    link = f"{here.admin}/login/api"
    for site in ("cross-site", "same-site"):
        assert (await here.ann.open(link, headers={"Sec-Fetch-Site": site})).status == 403
    assert (await here.ann.open(link, headers={"Host": "evil.example"})).status == 403
    assert (await here.ann.open(link, headers={"Origin": "https://evil.example"})).status == 403
    for route in ("static", "nobody", "<script>alert(1)</script>"):
        page = await here.ann.open(f"{here.admin}/login/{route}")
        assert page.status == 404
        assert "<script>" not in page.text


async def test_a_provider_that_cannot_be_found_is_said_on_the_page(here):
    page = await here.ann.open(f"{here.admin}/login/nowhere")
    assert page.status == 503
    assert f"cannot connect to {NOWHERE}" in page.text


async def test_a_login_without_a_refresh_token_warns_on_the_page_and_in_the_log(here):
    here.server.gives_refresh_tokens = False
    page = await here.ann.open(await here.ann.log_in(await here.begin()))
    assert page.status == 200
    assert "offline_access" in page.text
    await wait_until(lambda: "offline_access" in here.proxy.log(), here.proxy.log)  # it is written aside


async def test_a_login_is_every_workers():
    async with place("--workers", "2") as here:
        assert await here.status() == 503
        assert (await here.ann.open(await here.ann.log_in(await here.begin()))).status == 200
        statuses = []
        for _ in range(8):
            async with user() as somebody:  # on a connection of its own, so that each worker gets some
                statuses.append((await somebody.open(f"{here.proxy.url}/api/x")).status)
        assert statuses == [200] * 8
        assert len(here.server.redeemed) == 1


KEY = "the key & nothing+but/the=kéy"
ACCESS = {"tokens": ["another", KEY], "header": "X-Key"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def locked():
    """Return a place whose callers need a key."""
    async with place(access=ACCESS) as found:
        yield found
        assert KEY not in found.proxy.log()


def onward(page) -> str:
    """Return where a page of ours leads by itself."""
    (url,) = re.findall('<meta http-equiv="refresh" content="0; url=([^"]+)">', page.text)
    return unescape(url)


async def test_a_login_by_link_asks_for_the_key_and_begins_with_it(locked):
    before = len(locked.server.asked)
    link = f"{locked.admin}/login/api"
    for asked in (link, f"{link}?key={quote(KEY)}", f"{locked.admin}/login/nobody"):
        page = await locked.ann.open(asked)
        assert page.status == 200
        assert '<form method="post">' in page.text
        assert 'type="password"' in page.text
        policy = page.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; ")
        assert "form-action 'self'" in policy
        assert "<script" not in page.text
        assert "Set-Cookie" not in page.headers
    assert (await locked.ann.open(link, headers={"Cookie": f"key={KEY}"}, data={"key": KEY})).status == 200
    page = await locked.ann.post(link, data={"key": KEY})
    assert page.status == 200
    assert "Set-Cookie" not in page.headers
    assert KEY not in page.text
    back = await locked.ann.log_in(onward(page))
    assert len(locked.server.asked) == before + 1
    page = await locked.ann.open(back, headers={"Sec-Fetch-Site": "cross-site"})
    assert "Logged in to api" in page.text
    assert (await locked.ann.open(f"{locked.proxy.url}/api/events", headers={"X-Key": KEY})).status == 200


async def test_the_key_may_stand_in_its_header_too(locked):
    for key in (KEY, "another"):
        headers = {"X-Key": key}
        page = await locked.ann.open(f"{locked.admin}/login/other", headers=headers)
        assert page.status == 302
        assert (await locked.ann.post(f"{locked.admin}/login/other", headers=headers)).status == 200
    page = await locked.ann.post(f"{locked.admin}/login/device", data={"key": "another"})
    assert "WDJB-MJHT" in page.text


@pytest.mark.parametrize(
    "sent",
    [
        {"data": {"key": "wrong"}},
        {"data": {"key": ""}},
        {"data": {}},
        {"data": {"other": KEY}},
        {"data": f"key=another&key={quote_plus(KEY)}"},
        {"data": {"key": KEY + " "}},
        {"data": {"key": KEY.upper()}},
        {"data": b"key=\xff\xfe"},
        {"data": b"key=%ff%fe%00"},
        {"data": "key=another", "headers": {"Content-Type": "text/plain; charset=nonsense", "X-Key": "no"}},
        {"json": {"key": KEY}},
        {"params": {"key": KEY}},
        {"headers": {"Cookie": f"key={KEY}; X-Key=another"}},
        {"headers": {"X-Key": "wrong"}},
        {"headers": {"Authorization": "Bearer another"}},
    ],
)
async def test_no_login_begins_without_the_key(locked, sent):
    before = len(locked.server.asked)
    page = await locked.ann.post(f"{locked.admin}/login/api", **sent)
    if sent.get("data") == "key=another":  # a form is a form
        assert page.status == 200
        return
    assert page.status == 401
    assert page.headers["WWW-Authenticate"] == 'AuthproxyKey realm="authproxy"'
    assert "That key is not valid" in page.text
    assert 'type="password"' in page.text
    assert KEY not in page.text
    assert len(locked.server.asked) == before


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "null"},
        {"Origin": "https://evil.example"},
        {"Host": "evil.example"},
    ],
)
async def test_no_page_of_another_site_sends_the_key(locked, headers):
    page = await locked.ann.post(f"{locked.admin}/login/api", data={"key": KEY}, headers=headers)
    assert page.status == 403


async def test_a_form_is_not_read_for_ever(locked):
    page = await locked.ann.post(f"{locked.admin}/login/api", data="key=" + "x" * 100_000)
    assert page.status == 413


async def test_a_login_by_link_outlives_the_proxy_in_a_file_store(tmp_path):
    store = {"type": "file", "path": str(tmp_path / "tokens")}
    async with place(store=store) as here:
        config = yaml.safe_load(here.proxy.config_file.read_text())
        await here.ann.open(await here.ann.log_in(await here.begin()))
        assert await here.status() == 200
        assert await here.proxy.stop() == 0
        async with running_proxy(config) as again:
            assert (await here.ann.open(f"{again.url}/api/x")).status == 200
        assert len(here.server.redeemed) == 1


# ── Calendar42's silent OAuth ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("known", [False, True])
async def test_silent_oauth_needs_nobody_unless_the_address_is_a_users(known):
    async with stand_ins() as demo, user() as ann:
        (route,) = [each for each in demo.config()["routes"] if each["name"] == "calendar42-silent"]
        auth = route["auth"] | ({"email_address": USERNAME} if known else {})
        config = {"routes": [route | {"auth": auth, "path": "/"}]}
        async with running_proxy(config) as proxy:
            pages = [await ann.open(f"{proxy.url}/app/django/api/v2/calendars/") for _ in range(5)]
            ready = await ann.open(f"{proxy.admin_url}/readyz")
            [status] = json.loads((await ann.open(f"{proxy.admin_url}/api/status")).text)["routes"]
            login_url = status["login_url"]
            await proxy.stop()  # what it logged is out by then
            log = proxy.log()
        asked = demo.token_requests["calendar42-oauth"]
        if not known:
            assert [page.status for page in pages] == [200] * 5
            assert (ready.status, asked, login_url) == (200, 1, None)
            return
        assert [page.status for page in pages] == [503] * 5
        assert all(int(page.headers["Retry-After"]) > 0 for page in pages)
        hint = json.loads(pages[-1].text)["hint"]
        assert f"open {login_url}, or run `authproxy login calendar42-silent -c " in hint
        assert login_url.endswith("/login/calendar42-silent")
        assert json.loads(ready.text)["routes"]["calendar42-silent"]["state"] == "login_required"
        assert (asked, demo.api_requests["calendar42-oauth"]) == (0, 0)
        assert log.count("no token") == 1, "the login page was asked for once"
