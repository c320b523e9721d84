"""Incydr has API clients and nothing else."""

from authproxy.demo.systems.incydr import Incydr

from .talk import USER, call


async def test_a_user_is_no_api_client(client, demo):
    assert (await call(client, demo, "incydr", USER, "/v1/devices"))[0] == 401


async def test_its_route_shows_its_preset():
    (route,) = Incydr().routes("http://127.0.0.1:1")
    assert (route.name, route.auth["preset"]) == ("incydr", "incydr-api-client")
