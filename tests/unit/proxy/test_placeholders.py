"""Placeholders: the same in every process, one a credential, worth nothing."""

from types import SimpleNamespace

from authproxy.proxy.placeholders import PLACEHOLDER, placeholder, placeholders


def route(name, key):
    return SimpleNamespace(name=name, key=key)


def test_a_placeholder_is_made_of_the_routes_name_alone():
    # base64url of the SHA-256 of "api", worked out with openssl
    assert placeholder("api") == "authproxy-p-FMJSnrRJjF0f_WkV0Fv1ipG92nlq9Z9B1IDRHAmdBHk"
    assert PLACEHOLDER.fullmatch(placeholder("api"))
    assert placeholder("api") != placeholder("api2")


def test_routes_of_one_credential_share_the_first_ones_placeholder():
    found = placeholders([route("b", "1"), route("a", "2"), route("c", "1")])
    assert found == {"b": placeholder("b"), "a": placeholder("a"), "c": placeholder("b")}
