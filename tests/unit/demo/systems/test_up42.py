"""UP42 has the realm that its presets ask, on the same host as its API."""

from authproxy.demo.systems.up42 import Up42


def test_its_route_shows_its_preset():
    (route,) = Up42().routes("http://127.0.0.1:1")
    assert (route.name, route.auth["preset"]) == ("up42", "up42")
    assert route.auth["token_url"] == "http://127.0.0.1:1/realms/public/protocol/openid-connect/token"
