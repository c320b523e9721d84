"""Which header lines go on, in both directions."""

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authproxy.proxy import headers
from authproxy.proxy.headers import (
    MAX_LIST,
    MAX_NAME,
    MAX_VERDICTS,
    RequestHeaders,
    ResponseHeaders,
    header_lines,
    listed_in,
)
from authproxy.proxy.plain import MAX_SHAPES, PlainReader, read_reply
from authproxy.proxy.rewrite import Rewriting
from tests.support.examples import examples

START = b"GET /x HTTP/1.1\r\n"
ASKED = None  # who asked matters to what is rewritten only


def raw(*lines):
    """Split `Name: value` lines, as a parser does."""
    return [tuple(part.encode("latin-1") for part in line.split(": ", 1)) for line in lines]


def request(*lines, rules=None, replace=True):
    """Return the header lines that go to the upstream."""
    pairs = raw(*lines)
    connection = [value.decode("latin-1") for name, value in pairs if name.lower() == b"connection"]
    listed = listed_in(",".join(connection)) if connection else None
    head = (rules or RequestHeaders()).head(START, pairs, listed=listed, replace=replace)
    assert head.startswith(START)
    return head[len(START) :].decode("latin-1").split("\r\n")[:-1]


def response(*lines, rules=None):
    head = (rules or ResponseHeaders()).head(200, b"OK", raw(*lines), ASKED)
    status, *rest = head.decode("latin-1").split("\r\n")[:-1]
    assert status == "HTTP/1.1 200 OK"
    return rest


# ── requests ─────────────────────────────────────────────────────────────────────────────────────


def test_names_order_case_and_repeats_stay():
    lines = ["x-B: 1", "X-a: 2", "X-B: 3", "x-b: grün", "Accept:  ", "Cookie: a=b"]
    assert request(*lines) == lines


@pytest.mark.parametrize(
    "line",
    ["Connection: close", "connection: x", "Keep-Alive: timeout=5", "Proxy-Connection: keep-alive",
     "TE: trailers", "Trailer: X", "Transfer-Encoding: chunked", "Upgrade: h2c", "HTTP2-Settings: AAA",
     "Proxy-Authorization: Basic x", "Expect: 100-continue", "TRANSFER_ENCODING: chunked",
     "Transfer_Encoding: x", "Content_Length: 5"],
)  # fmt: skip
def test_what_is_between_the_client_and_us_goes_no_further(line):
    assert request(line, "X-A: 1") == ["X-A: 1"]


def test_what_connection_lists_goes_no_further():
    assert request("Connection: close, X-Hop", "X-HOP: 1", "connection: x-too", "X-Too: 2", "X-A: 3") == [
        "X-A: 3"
    ]


@pytest.mark.parametrize("name", ["Host", "Content-Length", "Content-Type", "Authorization", "Cookie"])
def test_no_client_makes_vanish_what_the_upstream_needs(name):
    assert request(f"Connection: {name}", f"{name}: 1", replace=False) == [f"{name}: 1"]


def test_no_client_makes_vanish_what_we_set():
    rules = RequestHeaders(set_pairs=[("X-Team", "geo")])
    assert request("Connection: X-Team", "X-A: 1", rules=rules) == ["X-A: 1", "X-Team: geo"]


@pytest.mark.parametrize(
    ("connection", "names"),
    [
        ("close", set()),
        ("Keep-Alive, Upgrade", {b"upgrade"}),
        (" X-A ,, x-b", {b"x-a", b"x-b"}),
        ("Host, content-length", set()),
        ("", set()),
    ],
)
def test_a_connection_header_lists_names(connection, names):
    assert listed_in(connection) == names


def test_the_host_is_the_upstreams_in_its_place():
    rules = RequestHeaders(host="api.example")
    assert request("X-A: 1", "hOST: localhost:8080", "X-B: 2", rules=rules) == [
        "X-A: 1",
        "hOST: api.example",
        "X-B: 2",
    ]


def test_the_clients_host_is_kept_when_it_should_be():
    assert request("Host: localhost:8080") == ["Host: localhost:8080"]


@pytest.mark.parametrize(
    ("credential", "spelled"),
    [
        ("Authorization", "authorization"),
        ("X-Api-Key", "X-API-KEY"),
        ("X-Api-Key", "X_Api_Key"),
        ("X-Api-Key", "x_api-key"),
        ("x_api_key", "X-Api-Key"),
    ],
)
def test_every_spelling_of_the_credentials_header_makes_room_for_ours(credential, spelled):
    rules = RequestHeaders(credentials=[credential])
    lines = [f"{spelled}: theirs", "X-A: 1", f"{spelled}: again"]
    assert request(*lines, rules=rules) == ["X-A: 1"]
    assert request(*lines, rules=rules, replace=False) == lines


@pytest.mark.parametrize("removed", ["Authorization", "AUTHORIZATION"])
@pytest.mark.parametrize("replace", [False, True])
def test_what_is_removed_goes_though_it_is_where_the_credential_will_be(removed, replace):
    rules = RequestHeaders(credentials=["Authorization"], remove=[removed])
    assert not rules.passes("Authorization")
    assert request("authorization: theirs", "X-A: 1", rules=rules, replace=replace) == ["X-A: 1"]


def test_a_credential_in_a_header_between_us_and_the_client_is_never_the_clients():
    rules = RequestHeaders(credentials=["Proxy-Authorization"])
    assert not rules.passes("Proxy-Authorization")
    assert request("Proxy-Authorization: for us", rules=rules, replace=False) == []


def test_another_authorization_than_ours_is_the_clients_business():
    assert request("Authorization: theirs", rules=RequestHeaders(credentials=["X-Api-Key"])) == [
        "Authorization: theirs"
    ]


def test_configured_headers_are_set_and_removed():
    rules = RequestHeaders(set_pairs=[("X-Team", "geo")], remove=["Cookie", "X-Drop"])
    lines = ["x-team: theirs", "X_Team: theirs", "cookie: a", "X-DROP: 1", "x_drop: 2", "X-A: 1"]
    assert request(*lines, rules=rules) == ["X-A: 1", "X-Team: geo"]


def test_header_lines_are_latin_1():
    assert header_lines([("X-A", "grün"), ("X-B", "")]) == b"X-A: gr\xfcn\r\nX-B: \r\n"


def test_inventing_names_does_not_fill_our_memory():
    rules = RequestHeaders(remove=["X-Drop"])
    names = [f"X-{number}: 1" for number in range(MAX_VERDICTS + 10)]
    assert request(*names, "X-Drop: 1", rules=rules) == names  # judged all the same
    assert len(rules._verdicts) == MAX_VERDICTS


# ── responses ────────────────────────────────────────────────────────────────────────────────────


def test_a_response_comes_back_as_it_is():
    lines = ["date: x", "Set-Cookie: a=1", "set-cookie: b=2", "Content-Length: 3", "X_Y: ü", "Server: y"]
    assert response(*lines) == lines


@pytest.mark.parametrize(
    "line",
    ["Connection: close", "Keep-Alive: timeout=5", "Transfer-Encoding: chunked", "Trailer: X", "Upgrade: h2c",
     "Proxy-Authenticate: Basic", "Access-Control-Allow-Origin: *", "access-control-allow-credentials: true",
     "Access-Control-Whatever: x"],
)  # fmt: skip
def test_what_is_between_the_upstream_and_us_comes_no_further(line):
    assert response(line, "X-A: 1") == ["X-A: 1"]


def test_the_challenge_of_the_upstream_comes_back():
    assert response('WWW-Authenticate: Bearer error="invalid_token"') == [
        'WWW-Authenticate: Bearer error="invalid_token"'
    ]


def test_what_the_upstreams_connection_lists_comes_no_further():
    lines = ["X-Hop: 1", "X-A: 2", "Connection: x-hop", "CONNECTION: X-Too, keep-alive", "x-too: 3", "X-B: 4"]
    assert response(*lines, rules=ResponseHeaders(set_pairs=[("X-C", "5")])) == ["X-A: 2", "X-B: 4", "X-C: 5"]


def test_configured_response_headers_are_set_and_removed():
    rules = ResponseHeaders(set_pairs=[("Cache-Control", "no-store")], remove=["Server"])
    assert response("SERVER: x", "cache-control: public", "X-A: 1", rules=rules) == [
        "X-A: 1",
        "Cache-Control: no-store",
    ]


@pytest.mark.parametrize("reason", [b"OK", b"", b"Alles gr\xfcn"])
def test_the_status_line_is_the_upstreams(reason):
    assert ResponseHeaders().head(207, reason, [], ASKED) == b"HTTP/1.1 207 " + reason + b"\r\n"


@pytest.mark.parametrize("rules", [RequestHeaders(remove=["X" * 99]), ResponseHeaders(remove=["X" * 99])])
def test_a_name_is_remembered_if_it_is_short_and_judged_alike_if_it_is_not(rules):
    long, short = b"X" * 99, b"X" * MAX_NAME
    assert len(long) > MAX_NAME
    for _ in range(2):
        verdicts = [rules._verdicts[name] for name in (long, short)]
        assert verdicts == [headers.DROP, headers.PASS]
    assert list(rules._verdicts) == [short]


def test_a_list_is_remembered_if_it_is_short_and_read_alike_if_it_is_not():
    before = headers._remembered.cache_info().currsize
    names = [b"x-%d" % number for number in range(MAX_LIST)]
    assert listed_in(b",".join(names).decode()) == frozenset(names)
    assert headers._remembered.cache_info().currsize == before
    assert listed_in("x-remembered, x-too") == {b"x-remembered", b"x-too"}
    assert headers._remembered.cache_info().currsize == before + 1


# ── plain sections ───────────────────────────────────────────────────────────────────────────────

LINES = [
    "Accept: */*", "x-a: 1", "X-Team: theirs", "x_team: theirs", "Cookie: a=b", "Content-Type: text/plain",
    "Content-Length: 5", "Connection: keep-alive", "Connection: close", "Keep-Alive: timeout=5",
    "Proxy-Authorization: Basic x", "Trailer: X", "HTTP2-Settings: AAA", "User-Agent: a: b", "X-Drop: 1",
    "Authorization: theirs", "X_Api_Key: theirs", "X-Api-Key: theirs",
]  # fmt: skip
REQUEST_RULES = {
    "none": {},
    "a host": {"host": "api.example"},
    "a credential": {"host": "api.example", "credentials": ["Authorization"]},
    "a credential of another name": {"credentials": ["x_api_key"]},
    "a credential that is removed": {"credentials": ["Authorization"], "remove": ["authorization"]},
    "some set": {"set_pairs": [("X-Team", "geo"), ("X-Ü", "grün")], "credentials": ["Authorization"]},
    "some removed": {"remove": ["Cookie", "x-drop", "Accept"], "host": "api.example"},
    "all removed": {"remove": [line.partition(":")[0] for line in LINES]},
    "tags that were changed": {"restored": bytes.upper},
}
SECTIONS = st.permutations(LINES).flatmap(
    lambda lines: st.integers(0, len(lines)).map(lambda count: lines[:count])
)


@settings(deadline=None, max_examples=examples(300))
@given(
    lines=SECTIONS,
    at=st.integers(0, 20),
    name=st.sampled_from(["Host", "host", "HOST"]),
    rules=st.sampled_from(sorted(REQUEST_RULES)),
    incoming=st.sampled_from(["replace", "keep", "reject"]),
)
def test_the_lines_of_a_plain_request_are_what_they_are_of_any(lines, at, name, rules, incoming):
    lines = [*lines[:at], f"{name}: localhost:8080", *lines[at:]]
    data = "\r\n".join(["GET /x HTTP/1.1", *lines, "", ""]).encode()
    found = PlainReader([], limit=2000).read(data)
    if found is None:
        return  # a name is there twice
    head, _ = found
    own = RequestHeaders(**REQUEST_RULES[rules])
    pairs = raw(*lines)
    brought = {given.lower().replace(b"_", b"-") for given, _ in pairs} & own._credentials
    looked_closer = incoming != "replace" and any(own.passes(name.decode()) for name in brought)
    for _ in range(2):  # the second time by a plan that is remembered
        plain = own.plain(head.section, incoming)
        if looked_closer:
            assert plain is None
        else:
            [listed] = [
                listed_in(value.decode()) for given, value in pairs if given.lower() == b"connection"
            ] or [None]
            assert START + plain == own.head(START, pairs, listed=listed, replace=True)


@pytest.mark.parametrize("name", ["If-Match", "if-none-match"])
def test_conditions_are_restored_where_they_have_to_be_which_is_not_done_plainly(name):
    lines, rules = [f"{name}: w", "If-Range: w", "X: w"], RequestHeaders(restored=bytes.upper)
    assert request(*lines, rules=rules) == [f"{name}: W", "If-Range: w", "X: w"]
    assert request(*lines) == lines
    assert request(*lines, rules=RequestHeaders(restored=bytes.upper, remove=[name])) == lines[1:]
    head, _ = PlainReader([], limit=2000).read(
        "\r\n".join(["GET / HTTP/1.1", "Host: a", *lines, "", ""]).encode()
    )
    assert rules.plain(head.section, "keep") is None
    assert RequestHeaders().plain(head.section, "keep") is not None


def test_a_plain_section_of_a_thousand_invented_names_fills_no_memory():
    rules = RequestHeaders(host="api.example")
    reads = PlainReader([], limit=2000)
    for number in range(3 * MAX_SHAPES):
        head, _ = reads.read(b"GET / HTTP/1.1\r\nHost: a\r\nX-%d: 1\r\n\r\n" % number)
        assert rules.plain(head.section, "keep") == b"Host: api.example\r\nX-%d: 1\r\n" % number
    assert len(rules._plans) <= MAX_SHAPES


REPLY_LINES = [
    "Date: x", "Server: y", "Content-Length: 3", "Set-Cookie: a=1; Path=/", "Location: https://api.example/x",
    "Link: </a>; rel=next", "Access-Control-Allow-Origin: *", "Connection: keep-alive", "Connection: close",
    "Keep-Alive: timeout=5", "Transfer-Encoding: chunked", "Trailer: X", "Proxy-Authenticate: Basic",
    "WWW-Authenticate: Bearer", "Content-Location: /y", "X_Y: z", "Cache-Control: public",
]  # fmt: skip
REPLY_RULES = {
    "none": {},
    "some set": {"set_pairs": [("Cache-Control", "no-store"), ("X-Ü", "grün")]},
    "some removed": {"remove": ["Server", "date"]},
    "all removed": {"remove": [line.partition(":")[0] for line in REPLY_LINES]},
    "rewriting": {"rewriting": True},
    "rewriting and removed": {
        "rewriting": True,
        "remove": ["Link", "Date"],
        "set_pairs": [("Location", "/")],
    },
}


@settings(deadline=None, max_examples=examples(300))
@given(
    lines=st.permutations(REPLY_LINES).flatmap(
        lambda lines: st.integers(0, len(lines)).map(lambda count: lines[:count])
    ),
    status=st.sampled_from(["200 OK", "404 Not Found", "302 Fine by me"]),
    rules=st.sampled_from(sorted(REPLY_RULES)),
)
def test_the_lines_of_a_plain_reply_are_what_they_are_of_any(lines, status, rules):
    reply = read_reply("\r\n".join([f"HTTP/1.1 {status}", *lines]).encode())
    if reply is None:
        return  # a name is there twice, or two frames
    asked = SimpleNamespace(target="/api/x", authority="localhost:8080")
    given_rules = dict(REPLY_RULES[rules])
    if given_rules.get("rewriting"):
        given_rules["rewriting"] = Rewriting("https://api.example", base="", path="/api", strip="/api")
    own = ResponseHeaders(**given_rules)
    for _ in range(2):
        assert own.plain(reply, asked) == own.head(reply.status, reply.reason, raw(*lines), asked)


def test_a_reply_whose_names_have_no_plan_is_passed_on_all_the_same():
    reply = read_reply(b"HTTP/1.1 200 OK\r\nServer: x")
    rules = ResponseHeaders()
    rules._plans[reply.names] = None
    assert rules.plain(reply, ASKED) == b"HTTP/1.1 200 OK\r\nServer: x\r\n"


def test_where_the_caller_is_is_not_asked_for_a_plain_reply_that_points_nowhere():
    rewriting = Rewriting("https://api.example", base="", path="/api", strip="/api")
    reply = read_reply(b"HTTP/1.1 200 OK\r\nServer: x")
    assert ResponseHeaders(rewriting=rewriting).plain(reply, None) == b"HTTP/1.1 200 OK\r\nServer: x\r\n"


@pytest.mark.parametrize("places", [[], [1], [0, 2], [0, 1, 2]])
def test_lines_are_picked_by_their_places(places):
    lines = [b"a", b"b", b"c"]
    pick = headers.picker(places, 3)
    assert (pick is None) is (len(places) == 3)
    assert list(pick(lines) if pick is not None else lines) == [lines[place] for place in places]
