import pytest
from pydantic import SecretStr

from authproxy.config.credential import credential_identity, credential_key
from authproxy.grants.client_credentials import ClientCredentials
from authproxy.grants.registry import GRANTS
from authproxy.grants.static import Static
from authproxy.grants.token_request import TokenRequest
from authproxy.grants.transport import Transport

PLAIN = "upstream: https://x\nauth: {grant: none}\n"


def test_equal_credentials_have_equal_keys():
    one = Static(token=SecretStr("a"))
    assert credential_key(one) == credential_key(Static(token=SecretStr("a")))
    others = [
        Static(token=SecretStr("b")),
        Static(token=SecretStr("a"), scheme="Token"),
        Static(token=SecretStr("a"), header="X-Key"),
        GRANTS["basic"](username="a", password=SecretStr("a")),
    ]
    assert len({credential_key(each) for each in [one, *others]}) == 5


def test_the_way_to_the_token_endpoint_belongs_to_the_credential_when_it_is_set():
    one, ways = Static(token=SecretStr("a")), ["none", SecretStr("http://a:1"), SecretStr("http://u:p@a:1")]
    assert credential_key(one, Transport(None)) == credential_key(one)
    assert len({credential_key(one, Transport(way)) for way in [None, *ways]}) == 4


def test_the_tls_of_the_route_belongs_to_it_where_the_token_endpoint_is_on_the_upstreams_host(reader):
    def key(tls="", upstream="https://api.example", auth_tls=""):
        auth = (
            f"{{grant: client_credentials, token_url: 'https://API.example:1/t', client_id: a, {auth_tls}}}"
        )
        return reader.route(f"upstream: {upstream}\nauth: {auth}\n{tls}").key

    other, own = "tls: {verify: false}", "tls: {server_name: id.example}"
    assert len({key(), key(other), key(auth_tls=own), key(auth_tls=other)}) == 4
    assert key(other, "https://else.example") == key(), "which is asked as any other server"
    assert key(other, auth_tls=own) == key(auth_tls=own), "which says how"


def test_routes_that_earn_a_token_in_different_ways_do_not_share_it(reader):
    ways = ["", "http_proxy: none\n", "http_proxy: http://a:1\n"]
    assert len({reader.route(PLAIN + way).key for way in ways}) == 3


def test_every_setting_counts_for_the_key_of_a_credential():
    keys = {"token_url": "https://x", "client_id": "a", "client_secret": SecretStr("b")}
    changes = [
        {"client_secret": SecretStr("c")},
        {"scope": "x"},
        {"params": {"a": SecretStr("b")}},
        {"headers": {"X-A": SecretStr("b")}},
        {"default_lifetime": 5.0},
    ]
    grants = [ClientCredentials(**keys | change) for change in [{}, *changes]]
    assert len({credential_key(grant) for grant in grants}) == len(grants)


def test_routes_with_equal_auth_share_a_key(reader):
    text = """\
routes:
  - {name: a, path: /a, upstream: https://x, auth: {grant: static, token: x}}
  - {name: b, path: /b, upstream: https://y, auth: {grant: static, token: x}}
  - {name: c, path: /c, upstream: https://x, auth: {grant: static, token: y}}
"""
    one, two, three = (route.key for route in reader.config(text).routes)
    assert one == two != three


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"form": {"password": SecretStr("new")}}, True),
        ({"form": {"passwd": SecretStr("old")}}, False),
        ({"url": "https://y"}, False),
        ({"scheme": "Token"}, False),
    ],
)
def test_another_secret_is_the_same_credential_and_another_key(changes, same):
    keys = {"url": "https://x", "form": {"password": SecretStr("old")}}
    one, other = TokenRequest(**keys), TokenRequest(**keys | changes)
    assert (credential_identity(one) == credential_identity(other)) is same
    assert credential_key(one) != credential_key(other)


def test_what_does_not_print_does_not_count_for_the_identity():
    one, other = (TokenRequest(url="https://x", json={"password": each}) for each in ("old", "new"))
    assert credential_identity(one) == credential_identity(other)
    assert credential_key(one) != credential_key(other)


def test_a_proxys_password_does_not_count_for_the_identity():
    grant = Static(token=SecretStr("a"))
    old, new, other = (SecretStr(f"http://{each}:3128") for each in ("u:old@a", "u:new@a", "u:old@b"))
    identities = [credential_identity(grant, Transport(each)) for each in (old, new, other)]
    assert identities[0] == identities[1] != identities[2]
