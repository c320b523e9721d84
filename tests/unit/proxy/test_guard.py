"""Who may ask, and what is malformed: one row a caller."""

from types import SimpleNamespace

import pytest
from aiohttp import HttpVersion
from multidict import CIMultiDict, CIMultiDictProxy

from authproxy.errors import BadRequest, Forbidden, KeyRequired
from authproxy.proxy.guard import MAX_HOST, MAX_HOSTS, AdminGuard, Guard, plain_host

SITE, ORIGIN = "Sec-Fetch-Site", "Origin"


def asked(target="/x", *, method="GET", version=(1, 1), host="127.0.0.1:8080", headers=(), here="127.0.0.1"):
    pairs = [("Host", host)] if host is not None else []
    pairs += headers.items() if isinstance(headers, dict) else headers
    return SimpleNamespace(
        method=method,
        target=target,
        version=HttpVersion(*version),
        headers=CIMultiDictProxy(CIMultiDict(pairs)),
        local_address=here,
    )


def check(*args, guard=None, **keys):
    return (guard or Guard()).check(asked(*args, **keys))


# ── programs ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("127.0.0.1:8080", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1"),
        ("localhost:8080", "localhost"),
        ("LOCALHOST.:8080", "localhost"),
        ("up42.localhost", "up42.localhost"),
        ("[::1]:8080", "::1"),
    ],
)
def test_a_program_on_this_machine_is_let_through(host, name):
    assert check("/a?b", host=host) == (name, "/a?b")


@pytest.mark.parametrize(
    ("hosts", "host", "passes"),
    [
        ([], "example.com", False),
        ([], "10.0.0.1", False),
        ([], "localhost.example.com", False),
        (["Proxy.Example."], "proxy.example:8080", True),
        (["proxy.example"], "PROXY.example.", True),
        (["proxy.example"], "evil.proxy.example", False),
        (["proxy.example"], "localhost", True),
        (["[fd00::1]"], "[fd00::1]:8080", True),
        (["*"], "example.com", True),
    ],
)
def test_the_host_must_be_ours(hosts, host, passes):
    guard = Guard(hosts=hosts)
    for _ in range(2):  # the second time from memory
        if passes:
            assert check(host=host, guard=guard)[0] == plain_host(host.rpartition(":")[0] or host)
        else:
            with pytest.raises(Forbidden, match="are not answered here") as caught:
                check(host=host, guard=guard)
            assert "allowed_hosts" in caught.value.hint


@pytest.mark.parametrize(
    ("here", "host", "passes"),
    [
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.3:8081", True),
        ("10.1.2.3", "10.1.2.3.", True),
        ("10.1.2.3", "[::ffff:10.1.2.3]:80", True),
        ("::ffff:10.1.2.3", "10.1.2.3:80", True),
        ("::ffff:10.1.2.3", "[::FFFF:a01:203]", True),
        ("fd00::1", "[fd00::1]", True),
        ("fd00::1", "[FD00:0:0::0:1]:8081", True),
        ("fe80::1%eth0", "[fe80::1]:8081", True),
        ("10.1.2.3", "10.1.2.4", False),
        ("10.1.2.3", "[fd00::1]", False),
        ("10.1.2.3", "010.1.2.3", False),
        ("10.1.2.3", "167838211", False),
        ("10.1.2.3", "10.1.515", False),
        ("10.1.2.3", "10.1.2.3.nip.example", False),
        ("0.0.0.0", "10.1.2.3", False),
        (None, "10.1.2.3", False),  # on a Unix socket
        ("a-name", "a-name", False),
    ],
)
def test_the_host_may_be_the_address_at_which_the_connection_came_in(here, host, passes):
    if passes:
        assert check(host=host, here=here)[1] == "/x"
        assert check(f"http://{host}/y", here=here)[1] == "/y"
        origin = {ORIGIN: f"http://{host}", SITE: "same-origin"}
        assert check(host=host, here=here, headers=origin)[1] == "/x"
        with pytest.raises(Forbidden):
            check(host=host, here=here, headers={ORIGIN: "http://evil.example"})
    else:
        for keys in ({"host": host}, {"target": f"http://{host}/y"}):
            with pytest.raises(Forbidden, match="are not answered here"):
                check(**keys, here=here)


def test_an_address_that_was_right_for_one_connection_is_not_for_another():
    guard = Guard()
    check(host="10.1.2.3", here="10.1.2.3", guard=guard)
    with pytest.raises(Forbidden):
        check(host="10.1.2.3", here="10.1.2.4", guard=guard)


def test_inventing_hosts_does_not_fill_our_memory():
    guard = Guard(hosts=["*"])
    for number in range(MAX_HOSTS + 10):
        check(host=f"h{number}.example", guard=guard)
    assert len(guard._known) == MAX_HOSTS


def test_a_host_is_remembered_if_it_is_short_and_judged_alike_if_it_is_not():
    guard = Guard()
    long = "x" * MAX_HOST + ".localhost"
    for _ in range(2):
        assert check("/", host=long, guard=guard) == (long, "/")
    check("/", host="short.localhost", guard=guard)
    assert list(guard._known) == ["short.localhost"]


@pytest.mark.parametrize(
    "host",
    [None, "", " ", "a@localhost", "localhost:", "localhost:x", "localhost:99999", "localhost:8080:1", "[::1",
     "::1", "local host", "localhost/x", "localhost,example.com", "localhost?", "http://localhost",
     "löcalhost", "localhost:0", "localhost:٨٠", "a..localhost", ".localhost", "localhost..", ".", "[]"],
)  # fmt: skip
def test_a_missing_or_malformed_host_is_400(host):
    with pytest.raises(BadRequest):
        check(host=host)


@pytest.mark.parametrize("version", [(0, 9), (1, 2), (2, 0), (3, 0)])
def test_another_version_of_http_is_400(version):
    with pytest.raises(BadRequest):
        check(version=version)


def test_http_1_0_is_spoken_too():
    assert check(version=(1, 0)) == ("127.0.0.1", "/x")


def test_in_http_1_0_a_whole_url_needs_no_host_and_anything_else_does():
    assert check("http://localhost:8080/x", version=(1, 0), host=None) == ("localhost", "/x")
    with pytest.raises(Forbidden):
        check("http://evil.example/x", version=(1, 0), host=None)
    for keys in ({"target": "/x", "version": (1, 0)}, {"target": "http://localhost/x", "version": (1, 1)}):
        with pytest.raises(BadRequest, match="the Host header is missing"):
            check(host=None, **keys)


@pytest.mark.parametrize(
    "sent",
    [
        asked("api.example:443", method="CONNECT", host="api.example:443"),
        asked("http://api.example/x", host="api.example"),
    ],
)
def test_who_takes_us_for_a_forward_proxy_is_told_which_one_is(sent):
    for guard, one in (
        (Guard(), "`authproxy exec --forward`"),
        (Guard(forward_proxy=lambda: "http://127.0.0.1:1"), "http://127.0.0.1:1"),
    ):
        with pytest.raises(Forbidden) as refused:
            guard.check(sent)
        assert refused.value.hint.startswith("this address is not a forward proxy")
        assert refused.value.hint.endswith(f"or use {one}")


def test_who_asks_for_a_path_is_told_of_routes_and_not_of_proxies():
    assert Guard().wrong_path(asked("/x")) is Guard().wrong_path(asked("*")) is None
    assert "not a forward proxy" in Guard().wrong_path(asked("http://localhost:1/x"))


@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
def test_methods_that_are_not_forwarded_are_403(method):
    with pytest.raises(Forbidden):
        check(method=method)


@pytest.mark.parametrize(
    ("headers", "version"),
    [
        ([("Transfer-Encoding", "gzip, chunked")], (1, 1)),
        ([("Transfer-Encoding", "identity")], (1, 1)),
        ([("Transfer-Encoding", "chunked")], (1, 0)),
        ([("Authorization", "a"), ("authorization", "b")], (1, 1)),
    ],
)
def test_framing_and_credentials_that_can_be_read_in_two_ways_are_400(headers, version):
    with pytest.raises(BadRequest):
        check(headers=headers, version=version)


def test_a_chunked_request_with_one_credential_is_fine():
    assert check(headers={"Transfer-Encoding": "Chunked", "Authorization": "a"})


# ── targets ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("target", "method", "result"),
    [
        ("/", "GET", ("127.0.0.1", "/")),
        ("/a%20b?c=%23", "GET", ("127.0.0.1", "/a%20b?c=%23")),
        ("//evil.example/x", "GET", ("127.0.0.1", "//evil.example/x")),
        ("/x?u=http://a", "GET", ("127.0.0.1", "/x?u=http://a")),
        ("*", "OPTIONS", ("127.0.0.1", "*")),
        ("http://localhost:9/x?y", "GET", ("localhost", "/x?y")),
        ("HTTPS://LOCALHOST/x", "GET", ("localhost", "/x")),
        ("http://localhost", "GET", ("localhost", "/")),
        ("http://localhost?a=/b", "GET", ("localhost", "/?a=/b")),
        ("http://[::1]:80/", "GET", ("::1", "/")),
    ],
)
def test_a_target_comes_out_in_origin_form(target, method, result):
    assert check(target, method=method) == result


@pytest.mark.parametrize(
    "target",
    ["", "x", "*", "a:b", "ftp://localhost/", "localhost:80", "http:/localhost/", "http:///x", "http://a@localhost/",
     "http://localhost:x/", "http://localhost:0/", "http://localhost\\@evil/",
     "/a b", "/a#b", "/#", "/a\nb", "/a\tb", "/a\0", "/\x7f", "http://localhost/#x"],
)  # fmt: skip
def test_a_malformed_target_is_400(target):
    with pytest.raises(BadRequest):
        check(target)


def test_the_host_of_an_absolute_target_counts_not_the_header():
    with pytest.raises(Forbidden):
        check("http://evil.example/x", host="localhost")
    with pytest.raises(Forbidden):
        check("http://localhost/x", host="evil.example")
    with pytest.raises(Forbidden):  # the origin must be that of the target
        check("http://localhost/x", host="a.localhost", headers={ORIGIN: "http://a.localhost"})


# ── browsers ─────────────────────────────────────────────────────────────────────────────────────

EVIL = "https://evil.example"


@pytest.mark.parametrize(
    ("host", "headers", "passes"),
    [
        ("127.0.0.1:8080", {SITE: "cross-site"}, False),  # an image, a script of another site
        ("127.0.0.1:8080", {ORIGIN: EVIL, SITE: "cross-site"}, False),  # its form
        ("127.0.0.1:8080", {ORIGIN: EVIL}, False),  # its WebSocket
        ("evil.example", {}, False),  # DNS rebinding
        ("evil.example", {ORIGIN: "http://evil.example"}, False),
        (
            "localhost:8080",
            {ORIGIN: "http://localhost:3000", SITE: "same-site"},
            False,
        ),  # another local program
        ("localhost:8080", {SITE: "same-site"}, False),
        ("localhost:8080", {ORIGIN: "null"}, False),  # a sandboxed frame, a file
        ("localhost:8080", {ORIGIN: ""}, False),
        ("localhost:8080", {ORIGIN: "http://[::1"}, False),
        ("localhost:8080", {ORIGIN: "localhost:8080"}, False),
        ("localhost:8080", {ORIGIN: "file://localhost:8080"}, False),
        (
            "localhost:8080",
            {ORIGIN: "http://127.0.0.1:8080"},
            False,
        ),  # another origin, though the same machine
        ("localhost:8080", {ORIGIN: "http://localhost:8080", SITE: "cross-site"}, False),
        ("localhost:8080", {SITE: "anything"}, False),
        ("localhost:8080", {SITE: "none"}, True),  # typed into the address bar
        ("localhost:8080", {SITE: "same-origin"}, True),
        ("localhost:8080", {ORIGIN: "http://localhost:8080", SITE: "same-origin"}, True),
        ("LOCALHOST:8080", {ORIGIN: "http://localhost:8080"}, True),
        ("localhost:8443", {ORIGIN: "https://localhost:8443"}, True),
        ("localhost:8080", {}, True),  # no browser
    ],
)
def test_a_page_of_another_site_may_not_use_the_proxy(host, headers, passes):
    if passes:
        check(host=host, headers=headers)
    else:
        with pytest.raises(Forbidden):
            check(host=host, headers=headers)


@pytest.mark.parametrize("name", [SITE, ORIGIN])
def test_a_browsers_word_that_is_there_twice_is_400(name):
    with pytest.raises(BadRequest):
        check(headers=[(name, "none"), (name, "cross-site")])


@pytest.mark.parametrize(
    ("origin", "site", "passes"),
    [
        ("https://app.example", "cross-site", True),
        ("HTTPS://App.Example", None, True),
        ("https://app.example:8443", "cross-site", False),
        ("http://app.example", "cross-site", False),
        ("https://app.example.evil", "cross-site", False),
        ("https://evil-app.example", "cross-site", False),
        (None, "cross-site", False),  # without an origin nobody can say whose page it is
    ],
)
def test_a_page_of_an_allowed_origin_may(origin, site, passes):
    guard = Guard(origins=["https://app.example"])
    headers = {name: value for name, value in ((ORIGIN, origin), (SITE, site)) if value is not None}
    if passes:
        check(headers=headers, guard=guard)
        assert guard.allowed_origin(asked(headers=headers)) == origin
    else:
        assert guard.allowed_origin(asked(headers=headers)) is None
        with pytest.raises(Forbidden):
            check(headers=headers, guard=guard)


@pytest.mark.parametrize("headers", [{"Origin": "https://a.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_a_page_is_told_what_would_let_it_in_where_anything_would(headers):
    for guard, allows in [(Guard(), True), (AdminGuard(), False)]:
        with pytest.raises(Forbidden) as caught:
            check(guard=guard, headers=headers)
        assert ("`allowed_origins`" in caught.value.hint) is allows
        assert ("the admin listener" in caught.value.detail) is not allows


def test_without_allowed_origins_none_is_allowed():
    assert not Guard().has_origins
    assert Guard(origins=[EVIL]).has_origins
    assert Guard().allowed_origin(asked(headers={ORIGIN: "http://127.0.0.1:8080"})) is None


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("sent", "passes"),
    [
        ({"X-Key": "one"}, True),
        ({"x-key": "schlüssel"}, True),
        ({"X-Key": "ONE"}, False),
        ({"X-Key": "one "}, False),
        ({"X-Key": "on"}, False),
        ({"X-Key": ""}, False),
        ({"X_Key": "one"}, False),
        ({}, False),
        ({"X-Key": "\udcff"}, False),
    ],
)
def test_a_caller_sends_one_of_the_keys(sent, passes):
    guard = Guard(access_header="X-Key", access_keys=["one", "schlüssel"])
    if passes:
        guard.check_key(asked(headers=sent))
    else:
        with pytest.raises(KeyRequired, match="wants a key in X-Key"):
            guard.check_key(asked(headers=sent))


def test_without_keys_none_is_asked_for():
    Guard().check_key(asked())


# ── what the plain way asks ──────────────────────────────────────────────────────────────────────


def test_a_host_is_known_once_it_has_passed_wherever_it_came_in():
    guard = Guard(hosts=["proxy.example"])
    assert guard.known_host("Proxy.Example:80") is None
    check(host="Proxy.Example:80", guard=guard)
    assert guard.known_host("Proxy.Example:80") == "proxy.example"
    with pytest.raises(Forbidden):
        check(host="evil.example", guard=guard)
    check(host="10.1.2.3", here="10.1.2.3", guard=guard)  # which another connection may not ask for
    assert guard.known_host("evil.example") is None
    assert guard.known_host("10.1.2.3") is None


@pytest.mark.parametrize(
    ("keys", "header", "admitted"),
    [([], "", {"", "one", "two"}), (["one"], "X-Key", {"one"}), (["one", "two"], "X-Key", {"one", "two"})],
)
def test_who_is_admitted_and_by_which_header(keys, header, admitted):
    guard = Guard(access_header="X-Key", access_keys=keys)
    assert guard.key_header == header
    assert {sent for sent in ("", "one", "two", "three") if guard.is_admitted(sent)} - {"three"} == admitted
    assert guard.is_admitted("three") is (not keys)
