"""A person logs in with a real browser, at two providers that nobody here wrote."""

import asyncio
import re
from contextlib import asynccontextmanager

import pytest

from tests.servers.django_project.accounts import PHONE_APP, TELEVISION, USER, USER_PASSWORD, WEB_APP
from tests.servers.oidc.conftest import AWKWARD
from tests.support.async_command import running_proxy

pytestmark = pytest.mark.asyncio(loop_scope="session")

PATIENCE = 20.0  # seconds until what should happen by itself has failed
OFFLINE = {"scope": "openid offline_access", "authorization_params": {"prompt": "consent"}}


def at_django(django, grant="authorization_code", **keys):
    """Return a route whose people log in at django-oauth-toolkit."""
    endpoint = {
        "authorization_code": {"authorization_url": f"{django.url}/o/authorize/"},
        "device_code": {"device_authorization_url": f"{django.url}/o/device-authorization/"},
    }[grant]
    auth = {"grant": grant, "token_url": django.token_url, **endpoint, **keys}
    return {"name": "api", "upstream": django.url, "auth": auth}


def at_oidc(provider, **keys):
    """Return a route whose people log in at oidc-provider, whose endpoints are discovered."""
    auth = {"grant": "authorization_code", "issuer": provider.issuer, **OFFLINE, **keys}
    return {"name": "api", "upstream": provider.issuer, "auth": auth}


@asynccontextmanager
async def proxy_before(route, store, **settings):
    """Run a proxy; yield it and the URL of its admin listener."""
    config = {"log": {"level": "debug"}, "token_store": store, "routes": [route], **settings}
    async with running_proxy(config) as proxy:
        yield proxy, proxy.admin_url


@pytest.fixture
def store(tmp_path):
    return {"type": "file", "path": str(tmp_path / "tokens")}


async def login_is_asked_for(client, proxy, admin, path):
    """See that the proxy says how to log in, and return the link."""
    reply = await client.get(f"{proxy.url}{path}")
    assert reply.status == 503
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert reply.headers["Proxy-Status"].startswith("authproxy; error=destination_unavailable")
    assert int(reply.headers["Retry-After"]) > 0
    assert reply.document["title"] == "Login required"
    assert f"authproxy login api -c {proxy.config_file}" in reply.document["hint"]
    readiness = await client.get(f"{admin}/readyz")
    assert (readiness.status, readiness.document["routes"]["api"]["state"]) == (503, "login_required")
    (link,) = re.findall(rf"{admin}/login/\S+(?=,)", reply.document["hint"])
    return link


async def log_in_at_django(page):
    await page.get_by_label("Username").fill(USER)
    await page.get_by_label("Password").fill(USER_PASSWORD)
    await page.get_by_role("button", name="Log in").click()


async def log_in_at_oidc(page):
    await page.get_by_placeholder("Enter any login").fill("joe")
    await page.get_by_placeholder("and password").fill("anything")
    await page.get_by_role("button", name="Sign-in").click()
    await page.get_by_role("button", name="Continue").click()


async def is_logged_in(page, client, proxy, admin, path):
    """See that the browser came back, and that the route works now; return the proxied answer."""
    await page.get_by_role("heading", name="Logged in to api").wait_for()
    assert page.url.startswith(f"{admin}/callback?")
    assert (await client.get(f"{admin}/readyz")).status == 200
    reply = await client.get(f"{proxy.url}{path}")
    assert reply.status == 200
    return reply.document


@pytest.mark.parametrize("keys", [WEB_APP, PHONE_APP], ids=["confidential", "public"])
async def test_a_login_at_django_oauth_toolkit(page, client, django, store, keys):
    async with proxy_before(at_django(django, **keys), store) as (proxy, admin):
        await page.goto(await login_is_asked_for(client, proxy, admin, "/api/resource/"))
        await log_in_at_django(page)
        await page.get_by_role("button", name="Authorize").click()
        document = await is_logged_in(page, client, proxy, admin, "/api/resource/")
        assert document["user"] == USER
        await django.revoke_access_tokens()
        assert (await client.get(f"{proxy.url}/api/resource/")).status == 200, "by the refresh token"
        code = re.search("code=([^&]+)", page.url)[1]
        await page.reload()
        await page.get_by_role("heading", name="No login is waiting for this").wait_for()
        asked = [(each.form["grant_type"], each.status) for each in await django.token_requests()]
        assert asked == [("authorization_code", 200), ("refresh_token", 200)]
        assert await proxy.stop() == 0
        for secret in (code, keys.get("client_secret", code), document["authorization"].split()[1]):
            assert secret not in proxy.log()


@pytest.mark.parametrize(
    "keys",
    [{"client_id": "confidential", "client_secret": AWKWARD}, {"client_id": "public"}],
    ids=["confidential", "public"],
)
async def test_a_login_at_oidc_provider_found_by_its_issuer(page, client, oidc_provider, store, keys):
    async with proxy_before(at_oidc(oidc_provider, **keys), store) as (proxy, admin):
        await page.goto(await login_is_asked_for(client, proxy, admin, "/api/x"))
        await log_in_at_oidc(page)
        document = await is_logged_in(page, client, proxy, admin, "/api/x")
        assert document == {"client": keys["client_id"]}
        assert "iss=" in page.url, "this server says whose answer it is (RFC 9207)"


async def test_a_user_who_refuses_is_told_so_and_can_begin_again(page, client, django, store):
    async with proxy_before(at_django(django, **PHONE_APP), store) as (proxy, admin):
        await page.goto(f"{admin}/login/api")
        await log_in_at_django(page)
        await page.get_by_role("button", name="Cancel").click()
        await page.get_by_role("heading", name="The login failed").wait_for()
        await page.get_by_text("access_denied").wait_for()
        assert (await client.get(f"{proxy.url}/api/resource/")).status == 503
        await page.goto(f"{admin}/login/api")
        await page.get_by_role("button", name="Authorize").click()
        await is_logged_in(page, client, proxy, admin, "/api/resource/")


async def test_a_login_by_a_code_that_the_page_shows(page, client, django, store):
    route = at_django(django, "device_code", **TELEVISION)
    async with proxy_before(route, store) as (proxy, admin):
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        link = await login_is_asked_for(client, proxy, admin, "/api/resource/")
        response = await page.goto(link)
        assert response.headers["content-security-policy"].startswith("default-src 'none'")
        assert asked == [link], "the page loads nothing else"
        code = await page.locator("code").inner_text()
        async with page.expect_popup() as opened:
            await page.get_by_role("link").click()
        there = await opened.value
        await log_in_at_django(there)
        await there.get_by_label("User code").fill(code)
        await there.get_by_role("button", name="Verify").click()
        await there.get_by_role("button", name="Accept").click()
        async with asyncio.timeout(PATIENCE):
            while (reply := await client.get(f"{proxy.url}/api/resource/")).status == 503:
                await asyncio.sleep(0.1)
        assert (reply.status, reply.document["user"]) == (200, USER)
        assert (await client.get(f"{admin}/readyz")).status == 200


async def test_a_login_where_callers_need_a_key(page, client, django, store):
    access = {"tokens": ["the key"]}
    async with proxy_before(at_django(django, **PHONE_APP), store, access=access) as (proxy, admin):
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        link = f"{admin}/login/api"
        await page.goto(link)
        assert asked == [link], "the page loads nothing else"
        await page.get_by_label("Access key").fill("wrong")
        await page.get_by_role("button", name="Log in").click()
        await page.get_by_text("That key is not valid").wait_for()
        assert await page.context.cookies() == []
        await page.get_by_label("Access key").fill("the key")
        await page.get_by_label("Access key").press("Enter")
        await log_in_at_django(page)
        await page.get_by_role("button", name="Authorize").click()
        await page.get_by_role("heading", name="Logged in to api").wait_for()
        assert not [url for url in asked if "key" in url.rpartition("?")[2]]
        reply = await client.get(f"{proxy.url}/api/resource/", headers={"X-Authproxy-Key": "the key"})
        assert (reply.status, reply.document["user"]) == (200, USER)
