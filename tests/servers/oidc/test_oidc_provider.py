"""The npm package oidc-provider: every way of authenticating a client, discovery, logins, rotation, DPoP."""

import asyncio
import json
import time
from contextlib import AsyncExitStack, ExitStack
from itertools import cycle, islice

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey
from pydantic import TypeAdapter

from authproxy.errors import BadTokenReply, CredentialRejected, LoginRequired
from authproxy.grants.authorization_code import AuthorizationCode
from authproxy.grants.client_credentials import ClientCredentials
from authproxy.grants.device_code import DeviceCode, device_login
from authproxy.grants.runner import FlowRunner
from tests.support.async_command import running_proxy
from tests.support.installed import need
from tests.support.redis_server import RedisServer

from .conftest import AWKWARD, KEY

KEY_TEXT = json.dumps(KEY.as_dict(private=True))
LOOPBACK = "http://127.0.0.1:4711/callback"
OFFLINE = {"scope": ["openid", "offline_access"], "authorization_params": {"prompt": "consent"}}

MACHINES = {
    "basic": {"client_secret": AWKWARD},
    "post": {"client_secret": AWKWARD, "client_auth": "client_secret_post"},
    "secret-jwt": {"client_secret": AWKWARD, "client_auth": "client_secret_jwt"},
    "key-jwt": {"key": KEY_TEXT, "client_auth": "private_key_jwt"},
}


def make(grant, **keys):
    return TypeAdapter(grant).validate_python(keys)


@pytest.fixture
async def runner():
    async with FlowRunner() as runner:
        yield runner


async def takes(client, provider, token):
    """Return who the API thinks it is; None when it refuses the token."""
    reply = await client.get(f"{provider.issuer}/api/", headers={"Authorization": f"Bearer {token.value}"})
    return reply.document["client"] if reply.status == 200 else None


# ── machines ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("client_id", MACHINES)
async def test_each_way_of_authenticating_a_client(oidc_provider, runner, client, client_id):
    grant = make(ClientCredentials, issuer=oidc_provider.issuer, client_id=client_id, **MACHINES[client_id])
    for _ in range(2):  # an assertion sent twice would be refused
        token = await runner.run(grant.flow(None))
    assert await takes(client, oidc_provider, token) == client_id


@pytest.mark.parametrize("client_id", ["secret-jwt", "key-jwt"])
async def test_an_assertion_may_be_for_the_token_endpoint(oidc_provider, runner, client, client_id):
    token_url = f"{oidc_provider.issuer}/token"
    grant = make(ClientCredentials, token_url=token_url, client_id=client_id, **MACHINES[client_id])
    token = await runner.run(grant.flow(None))
    assert await takes(client, oidc_provider, token) == client_id


async def test_a_client_certificate(oidc_provider, runner, client, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(oidc_provider.authority))
    grant = make(
        ClientCredentials,
        issuer=oidc_provider.issuer,  # it names another endpoint for clients with a certificate
        client_id="certificate",
        client_auth="tls_client_auth",
        cert_file=str(oidc_provider.certificate),
    )
    token = await runner.run(grant.flow(None))
    assert await takes(client, oidc_provider, token) == "certificate"


@pytest.mark.parametrize(
    ("client_id", "wrong"),
    [
        ("basic", {"client_secret": "wrong"}),
        ("secret-jwt", {"client_secret": "wrong" * 9, "client_auth": "client_secret_jwt"}),
        (
            "key-jwt",
            {
                "key": json.dumps(ECKey.generate_key("P-256").as_dict(private=True)),
                "client_auth": "private_key_jwt",
            },
        ),
    ],
)
async def test_a_wrong_proof_is_rejected_with_a_hint(oidc_provider, runner, client_id, wrong):
    grant = make(ClientCredentials, issuer=oidc_provider.issuer, client_id=client_id, **wrong)
    with pytest.raises(CredentialRejected) as caught:
        await runner.run(grant.flow(None))
    assert caught.value.error == "invalid_client"
    assert "client_auth" in caught.value.hint
    assert AWKWARD not in caught.value.detail


async def test_an_issuer_must_be_spelled_as_it_spells_itself(oidc_provider, runner):
    grant = make(
        ClientCredentials, issuer=f"{oidc_provider.issuer}/", client_id="basic", client_secret=AWKWARD
    )
    with pytest.raises(BadTokenReply, match="another issuer"):
        await runner.run(grant.flow(None))


async def test_a_dpop_token_is_refused(oidc_provider, runner):
    key = ECKey.generate_key("P-256")
    now = int(time.time())
    claims = {"jti": "once", "htm": "POST", "htu": f"{oidc_provider.issuer}/token", "iat": now}
    header = {"typ": "dpop+jwt", "alg": "ES256", "jwk": key.as_dict(private=False)}
    grant = make(
        ClientCredentials,
        issuer=oidc_provider.issuer,
        client_id="basic",
        client_secret=AWKWARD,
        headers={"DPoP": jwt.encode(header, claims, key)},
    )
    with pytest.raises(BadTokenReply, match="DPoP token") as caught:
        await runner.run(grant.flow(None))
    assert "Bearer" in caught.value.hint


async def test_the_proxy_finds_the_endpoints_and_signs(oidc_provider, client):
    auth = {"grant": "client_credentials", "issuer": oidc_provider.issuer, "client_id": "key-jwt"}
    auth |= MACHINES["key-jwt"]
    routes = [{"name": "api", "upstream": f"{oidc_provider.issuer}/api", "auth": auth}]
    async with running_proxy({"routes": routes}) as proxy:
        for _ in range(2):
            reply = await client.get(f"{proxy.url}/x")
            assert (reply.status, reply.document) == (200, {"client": "key-jwt"})
        await proxy.stop()
        assert KEY.as_dict(private=True)["d"] not in proxy.log()


# ── people ───────────────────────────────────────────────────────────────────────────────────────


def browser_grant(provider, client_id, **more):
    keys = {"issuer": provider.issuer, "client_id": client_id} | OFFLINE | more
    return make(AuthorizationCode, **keys)


@pytest.mark.parametrize(
    ("client_id", "keys"), [("public", {}), ("confidential", {"client_secret": AWKWARD})]
)
async def test_a_login_in_a_browser(oidc_provider, runner, client, joe, client_id, keys):
    grant = browser_grant(oidc_provider, client_id, **keys)
    with pytest.raises(LoginRequired):
        await runner.run(grant.flow(None))
    token = await runner.run(grant.login(LOOPBACK), joe)
    assert joe.came_back.startswith(LOOPBACK)
    assert "iss=" in joe.came_back
    assert await takes(client, oidc_provider, token) == client_id
    assert grant.advice(token) is None
    renewed = await runner.run(grant.flow(token))
    assert await takes(client, oidc_provider, renewed) == client_id
    assert renewed.refresh_token != token.refresh_token


async def test_a_rotated_refresh_token_used_again_ends_the_login(oidc_provider, runner, joe):
    grant = browser_grant(oidc_provider, "public")
    first = await runner.run(grant.login(LOOPBACK), joe)
    second = await runner.run(grant.flow(first))
    for _ in range(3):  # the newest is always good
        second = await runner.run(grant.flow(second))
    for worn_out in (first, second):  # reuse kills the family
        with pytest.raises(LoginRequired):
            await runner.run(grant.flow(worn_out))


async def test_a_login_without_offline_access_comes_with_advice(oidc_provider, runner, joe):
    grant = browser_grant(oidc_provider, "public", scope="openid", authorization_params={})
    token = await runner.run(grant.login(LOOPBACK), joe)
    assert "offline_access" in grant.advice(token)


class Forger:
    """Lets somebody log in, and comes back with something else."""

    def __init__(self, person, **other):
        self.person = person
        self.other = other
        self.show = person.show

    async def callback(self, state):
        return await self.person.callback(state) | self.other


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"state": "forged"}, "another state"),
        ({"iss": "https://evil.example"}, "evil.example"),
        ({"code": "made-up"}, "invalid_grant"),
    ],
)
async def test_what_was_forged_on_the_way_back_is_refused(oidc_provider, runner, joe, other, says):
    with pytest.raises((BadTokenReply, CredentialRejected), match=says):
        await runner.run(browser_grant(oidc_provider, "public").login(LOOPBACK), Forger(joe, **other))


async def test_a_code_is_good_once(oidc_provider, runner, joe):
    grant = browser_grant(oidc_provider, "public")
    await runner.run(grant.login(LOOPBACK), joe)
    replayed = (await joe.callback(""))["code"]
    with pytest.raises(CredentialRejected, match="invalid_grant"):
        await runner.run(grant.login(LOOPBACK), Forger(joe, code=replayed))


async def test_a_login_on_another_device(oidc_provider, client, joe):
    paused = []

    async def sleep(seconds):
        paused.append(seconds)

    grant = make(DeviceCode, issuer=oidc_provider.issuer, client_id="public", scope=OFFLINE["scope"])
    async with FlowRunner(sleep=sleep) as runner:
        token = await runner.run(grant.login(), joe)
        assert joe.shown[0] == f"{oidc_provider.issuer}/device"
        assert await takes(client, oidc_provider, token) == "public"
        renewed = await runner.run(grant.flow(token))
        assert await takes(client, oidc_provider, renewed) == "public"
    assert paused == [5]


async def test_a_login_on_another_device_is_waited_for(oidc_provider, client, joe):
    """The user takes their time; a grant for browsers can log in this way too."""

    class Slow:
        async def show(self, show):
            self.show = show

    user, paused = Slow(), []

    async def sleep(seconds):
        paused.append(seconds)
        if len(paused) == 3:
            await joe.show(user.show)

    async with FlowRunner(sleep=sleep) as runner:
        token = await runner.run(device_login(browser_grant(oidc_provider, "public")), user)
    assert paused == [5, 5, 5]
    assert await takes(client, oidc_provider, token) == "public"


@pytest.fixture
def stores(tmp_path):
    """Return where tokens may be kept, by name; Redis is started when it is asked for."""
    with ExitStack() as stack:

        def make_store(name):
            if name == "file":
                return {"token_store": {"type": "file", "path": str(tmp_path / "tokens"), "key": "a key"}}
            if name == "redis":
                need("redis-server", "redis")
                server = RedisServer(tmp_path)
                server.start()
                stack.callback(server.stop)
                return {"token_store": {"type": "redis", "url": server.url, "key": "a key"}}
            return {}

        yield make_store


@pytest.mark.parametrize(("proxies", "store"), [(1, "memory"), (2, "file"), (3, "redis")])
async def test_a_login_survives_a_crowd_of_short_lived_tokens(
    oidc_provider, runner, client, joe, stores, proxies, store
):
    """Tokens of two seconds, rotating refresh tokens, and eight clients at once: nobody sees a failure."""
    token = await runner.run(browser_grant(oidc_provider, "public").login(LOOPBACK), joe)
    auth = {"grant": "refresh_token", "issuer": oidc_provider.issuer, "client_id": "public"}
    auth |= {"refresh_token": token.refresh_token}
    config = {"routes": [{"name": "api", "upstream": f"{oidc_provider.issuer}/api", "auth": auth}]}
    config |= stores(store)

    async def ask_for_a_while(url):
        end = time.monotonic() + 10
        seen = set()
        while time.monotonic() < end:
            seen.add((await client.get(url)).status)
            await asyncio.sleep(0.02)
        return seen

    async with AsyncExitStack() as stack:
        running = [await stack.enter_async_context(running_proxy(config)) for _ in range(proxies)]
        urls = [f"{proxy.url}/x" for proxy in running]
        seen = await asyncio.gather(*(ask_for_a_while(url) for url in islice(cycle(urls), 8)))
    assert set().union(*seen) == {200}
