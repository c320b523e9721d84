"""Where what stands in an answer leads, for each way in which routes are mounted."""

import pytest

from authproxy.app.body_targets import Place, body_rewriting
from authproxy.app.nested_mounts import NestedMounts
from authproxy.config.read import parse
from authproxy.net.own_listeners import OwnListeners
from tests.unit.proxy.answering import context, odd

STATIC = "auth: {grant: static, token: t0k3n}"
BODIES = "rewrite: {bodies: [application/json]}"
ME = f"name: me, path: /me, upstream: 'https://me.example/v2', {STATIC}, {BODIES}"


def led(said, *routes, top="", listener="", ports=None, authority="localhost:8080", asked="/me/x"):
    """Return what stands in an answer of the first route that has `said`."""
    lines = "\n".join(f"- {{{keys}}}" for keys in routes or [ME])
    config = parse(f"{top}\nroutes:\n{lines}", "proxy.yaml", environ={})
    own = OwnListeners(ports=ports)
    made = made_for(config, listener, own)
    request = context()
    request.request.target, request.request.authority = asked, authority
    scanner = made.begin(request, odd(200, (b"Content-Type", b"application/json"), length=None))
    return (scanner.feed(b'"%b"' % said.encode()) + scanner.end()).decode()[1:-1]


def made_for(config, listener, own):
    mounts = NestedMounts(config.routes)
    return body_rewriting(
        config, config.routes[0], listener=listener, own=own, mounts=mounts, untouched=print
    )


def other(keys, auth=STATIC):
    return f"name: other, upstream: 'https://other.example/o', {keys}, {auth}"


def test_where_nothing_is_asked_for_there_is_nothing():
    for rewrite in ("true", "false", "{bodies: []}"):
        config = parse(
            f"routes: [{{name: a, upstream: 'https://x', {STATIC}, rewrite: {rewrite}}}]", "p", environ={}
        )
        assert made_for(config, "", OwnListeners()) is None


@pytest.mark.parametrize(
    ("keys", "said", "leads"),
    [
        ("path: /me", "https://me.example/v2/x", "http://localhost:8080/me/x"),
        ("path: /me", "https://me.example/v2", "http://localhost:8080/me"),
        ("path: /me", "https://me.example/", "https://me.example/"),
        ("path: /m~e+ü", "https://me.example/v2/x", "http://localhost:8080/m~e+%C3%BC/x"),
        ("path: /", "https://me.example/v2/x", "http://localhost:8080/x"),
        ("path: /", "https://me.example/v2", "http://localhost:8080"),
        ("path: /me, strip_path: false", "https://me.example/v2/me/x", "http://localhost:8080/me/x"),
        ("path: /me, strip_path: false", "https://me.example/v2/x", "https://me.example/v2/x"),
        ("path: /, strip_path: false", "https://me.example/v2/x", "http://localhost:8080/x"),
    ],
)
def test_the_route_itself_is_where_it_was_asked(keys, said, leads):
    route = f"name: me, {keys}, upstream: 'https://me.example/v2/', {STATIC}, {BODIES}"
    assert led(said, route) == leads


@pytest.mark.parametrize("upstream", ["https://me.example/%C3%BC;a", "https://me.example/ü;a"])
def test_a_base_path_is_looked_for_as_it_is_escaped(upstream):
    route = f"name: me, path: /me, upstream: '{upstream}', {STATIC}, {BODIES}"
    assert led("https://me.example/%C3%BC;a/x", route) == "http://localhost:8080/me/x"


def test_at_its_own_listener_it_has_no_prefix():
    route = f"{ME}, listen: '127.0.0.1:8091', strip_path: false"
    assert led("https://me.example/v2/x", route, listener="127.0.0.1:8091") == "http://localhost:8080/x"


@pytest.mark.parametrize(
    ("keys", "leads"),
    [
        ("path: /o", "http://localhost:8080/o/x"),
        ("host: o.localhost", "http://o.localhost:8080/x"),
        ("host: o.localhost, path: /o", "http://o.localhost:8080/o/x"),
        ("listen: '127.0.0.1:8092'", "http://127.0.0.1:8092/x"),
        ("listen: ':8092'", "http://localhost:8092/x"),
        ("listen: '[::1]:8092'", "http://[::1]:8092/x"),
        ("listen: '127.0.0.1:0'", "http://127.0.0.1:4711/x"),
        ("path: /o, listen: '127.0.0.1:8092'", "http://localhost:8080/o/x"),
        ("listen: 'unix:/run/o.sock'", "https://other.example/o/x"),
        ("path: /o, strip_path: false", "https://other.example/o/x"),
    ],
)
def test_another_route_is_where_it_is_mounted_or_at_its_own_listener(keys, leads):
    top = "allow_remote: true"
    ports = {"127.0.0.1:0 for other": 4711}
    assert led("https://other.example/o/x", ME, other(keys), top=top, ports=ports) == leads


@pytest.mark.parametrize(
    ("listen", "keys", "leads"),
    [
        ("'127.0.0.1:8080'", "path: /o", "http://127.0.0.1:8080/o/x"),
        ("'127.0.0.1:0'", "path: /o", "http://127.0.0.1:4711/o/x"),
        ("['unix:/run/p.sock', ':8080']", "path: /o", "http://me.localhost:8080/o/x"),
        ("'127.0.0.1:8080'", "host: o.localhost", "http://o.localhost:8080/x"),
        ("'127.0.0.1:8080'", "path: /o, listen: '127.0.0.1:8092'", "http://127.0.0.1:8092/x"),
        ("'unix:/run/p.sock'", "path: /o", "https://other.example/o/x"),
    ],
)
def test_who_asks_at_the_routes_own_listener_is_led_to_one_that_has_the_other(listen, keys, leads):
    me, at = f"{ME}, listen: '127.0.0.1:8091'", "127.0.0.1:8091"
    said = led(
        "https://other.example/o/x", me, other(keys), listener=at,
        top=f"listen: {listen}\nallow_remote: true\nadmin: false", ports={"127.0.0.1:0": 4711},
        authority="me.localhost:8091",
    )  # fmt: skip
    assert said == leads


def test_who_asks_by_the_routes_own_name_is_led_to_another_name_where_there_is_none():
    me = f"name: me, host: me.localhost, upstream: 'https://me.example/v2', {STATIC}, {BODIES}"
    said = "https://other.example/o/x"
    assert led(said, me, other("path: /o"), authority="me.localhost:8080") == "http://127.0.0.1:8080/o/x"
    by_name = other("host: o.localhost")
    assert led(said, me, by_name, authority="me.localhost:8080") == "http://o.localhost:8080/x"


def test_a_name_without_a_port_and_an_address_in_brackets_stay_so():
    assert led("https://me.example/v2/x", authority="proxy.internal") == "http://proxy.internal/me/x"
    assert led("https://me.example/v2/x", authority="[::1]:8080") == "http://[::1]:8080/me/x"
    assert Place("a", lambda: 1).authority("[::1]") == "a:1"
    assert Place(None, lambda: 1).authority("[::1]:80") == "[::1]:1"


SAME = "https://me.example"


@pytest.mark.parametrize(
    ("said", "leads"),
    [
        (f"{SAME}/v2/deep/x", "http://localhost:8080/me/deep/x"),
        (f"{SAME}/v1/deep/x", "http://localhost:8080/deep/x"),
        (f"{SAME}/v1/x", "http://localhost:8080/flat/x"),
        (f"{SAME}/x", f"{SAME}/x"),
    ],
)
def test_the_route_itself_goes_first_and_then_the_longest_base_path(said, leads):
    others = [
        f"name: flat, path: /flat, upstream: '{SAME}/v1', {STATIC}",
        f"name: deep, path: /deep, upstream: '{SAME}/v1/deep', {STATIC}",
        f"name: mine, path: /mine, upstream: '{SAME}/v2/deep', {STATIC}",
    ]
    assert led(said, ME, *others) == leads


@pytest.mark.parametrize(
    ("auth", "more", "is_led"),
    [
        (STATIC, "", True),
        (STATIC, ", headers: {remove: [X-Key]}", True),
        (STATIC, ", headers: {set: {X-Key: k}}", False),
        (STATIC.replace("t0k3n", "an0ther"), "", False),
        (STATIC.replace("token:", "header: X-Key, token:"), "", False),
        (f"{STATIC}, http_proxy: 'http://proxy.example:1'", "", False),
        ("auth: {grant: none}", "", False),
    ],
)
def test_only_a_route_with_the_same_credential_is_led_to(auth, more, is_led):
    said = "https://other.example/o/x"
    assert (led(said, ME, other(f"path: /o{more}", auth)) != said) is is_led


CERT, KEY = "tls: {cert_file: a.pem, key_file: a.key}", "headers: {set: {X-Key: k}}"


@pytest.mark.parametrize("auth", [STATIC, "auth: {grant: none}"])
@pytest.mark.parametrize(
    ("mine", "more", "is_led"),
    [
        ("", "", True),
        ("", "headers: {remove: [X-Key]}", True),
        ("", KEY, False),
        (KEY, "headers: {set: {x-key: k}}", True),
        (KEY, "", True),
        (KEY, "headers: {set: {X-Key: other}}", False),
        (KEY, "headers: {set: {X-Key: k, X-More: k}}", False),
        ("", CERT, False),
        (CERT, CERT, True),
        (CERT, "", True),
        (CERT, "tls: {cert_file: b.pem, key_file: b.key}", False),
    ],
)
def test_headers_and_certificates_are_credentials_too(tmp_path, monkeypatch, auth, mine, more, is_led):
    monkeypatch.chdir(tmp_path)
    for name in ("a.pem", "a.key", "b.pem", "b.key"):
        (tmp_path / name).touch()
    said = "https://other.example/o/x"
    me = ME.replace(STATIC, ", ".join(filter(None, [auth, mine])))
    another = other(", ".join(filter(None, ["path: /o", more])), auth)
    assert (led(said, me, another) != said) is is_led
