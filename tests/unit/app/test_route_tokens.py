"""The tokens of the routes, as they are fetched at the start, looked at, and logged in for."""

from authproxy.errors import LoginRequired, TokenUnavailable
from authproxy.tokens.token import Token
from tests.support.clock import settle
from tests.unit.app.apps import LOGIN, MACHINE


async def test_tokens_that_are_wanted_at_the_start_are_fetched_and_those_of_a_login_looked_for(app):
    made = await app(MACHINE, f"{MACHINE.replace('-1', '-2')}, prefetch: true", LOGIN, "auth: {grant: none}")
    made.route_tokens.prefetch()
    await settle()
    assert {name: len(behind.asked) for name, behind in made.behind.items()} == {"r0": 0, "r1": 1, "r2": 1}


async def test_a_token_that_cannot_be_had_at_the_start_stops_nobody(app):
    made = await app(f"{MACHINE}, prefetch: true", answer=TokenUnavailable("down"))
    made.route_tokens.prefetch()
    await settle()
    assert [(each.state, each.trouble.detail) for each in made.route_tokens.states()] == [("failing", "down")]


async def test_while_a_login_is_missing_looking_at_it_looks_for_one_made_elsewhere(app):
    made = await app(LOGIN, answer=LoginRequired("nobody has logged in"))
    made.route_tokens.prefetch()
    await settle()
    assert made.route_tokens.states()[0].state == "login_required"
    made.behind["r0"].answer = Token("a")
    made.route_tokens.look_for_logins(made.route_tokens.states())
    await settle()
    assert made.route_tokens.states()[0].state == "valid"
    assert len(made.behind["r0"].asked) == 2


async def test_a_silent_route_has_a_login_url_once_it_needs_a_login(app):
    silent = LOGIN.replace("client_id: id", "client_id: id, silent: true, redirect_uri: 'https://my.app/cb'")
    made = await app(silent)
    [route] = made.config.routes
    made.grant_sources.login_url = "http://127.0.0.1:8081"
    assert made.route_tokens.login_url(route, "idle") is None
    assert made.route_tokens.login_url(route, "login_required") == "http://127.0.0.1:8081/login/r0"


async def test_only_a_route_with_a_login_has_one(app):
    made = await app(MACHINE)
    assert await made.route_tokens.begin_login("r0", "http://localhost/callback") is None
    assert await made.route_tokens.begin_login("nobody", "http://localhost/callback") is None
    assert await made.route_tokens.end_login({"state": "forged"}) is None
