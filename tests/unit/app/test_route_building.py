"""From a route of the configuration to one that is ready for requests."""

from types import SimpleNamespace

import pytest

from authproxy.app import route_building as module
from authproxy.app.credentials import TokenSources
from authproxy.app.route_building import injection_of
from authproxy.app.site import build_site
from authproxy.app.tls import TLSContexts
from authproxy.config.read import parse
from authproxy.net.own_listeners import OwnListeners
from authproxy.observe.observed import Observed
from authproxy.proxy.placeholders import placeholder
from authproxy.proxy.send import Outgoing
from authproxy.tokens.source import Innermost
from authproxy.tokens.token import Token
from tests.unit.app.sites import MACHINE, MARK, OWN, STATIC, UP, route


def test_a_route_is_made_as_it_was_configured(site):
    made = route(
        site(
            f"upstream: 'https://up.example:8443/base/', {STATIC}, allow: {{methods: [GET]}},"
            " timeouts: {idle: 9s}, retry: {max_body: 5KiB}"
        )
    )
    assert (made.name, made.path, made.strip, made.base) == ("r0", "/r0", "/r0", "/base")
    assert (made.keep_body, made.idle_seconds) == (5 << 10, 9)
    made.allow.check("GET", "/")
    with pytest.raises(Exception, match="does not allow PUT"):
        made.allow.check("PUT", "/")


@pytest.mark.parametrize(
    ("auth", "setting"),
    [
        ("{grant: static, token: t}", "scheme"),
        ("{grant: basic, username: u, password: p}", "grant"),
        ("{grant: static, token: t, inject: [{header: X, value: '{token}'}]}", "inject"),
    ],
)
def test_the_key_that_says_what_is_sent_is_known(auth, setting):
    config = parse(
        f"routes: [{{name: a, upstream: 'https://a.example', auth: {auth}}}]", "f.yaml", environ={}
    )
    assert injection_of(config.routes[0].grant).setting == setting


def test_a_prefix_stays_when_the_route_says_so_and_the_root_is_none(site):
    made = site(f"strip_path: false, {STATIC}", "auth: {grant: none}")
    assert route(made).strip == ""
    assert route(site(f"path: /, {STATIC}"), "/").strip == ""


def refuses(route, status):
    return route.credential.refuses(SimpleNamespace(status=status, headers=[]), Outgoing("GET", b"GET / "))


def test_the_credential_goes_into_the_grants_header_and_is_refused_as_the_route_says(site):
    made = route(site(f"{STATIC[:-1]}, header: X-Key, scheme: ''}}, retry: {{statuses: [401, 403]}}"))
    assert made.credential.inject(Outgoing("GET", b""), Token("t0k3n")) == b"X-Key: t0k3n\r\n"
    assert [refuses(made, status) for status in (401, 403, 404)] == [True, True, False]
    made = route(site(f"{STATIC}, retry: false"))
    assert not refuses(made, 401)
    assert made.keep_body == 0
    assert route(site("auth: {grant: none}")).credential is None


@pytest.mark.parametrize(("keys", "host"), [("", "up.example"), ("preserve_host: true, ", "localhost")])
def test_of_a_clients_headers_the_key_stays_here_and_the_host_becomes_the_upstreams(site, keys, host):
    top = f"access: {{tokens: [{'k' * 32}]}}"
    headers = route(site(keys + STATIC, top=top)).request_headers
    raw = [(b"Host", b"localhost"), (b"X-Authproxy-Key", b"k"), (b"x_authproxy_key", b"k"), (b"A", b"1")]
    head = headers.head(b"", raw, listed=None, replace=True)
    assert head == f"Host: {host}\r\nA: 1\r\n".encode()


def test_routes_with_an_equal_auth_share_a_token(site):
    made = site(MACHINE, MACHINE)
    table = made.routes
    one, other = (table.match("localhost", path).credential for path in ("/r0", "/r1"))
    assert one.source is other.source
    assert one is not other  # each judges its own upstream's answers


@pytest.mark.parametrize(
    ("keys", "tunnels"),
    [
        ("upstream: 'https://up.example'", [True]),
        ("upstream: 'http://up.example', insecure: true", [False, True]),  # forwarded, but for upgrades
        ("upstream: 'http://up.example', insecure: true, preserve_host: true", [True]),
    ],
)
def test_through_an_http_proxy_plain_requests_are_forwarded_and_the_rest_is_tunnelled(
    site, monkeypatch, keys, tunnels
):
    dialers, pools = [], []
    monkeypatch.setattr(
        module,
        "Dialer",
        lambda origin, **settings: dialers.append(settings) or SimpleNamespace(origin=origin),
    )
    monkeypatch.setattr(
        module,
        "Pool",
        lambda dialer, **settings: pools.append(settings) or SimpleNamespace(close=int, origin=dialer.origin),
    )
    tls = TLSContexts(None, {"r0": object()} if "https" in keys.split(",")[0] else {})
    site(f"{keys}, http_proxy: 'http://proxy.example:3128', max_connections: 7, {STATIC}", tls=tls)
    assert [each["tunnel"] for each in dialers] == tunnels
    assert {str(each["proxy"]) for each in dialers} == {"http://proxy.example:3128"}
    assert {each["limit"] for each in pools} == {7}
    assert all(each["own"] is OWN for each in dialers)


# ── after another one ────────────────────────────────────────────────────────────────────────────


def kept(before, after):
    """Return which pools of a site are those of the one before."""
    return [pool in before.pools.values() for pool in after.pools.values()]


@pytest.mark.parametrize(
    ("then", "stays"),
    [
        (f"{UP}, {STATIC}", True),
        (f"{UP}, auth: {{grant: none}}, path: /other, timeouts: {{response: 9s}}", True),
        (f"upstream: https://up.example/base, {STATIC}", True),
        (f"upstream: https://else.example, {STATIC}", False),
        (f"upstream: 'https://up.example:8443', {STATIC}", False),
        (f"{UP}, {STATIC}, max_connections: 7", False),
        (f"{UP}, {STATIC}, timeouts: {{connect: 9s}}", False),
        (f"{UP}, {STATIC}, http_proxy: 'http://proxy.example:3128'", False),
        (f"{UP}, {STATIC}, tls: {{server_name: else.example}}", False),
    ],
)
def test_connections_to_the_same_place_are_taken_over(site, then, stays):
    before = site(f"{UP}, {STATIC}")
    assert set(kept(before, site(then, before=before))) == {stays}


def test_connections_by_other_certificates_are_not(site):
    one, other = (TLSContexts(None, {"r0": object()}) for _ in range(2))
    before = site(STATIC, tls=one)
    assert kept(before, site(STATIC, tls=one, before=before)) == [True]
    assert kept(before, site(STATIC, tls=other, before=before)) == [False]


def credentials(one, other):
    """Tell whether the first route's credential is the same object in both."""
    return route(one).credential is route(other).credential


@pytest.mark.parametrize(
    ("then", "stays"),
    [
        (MACHINE, True),
        (f"{MACHINE}, timeouts: {{response: 9s}}, allow: {{methods: [GET]}}", True),
        (f"{MACHINE}, retry: {{statuses: [401, 403]}}", False),
        (f"{MACHINE}, retry: false", False),
        (f"{MACHINE[:-1]}, scheme: Token}}", False),
        (MACHINE.replace("s3cr3t-1", "s3cr3t-2"), False),
        (f"{MACHINE}, upstream: https://new.example", False),
    ],
)
def test_what_is_known_of_a_credential_is_taken_over_as_long_as_nothing_about_it_changes(site, then, stays):
    before = site(MACHINE)
    assert credentials(before, site(then, before=before)) is stays


def test_what_is_known_of_one_route_is_not_anothers(site):
    before = site(MACHINE)
    after = site("auth: {grant: none}", MACHINE, before=before)
    assert route(after, "/r1").credential is not route(before).credential
    assert route(after, "/r1").credential.source is route(before).credential.source


def test_a_credential_with_another_stack_is_another(site, monkeypatch):
    """One whose tokens are kept elsewhere from now on."""
    before = site(MACHINE)
    other = TokenSources(lambda _route: Innermost())
    after = build_site(before.config, other, OWN, observed=Observed(), before=before)
    assert not credentials(before, after)


def test_the_environments_http_proxy_is_ignored_where_it_will_be_ourselves(site, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:3128")
    tls = TLSContexts(None, {"r0": object()})
    [key] = site(STATIC, tls=tls).pools
    assert str(key.proxy) == "http://127.0.0.1:3128"
    [key] = site(STATIC, tls=tls, planned=OwnListeners(["127.0.0.1:3128"])).pools
    assert key.proxy is None


# ── routes' own listeners ────────────────────────────────────────────────────────────────────────


def test_a_route_at_its_own_listener_is_the_same_one_without_a_prefix(site):
    keys = f"upstream: 'http://up.example/base', insecure: true, listen: '127.0.0.1:7', {MACHINE}"
    made = site(keys, f"path: /other, {STATIC}")
    assert list(made.own) == ["127.0.0.1:7"]
    own, mounted = made.own["127.0.0.1:7"], route(made)
    there = own.routes.match("any.example", "/any")
    assert own.routes.match("localhost", "/other") is there
    assert (there.name, there.path, there.strip, there.base, there.host) == ("r0", "/", "", "/base", None)
    assert (mounted.path, mounted.strip) == ("/r0", "/r0")
    assert there.credential is mounted.credential is made.credentials["r0"]
    assert there.sender.pool is mounted.sender.pool
    assert there.standing is mounted.standing
    assert there.response_headers is not mounted.response_headers
    assert (there.facts.listener, mounted.facts.listener) == ("127.0.0.1:7", "")
    assert there.facts.url_of("/r0/x") == "http://up.example/base/r0/x"
    assert mounted.facts.url_of("/r0/x") == "http://up.example/base/x"
    assert len(made.pools) == 2
    assert own.guard is made.guard


# ── clients' own logins ──────────────────────────────────────────────────────────────────────────


def login_answer(made, token="t0k3n"):
    [login] = {made.stand_in.find("POST", "/r0/in", "/r0")}
    return made.stand_in.document(token, login, refreshes=True, now=0)


@pytest.mark.parametrize(
    ("auth", "answer"),
    [
        (MACHINE, {"access_token": MARK, "token_type": "Bearer", "expires_in": 60, "refresh_token": MARK}),
        (
            f"{MACHINE[:-1]}, scheme: Token, response: {{token: [/data/t, /t], refresh_token: null}}}}",
            {"data": {"t": MARK}, "token_type": "Token", "expires_in": 60, "refresh_token": MARK},
        ),
        (
            "auth: {grant: static, token: x, scheme: ''}",
            {"access_token": MARK, "token_type": "Bearer", "expires_in": 60, "refresh_token": MARK},
        ),
    ],
)
def test_a_login_is_answered_as_the_grants_own_token_endpoint_would(site, auth, answer):
    assert login_answer(route(site(f"{auth}, stand_in: [{{path: /in, lifetime: 60}}]"))) == answer
    assert route(site(auth)).stand_in is None


def test_routes_of_one_credential_have_one_placeholder_and_those_without_have_none(site):
    made = site(MACHINE, STATIC, MACHINE, "auth: {grant: none}")
    marks = [route(made, f"/r{number}").placeholders.own for number in range(4)]
    assert marks == [MARK, placeholder("r1"), MARK, None]


@pytest.mark.parametrize(
    "keys", ["upstream: 'https://id.invalid', ", "upstream: 'https://id.invalid/base', "]
)
def test_a_token_endpoint_on_the_upstream_is_known(site, keys):
    made = route(site(keys + MACHINE)).token_endpoints
    assert not made.lets_through("/token")
    assert made.lets_through("/base/token")
    assert route(site(MACHINE)).token_endpoints is None  # it is elsewhere
    assert route(site(f"{keys}{MACHINE[:-1]}, incoming: replace}}")).token_endpoints is None


BODIES = "rewrite: {bodies: [application/json]}, "


def test_where_bodies_are_rewritten_the_upstream_is_asked_for_plain_ones(site):
    sets = "headers: {set: {accept-encoding: br, X-Team: geo}}, "
    raw = [(b"Host", b"x"), (b"Accept-Encoding", b"gzip"), (b"If-Match", b'W/"a"')]
    heads = [
        route(site(f"{keys}{sets}{STATIC}")).request_headers.head(b"", raw, listed=None, replace=True)
        for keys in (BODIES, "")
    ]
    assert heads == [
        b'Host: up.example\r\nIf-Match: "a"\r\nX-Team: geo\r\nAccept-Encoding: identity\r\n',
        b'Host: up.example\r\nIf-Match: W/"a"\r\naccept-encoding: br\r\nX-Team: geo\r\n',
    ]


@pytest.mark.parametrize(
    ("rewrite", "headers", "bodies"),
    [
        ("", True, False),
        ("rewrite: false, ", False, False),
        (BODIES, True, True),
        ("rewrite: {headers: false, bodies: [application/json]}, ", False, True),
        ("rewrite: {headers: false}, ", False, False),
    ],
)
@pytest.mark.parametrize(
    "auth", [STATIC, "auth: {grant: static, token: t, inject: [{query: key, value: '{token}'}]}"]
)
def test_headers_and_bodies_are_rewritten_as_the_route_says(site, auth, rewrite, headers, bodies):
    asked = SimpleNamespace(target="/r0/x", authority="localhost:8080")
    made = route(site(f"{rewrite}{auth}"))
    for each in filter(None, [made, made.unhidden]):
        head = each.response_headers.head(302, b"Found", [(b"Location", b"//up.example/y")], asked)
        assert (b"//localhost:8080/r0/y" in head) is headers
        assert (each.bodies is not None) is bodies


def test_what_went_untouched_is_counted_for_the_route(site):
    made = site(BODIES + STATIC)
    route(made).bodies._untouched("encoded")
    assert site.observed.counters.untouched == {("r0", "encoded"): 1}
