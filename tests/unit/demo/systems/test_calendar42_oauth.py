"""Calendar42's OAuth, preset against stand-in: with a user's consent, and silently."""

import json
import re
from urllib.parse import parse_qsl, urlsplit

import pytest

from authproxy.config.read import parse
from authproxy.demo.accounts import USERNAME
from authproxy.errors import CredentialRejected, LoginRequired
from authproxy.grants.runner import FlowRunner

SYSTEM = "calendar42-oauth"


def grant(demo, name, **auth):
    config = demo.config()
    for route in config["routes"]:
        if route["name"] == name:
            route["auth"] |= auth
    routes = parse(json.dumps(config), "demo.yaml", environ={}).routes
    return next(route for route in routes if route.name == name).grant


async def status(client, demo, token):
    headers = {"Authorization": f"Bearer {token.value}"}
    async with client.get(f"{demo.systems[SYSTEM]}/app/django/api/v2/calendars/", headers=headers) as reply:
        return reply.status


class Browser:
    """A user who opens the page, and presses a button there."""

    def __init__(self, client, **form):
        self.client = client
        self.form = form

    async def show(self, show):
        async with self.client.get(show.url) as reply:
            page = await reply.text()
            assert reply.status == 200
        number = re.search(r'name="login" value="([^"]+)"', page)[1]
        action = show.url.partition("?")[0]
        async with self.client.post(
            action, data={"login": number} | self.form, allow_redirects=False
        ) as reply:
            self.location = reply.headers["Location"]

    async def callback(self, state):
        return dict(parse_qsl(urlsplit(self.location).query))


async def test_a_user_consents_and_the_refresh_token_keeps_it(client, demo, clock):
    consent = grant(demo, "calendar42-oauth")
    async with FlowRunner(clock=clock) as runner:
        with pytest.raises(LoginRequired):
            await runner.run(consent.flow(None))
        browser = Browser(client, allow="yes")
        token = await runner.run(consent.login("http://127.0.0.1:9/callback"), browser)
        assert browser.location.startswith("http://127.0.0.1:9/callback?")
        assert await status(client, demo, token) == 200
        form = demo.last_token_request[SYSTEM].form
        assert {"client_id", "client_secret", "service", "code_verifier"} <= form.keys()
        assert consent.advice(token) is None
        token = await runner.run(consent.flow(token))
        assert demo.last_token_request[SYSTEM].form["grant_type"] == "refresh_token"
        assert await status(client, demo, token) == 200


async def test_a_user_refuses(client, demo, clock):
    flow = grant(demo, "calendar42-oauth").login("http://127.0.0.1:9/callback")
    async with FlowRunner(clock=clock) as runner:
        with pytest.raises(CredentialRejected, match="access_denied"):
            await runner.run(flow, Browser(client, allow="no"))
    assert demo.token_requests[SYSTEM] == 0


async def test_a_sandbox_user_is_asked_nothing(client, demo, clock):
    async with FlowRunner(clock=clock) as runner:
        token = await runner.run(grant(demo, "calendar42-silent").flow(None))
    assert await status(client, demo, token) == 200
    assert demo.token_requests[SYSTEM] == 1


async def test_a_user_with_an_account_must_log_in(client, demo, clock):
    silent = grant(demo, "calendar42-silent", email_address=USERNAME)
    async with FlowRunner(clock=clock) as runner:
        with pytest.raises(LoginRequired, match="requires a user to log in"):
            await runner.run(silent.flow(None))
        browser = Browser(client, allow="yes", password="demo password: 100% sure")
        token = await runner.run(silent.login(), browser)
        assert await status(client, demo, token) == 200
        with pytest.raises(CredentialRejected):
            await runner.run(silent.login(), Browser(client, allow="yes", password="wrong"))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"client_id": "wrong"}, "403"),
        ({"client_secret": "wrong"}, "invalid_client"),
        ({"service": "wrong"}, "invalid_request"),
        ({"scope": "everything"}, "invalid_scope"),
    ],
)
async def test_what_is_wrong_is_said(demo, clock, wrong, says):
    async with FlowRunner(clock=clock) as runner:
        with pytest.raises(CredentialRejected, match=says) as caught:
            await runner.run(grant(demo, "calendar42-silent", **wrong).flow(None))
    assert caught.value.hint


async def test_a_code_is_good_once_for_its_own_redirect_uri_and_verifier(client, demo, clock):
    consent = grant(demo, "calendar42-oauth")
    async with FlowRunner(clock=clock) as runner:
        browser = Browser(client, allow="yes")
        await runner.run(consent.login("http://127.0.0.1:9/callback"), browser)
        code = dict(parse_qsl(urlsplit(browser.location).query))["code"]
    used = demo.last_token_request[SYSTEM].form
    assert used["code"] == code
    async with client.post(f"{demo.systems[SYSTEM]}/oauth2/token/", data=used) as reply:
        assert (reply.status, (await reply.json())["error"]) == (400, "invalid_grant")


async def test_an_old_page_is_refused(client, demo):
    url = f"{demo.systems[SYSTEM]}/oauth2/authorize/"
    async with client.post(url, data={"login": "made-up", "allow": "yes"}) as reply:
        assert reply.status == 400


@pytest.mark.parametrize(
    ("authorization", "expected"), [(None, 401), ("Token x", 401), ("Bearer made-up", 403)]
)
async def test_no_token_is_401_and_a_wrong_one_403(client, demo, authorization, expected):
    headers = {"Authorization": authorization} if authorization else {}
    async with client.get(f"{demo.systems[SYSTEM]}/x", headers=headers) as reply:
        assert reply.status == expected


async def test_revoked_tokens_are_refused(client, demo, clock):
    silent = grant(demo, "calendar42-silent")
    async with FlowRunner(clock=clock) as runner:
        token = await runner.run(silent.flow(None))
        demo.revoke(SYSTEM)
        assert await status(client, demo, token) == 403
        token = await runner.run(silent.flow(token))  # its refresh token is gone too
        assert await status(client, demo, token) == 200
