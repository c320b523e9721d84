"""The presets and the stand-ins agree: each was written from the vendors' documents, not from the other."""

import json

import pytest

from authproxy.config.read import parse
from authproxy.errors import BadTokenReply, CredentialRejected
from authproxy.grants.runner import FlowRunner

from .systems.talk import FOREIGN_KEY

LOGGED_IN = {"calendar42-oauth", "calendar42-silent"}  # they have tests of their own
SPOILED = {  # of each route, a key that somebody may get wrong
    "code42": ("client_secret", "wrong"),
    "code42-user": ("password", "wrong"),
    "incydr": ("client_secret", "wrong"),
    "up42": ("password", "wrong"),
    "login": ("password", "wrong"),
    "copernicus": ("password", "wrong"),
    "sentinel-hub": ("client_secret", "wrong"),
    "keycloak": ("realm", "other"),
    "auth0": ("audience", "https://other.example/"),
    "okta": ("scope", "other"),
    "entra": ("client_secret", "wrong"),
    "google": ("private_key", FOREIGN_KEY.as_pem(private=True).decode()),
    "github-app": ("installation_id", "43"),
    "salesforce": ("username", "nobody@example.com"),
    "spotify": ("client_secret", "wrong"),
    "zoom": ("account_id", "other"),
}


def routes(demo):
    config = parse(json.dumps(demo.config()), "demo.yaml", environ={})
    return {route.name: route for route in config.routes}


async def call(client, demo, route, token):
    example = dict(demo.curl_lines(""))[route.name].removeprefix("curl ").strip("'")
    headers = {route.grant.header: f"{route.grant.scheme} {token.value}".strip()}
    base_url = next(each["upstream"] for each in demo.config()["routes"] if each["name"] == route.name)
    async with client.get(base_url + example.removeprefix(f"/{route.name}"), headers=headers) as reply:
        return reply.status


async def test_each_preset_earns_a_token_that_the_api_takes(client, demo, clock):
    async with FlowRunner(clock=clock) as runner:
        for name, route in routes(demo).items():
            if name not in LOGGED_IN:
                token = await runner.run(route.grant.flow(None))
                assert (name, await call(client, demo, route, token)) == (name, 200)


async def test_up42_tokens_are_refreshed_and_a_dead_refresh_token_falls_back(client, demo, clock):
    route = routes(demo)["up42"]
    async with FlowRunner(clock=clock) as runner:
        token = await runner.run(route.grant.flow(None))
        token = await runner.run(route.grant.flow(token))
        assert demo.last_token_request["up42"].form["grant_type"] == "refresh_token"
        demo.revoke("up42")
        assert await call(client, demo, route, token) == 401
        token = await runner.run(route.grant.flow(token))
    assert demo.token_requests["up42"] == 4
    assert await call(client, demo, route, token) == 200


@pytest.mark.parametrize("name", SPOILED)
async def test_a_wrong_key_is_rejected_with_a_hint_that_names_it(demo, clock, name):
    key, wrong = SPOILED[name]
    config = demo.config()
    config["routes"] = [each for each in config["routes"] if each["name"] == name]
    config["routes"][0]["auth"][key] = wrong
    (read,) = parse(json.dumps(config), "demo.yaml", environ={}).routes
    async with FlowRunner(clock=clock) as runner:
        with pytest.raises((CredentialRejected, BadTokenReply)) as refused:
            await runner.run(read.grant.flow(None))
    assert key in refused.value.hint


async def test_a_missing_code_brings_the_hint_to_set_totp(demo, clock):
    config = demo.config()
    for route in config["routes"]:
        route["auth"].pop("totp", None)
    route = next(
        each
        for each in parse(json.dumps(config), "demo.yaml", environ={}).routes
        if each.name == "code42-user"
    )
    async with FlowRunner(clock=clock) as runner:
        with pytest.raises(CredentialRejected) as rejection:
            await runner.run(route.grant.flow(None))
    assert "totp" in rejection.value.hint
