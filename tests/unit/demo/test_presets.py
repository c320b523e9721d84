"""The presets and the stand-ins agree: each was written from the vendors' documents, not from the other."""

import json

import pytest

from authproxy.config.read import parse
from authproxy.errors import CredentialRejected
from authproxy.grants.runner import FlowRunner

NAMES = (
    "code42",
    "code42-user",
    "code42-basic",
    "incydr",
    "calendar42",
    "calendar42-action",
    "up42",
    "login",
)


def routes(demo):
    config = parse(json.dumps(demo.config()), "demo.yaml", environ={})
    return {route.name: route for route in config.routes}


async def call(client, demo, route, token):
    example = dict(demo.curl_lines(""))[route.name].removeprefix("curl ").strip("'")
    headers = {route.grant.header: f"{route.grant.scheme} {token.value}"}
    base_url = next(each["upstream"] for each in demo.config()["routes"] if each["name"] == route.name)
    async with client.get(base_url + example.removeprefix(f"/{route.name}"), headers=headers) as reply:
        return reply.status


@pytest.mark.parametrize("name", NAMES)
async def test_a_preset_earns_a_token_that_the_api_takes(client, demo, clock, name):
    route = routes(demo)[name]
    async with FlowRunner(clock=clock) as runner:
        token = await runner.run(route.grant.flow(None))
    assert await call(client, demo, route, token) == 200


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


async def test_a_wrong_password_is_rejected_with_the_vendors_words(demo, clock):
    config = demo.config()
    for route in config["routes"]:
        route["auth"] |= {key: "wrong" for key in ("password", "client_secret") if key in route["auth"]}
    config = parse(json.dumps(config), "demo.yaml", environ={})
    async with FlowRunner(clock=clock) as runner:
        for route in config.routes:
            if route.name in {"code42", "code42-user", "incydr", "up42", "login"}:
                with pytest.raises(CredentialRejected):
                    await runner.run(route.grant.flow(None))


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
