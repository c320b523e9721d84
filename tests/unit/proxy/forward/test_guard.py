"""Who may use the forward proxy, and for which host: one row a caller."""

import base64

import pytest

from authproxy.errors import BadRequest, Forbidden, Misdirected, ProxyKeyRequired
from authproxy.proxy.forward.guard import (
    NO_KEY,
    RUNS_KEY_HINT,
    WRONG_KEY,
    ForwardGuard,
    MisdirectedGuard,
    OriginGuard,
    Place,
    host_key,
    key_in,
    place_of,
    refuse_own,
)
from tests.unit.proxy.test_guard import asked

API = Place("api.example", 443)
KEY = "op:en sesame"


def basic(text):
    return f"Basic {base64.b64encode(text.encode()).decode()}"


# ── places ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("authority", "place"),
    [
        ("api.example:443", API),
        ("API.Example.:443", API),
        ("[::1]:443", Place("::1", 443)),
        ("[0:0:0:0:0:0:0:1]:443", Place("::1", 443)),
        ("127.0.0.1:1", Place("127.0.0.1", 1)),
        ("127.1:1", Place("127.1", 1)),  # to whom that is an address is for who dials
        ("api.example", None),
        ("api.example:0", None),
        ("api.example:65536", None),
        ("api.example:x", None),
        ("user@api.example:443", None),
        ("api.example:443/", None),
        ("b\u00fccher.example:443", None),
        ("", None),
        (":443", None),
        ("[fe80::1%25eth0]:443", None),
    ],
)
def test_an_authority_is_a_host_and_a_port(authority, place):
    assert place_of(authority) == place


def test_a_port_may_go_without_saying():
    assert place_of("api.example", 443) == API
    assert place_of("api.example:80", 443) == Place("api.example", 80)
    assert str(Place("::1", 443)) == "[::1]:443"
    assert host_key("[::FFFF:0:1]") == host_key("::ffff:0:1")
    assert refuse_own(API).status == 403


# ── the listener ─────────────────────────────────────────────────────────────────────────────────


def test_a_connect_says_its_host_twice_or_in_http_1_0_once():
    guard = ForwardGuard()
    for host in ("api.example:443", "API.example", "api.example.:443"):
        assert guard.check_connect(asked("api.example:443", host=host)) == API
    assert guard.check_connect(asked("api.example:443", host=None, version=(1, 0))) == API
    with pytest.raises(Misdirected):
        guard.check_connect(asked("api.example:443", host="api.example:444"))
    with pytest.raises(Misdirected):
        guard.check_connect(asked("api.example:443", host="other.example", version=(1, 0)))


@pytest.mark.parametrize(
    "keys",
    [
        {"host": None},
        {"host": "a b"},
        {"headers": [("Host", "api.example:443")]},
        {"headers": {"Content-Length": "1"}},
        {"headers": {"Transfer-Encoding": "chunked"}},
        {"headers": {"Transfer-Encoding": "gzip"}},
        {"version": (2, 0)},
        {"target": "api.example"},
        {"target": "/x"},
    ],
)
def test_a_connect_that_is_malformed_is_400(keys):
    sent = {"target": "api.example:443", "host": "api.example:443"} | keys
    with pytest.raises(BadRequest):
        ForwardGuard().check_connect(asked(**sent))


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("http://api.example/x?a", (Place("api.example", 80), "/x?a")),
        ("HTTP://API.example:81", (Place("api.example", 81), "/")),
        ("http://api.example?a", (Place("api.example", 80), "/?a")),
    ],
)
def test_a_whole_url_is_a_place_and_a_target(target, found):
    assert ForwardGuard().check_absolute(asked(target, host="whatever")) == found


@pytest.mark.parametrize(
    "target",
    [
        "/x", "*", "x", "https://api.example/x", "HTTPS://api.example/", "ftp://api.example/", "http://",
        "http:///x", "http://u:p@api.example/", "http://api.example/a b", "http://api.example/#f",
        "http://api.example:0/",
    ],
)  # fmt: skip
def test_any_other_target_is_400(target):
    with pytest.raises(BadRequest):
        ForwardGuard().check_absolute(asked(target))


def test_https_is_told_how_it_is_asked_for():
    for target in ("https://api.example/x", "HTTPS://api.example"):
        with pytest.raises(BadRequest, match="in the clear") as refused:
            ForwardGuard().check_absolute(asked(target, host="api.example"))
        assert "CONNECT" in refused.value.hint


def test_a_url_comes_with_one_host():
    for keys in ({"host": None}, {"headers": [("Host", "127.0.0.1:8080")]}):
        with pytest.raises(BadRequest):
            ForwardGuard().check_absolute(asked("http://api.example/", **keys))


def test_in_http_1_0_a_url_needs_no_host_besides():
    sent = asked("http://api.example/x", host=None, version=(1, 0))
    assert ForwardGuard().check_absolute(sent) == (Place("api.example", 80), "/x")
    assert OriginGuard("http", Place("api.example", 80)).check(sent) == ("api.example", "/x")
    with pytest.raises(Misdirected):
        OriginGuard("http", Place("api.example", 81)).check(sent)


# ── the key ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("sent", "key"),
    [
        (basic(f"any:{KEY}"), KEY),
        (basic(f":{KEY}"), KEY),
        (f"Bearer {KEY}", KEY),
        (f"bearer  {KEY} ", KEY),
        (basic(KEY.partition(":")[0]), ""),
        ("Basic !!!!", ""),
        ("Basic", ""),
        (f"Digest {KEY}", ""),
        (KEY, ""),
        ("", ""),
    ],
)
def test_a_key_is_a_password_or_a_bearer_token(sent, key):
    assert key_in(sent) == key


def test_without_a_key_nobody_is_let_in_where_there_are_some():
    guard = ForwardGuard(access_keys=["other", KEY])
    guard.check_proxy_key(asked(headers={"Proxy-Authorization": basic(f"any:{KEY}")}))
    twice = [("Proxy-Authorization", f"Bearer {KEY}"), ("Proxy-Authorization", f"Bearer {KEY}")]
    for headers in (
        {},
        {"Proxy-Authorization": basic("any:wrong")},
        {"Authorization": f"Bearer {KEY}"},
        twice,
    ):
        with pytest.raises(ProxyKeyRequired) as refused:
            guard.check_proxy_key(asked(headers=headers))
        assert refused.value.status == 407
        came = "Proxy-Authorization" in dict(headers)
        assert refused.value.detail == (WRONG_KEY if came else NO_KEY)
        assert "access.tokens" in refused.value.hint
    ForwardGuard().check_proxy_key(asked())


def test_who_has_a_key_of_a_run_is_told_where_it_is():
    guard = ForwardGuard(access_keys=[KEY], key_hint=RUNS_KEY_HINT)
    with pytest.raises(ProxyKeyRequired) as refused:
        guard.check_proxy_key(asked(headers={"Proxy-Authorization": basic(KEY.partition(":")[0])}))
    assert (refused.value.detail, refused.value.hint) == (WRONG_KEY, RUNS_KEY_HINT)


def test_a_whole_url_is_what_is_asked_for_there():
    with pytest.raises(BadRequest, match=r"an absolute URL \(http://HOST/PATH\)"):
        ForwardGuard().check_absolute(asked("/x"))


def test_who_is_misdirected_is_told_both_hosts():
    with pytest.raises(Misdirected, match=r"for api\.example:443, but the request says b\.example:443"):
        OriginGuard("https", API).check(asked("/x", host="b.example"))


# ── inside ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("host", ["api.example", "API.EXAMPLE:443", "api.example."])
def test_requests_on_a_connection_name_its_host(host):
    guard = OriginGuard("https", API)
    assert guard.check(asked("/x", host=host)) == ("api.example", "/x")
    assert guard.known_host(host) == "api.example"  # and are not judged again
    assert guard.check(asked("https://api.example/x", host=host)) == ("api.example", "/x")
    assert guard.check(asked("*", method="OPTIONS", host=host)) == ("api.example", "*")


@pytest.mark.parametrize(
    ("target", "host", "refusal"),
    [
        ("/x", "other.example", Misdirected),
        ("/x", "api.example:80", Misdirected),
        ("/x", "127.0.0.1:8080", Misdirected),
        ("/x", "localhost", Misdirected),
        ("/x", "a b", BadRequest),
        ("/x", None, BadRequest),
        ("https://other.example/x", "api.example", Misdirected),
        ("https://api.example/x", "other.example", Misdirected),
        ("https://api.example:444/x", "api.example", Misdirected),
        ("http://api.example/x", "api.example", Misdirected),
        ("http://api.example:443/x", "api.example", Misdirected),
        ("ftp://api.example/x", "api.example", BadRequest),
        ("x", "api.example", BadRequest),
    ],
)
def test_and_no_other(target, host, refusal):
    guard = OriginGuard("https", API)
    guard.check(asked("/x", host="api.example"))
    with pytest.raises(refusal):
        guard.check(asked(target, host=host))
    assert guard.known_host(host or "") is None or host == "api.example"


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({"Origin": "https://api.example"}, True),
        ({"Origin": "https://api.example:443"}, True),
        ({"Origin": "http://api.example"}, False),
        ({"Origin": "https://api.example:444"}, False),
        ({"Origin": "https://other.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "https://[x"}, False),
        ({"Origin": "https://friend.example"}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
    ],
)
def test_pages_of_the_host_itself_may_ask(headers, passes):
    guard = OriginGuard("https", API, origins=("https://friend.example",))
    if passes:
        guard.check(asked("/x", host="api.example", headers=headers))
        return
    with pytest.raises(Forbidden):
        guard.check(asked("/x", host="api.example", headers=headers))


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "trace"])
def test_some_methods_are_not_for_the_inside_of_a_tunnel(method):
    with pytest.raises(Forbidden):
        OriginGuard("https", API).check(asked("/x", host="api.example", method=method))


def test_who_named_another_host_in_the_handshake_gets_nothing():
    with pytest.raises(Misdirected, match="why"):
        MisdirectedGuard("why").check(asked("/x", host="api.example"))
