"""What goes in comes out: method, target, headers and body byte for byte, and nothing is added."""

import gzip
import threading

import pytest

from tests.support.command import RunningProxy
from tests.support.wire import UNAUTHORIZED, Message, Wire, chunked, reply, request

from .conftest import Place

EVERY_BYTE = bytes(range(256)) * 100  # 25 KB
PLAIN = {"auth": {"grant": "static", "token": "never-changes"}}
plain_route = pytest.mark.route(**PLAIN)


# ── a request that is repeated ───────────────────────────────────────────────────────────────────


def test_a_post_whose_token_died_is_repeated_once_byte_for_byte(place: Place) -> None:
    assert place.get("/warm").status == 200
    place.tokens.revoke()
    answer = place.post("/a%2Fb?x=%20", "X-Kept: yes", "Content-Type: a/b", body=EVERY_BYTE)
    assert answer.status == 200
    _, first, again = place.api.requests
    assert first.start == again.start == b"POST /a%2Fb?x=%20 HTTP/1.1"
    assert first.body == again.body == EVERY_BYTE

    def besides_the_credential(sent: Message) -> list[tuple[bytes, bytes]]:
        return [line for line in sent.headers if line[0].lower() != b"authorization"]

    assert besides_the_credential(first) == besides_the_credential(again)
    assert again.one("Authorization") == f"Bearer {place.token}" != first.one("Authorization")


def test_a_chunked_post_whose_token_died_is_repeated_too(place: Place) -> None:
    assert place.get("/warm").status == 200
    place.tokens.revoke()
    sent = place.request("POST", "/", "Transfer-Encoding: chunked") + chunked(EVERY_BYTE[:9000], b"end")
    assert place.ask(sent).status == 200
    assert [each.body for each in place.api.requests[1:]] == [EVERY_BYTE[:9000] + b"end"] * 2


@pytest.mark.route(retry={"max_body": 1000})
def test_a_body_over_max_body_is_not_repeated_but_the_next_request_has_the_new_token(place: Place) -> None:
    assert place.get("/warm").status == 200
    place.tokens.revoke()
    answer = place.post("/big", body=b"x" * 1001)
    assert (answer.status, answer.body) == (401, b"the API's own")
    assert place.post("/just-fits", body=b"x" * 1000).status == 200
    assert [sent.path for sent in place.api.requests] == ["/warm", "/big", "/just-fits"]


@pytest.mark.route(retry={"max_body": 1000})
def test_a_body_of_just_max_body_is_repeated(place: Place) -> None:
    assert place.get("/warm").status == 200
    place.tokens.revoke()
    assert place.post("/just-fits", body=b"x" * 1000).status == 200
    assert [len(sent.body) for sent in place.api.requests] == [0, 1000, 1000]


@pytest.mark.route(retry={"max_body": 1000})
def test_a_chunked_body_that_grows_over_max_body_is_not_repeated(place: Place) -> None:
    assert place.get("/warm").status == 200
    place.tokens.revoke()
    sent = place.request("POST", "/big", "Transfer-Encoding: chunked") + chunked(b"x" * 600, b"y" * 600)
    assert place.ask(sent).status == 401
    assert place.get("/next").status == 200
    assert [each.path for each in place.api.requests] == ["/warm", "/big", "/next"]


def test_a_head_whose_token_died_is_repeated(place: Place) -> None:
    assert place.get("/warm").status == 200
    place.tokens.revoke()
    assert place.ask(place.request("HEAD", "/x")).status == 200
    assert [sent.method for sent in place.api.requests] == ["GET", "HEAD", "HEAD"]


def test_a_body_that_was_waited_for_is_repeated_without_asking_the_client_again(place: Place) -> None:
    assert place.get("/warm").status == 200
    place.tokens.revoke()
    with place.connect() as wire:
        wire.send(place.request("POST", "/x", "Expect: 100-continue", "Content-Length: 5"))
        assert wire.answer().status == 100
        wire.send(b"hello")
        assert wire.answer().status == 200
    assert [sent.body for sent in place.api.requests[1:]] == [b"hello", b"hello"]


# ── the target ───────────────────────────────────────────────────────────────────────────────────


@plain_route
@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/a%2Fb?x=%20",
        "/%41%7e~",
        "/a//b///",
        "//evil.example/x",
        "/a/./b",
        "/a/b/../c",
        "/a/%2E%2E/c",
        "/?",
        "/?a=b?c&&d=%zz&e=+",
        "/a;v=1/b;w",
        "/?a=1;b=2&c=%&d=%u0041&&=;",
        "/?%00%0d%0a#".rstrip("#"),
        "/%",
        "/?" + "?" * 50,
        "/%zz%",
        "/a|b^c`{}\"<>'\\",
        "/a?q=[1]&r={2}|3",
        "/http://other.example/x",
        "/:80/x@y",
        "/*",
        "/a%00b%0d%0aX-Evil:%201",
        "/" + "long" * 2000,
    ],
)
def test_a_target_goes_on_as_it_came(place: Place, target: str) -> None:
    assert place.get(target).status == 200
    assert place.api.last.start == f"GET {target} HTTP/1.1".encode("latin-1")


@plain_route
@pytest.mark.parametrize(
    ("target", "arrives"),
    [("/caf\xc3\xa9", "/caf%C3%A9"), ("/?q=caf\xc3\xa9", "/?q=caf%C3%A9")],
)
def test_raw_utf_8_in_a_target_as_curl_sends_it_arrives_percent_encoded(
    place: Place, target: str, arrives: str
) -> None:
    assert place.get(target).status == 200
    assert place.api.last.target == arrives
    with place.connect() as wire:  # a head that begins behind a body: only a request line is changed
        sent = place.request("POST", "/", body=b"x" * 15) + place.request("GET", "/2", "X-Eight-Bit: \xe9")
        wire.send(sent[:-8]).answer()
        assert wire.send(sent[-8:]).answer().status == 200
    assert place.api.last.one("X-Eight-Bit") == "\xe9"


@pytest.mark.parametrize(
    ("target", "arrives"),
    [
        ("/up", "/base"),
        ("/up/", "/base/"),
        ("/up?x", "/base?x"),
        ("/up/a%2Fb?x=%20", "/base/a%2Fb?x=%20"),
        ("/up//a", "/base//a"),
        ("/%75p/a", "/base/a"),
        ("/up/a/../b", "/base/a/../b"),
    ],
)
@pytest.mark.route(path="/up", upstream="{api}/base", **PLAIN)
def test_the_prefix_is_taken_off_and_the_base_path_put_before(
    place: Place, target: str, arrives: str
) -> None:
    assert place.get(target).status == 200
    assert place.api.last.target == arrives


@pytest.mark.route(path="/up", upstream="{api}/base/", strip_path=False, **PLAIN)
def test_the_prefix_stays_when_told_so(place: Place) -> None:
    assert place.get("/up/x?y").status == 200
    assert place.api.last.target == "/base/up/x?y"


@pytest.mark.route(path="/up", upstream="{api}/base", **PLAIN)
@pytest.mark.parametrize("target", ["/upper", "/up%2Fx", "/", "/UP/x"])
def test_a_prefix_ends_at_a_segment(place: Place, target: str) -> None:
    answer = place.get(target)
    assert answer.status == 404
    assert place.api.requests == []


@pytest.mark.route(path="/up", upstream="{api}/base", **PLAIN)
@pytest.mark.parametrize(
    "target",
    ["/up/../x", "/up/..", "/up/%2e%2e/x", "/up/a/../../x", "/up/..%2fx", "/up/..;a/x", "/up/..\\x"],
)
def test_no_path_climbs_out_of_its_route(place: Place, target: str) -> None:
    assert place.get(target).status == 403
    assert place.api.requests == []


@plain_route
@pytest.mark.parametrize(
    "method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "M-SEARCH"]
)
def test_every_method_goes_on(place: Place, method: str) -> None:
    assert place.ask(place.request(method, "/x", body=b"")).status == 200
    assert place.api.last.method == method


@plain_route
def test_options_of_the_whole_server_goes_on(place: Place) -> None:
    assert place.ask(place.request("OPTIONS", "*")).status == 200
    assert place.api.last.target == "*"


# ── request headers ──────────────────────────────────────────────────────────────────────────────


@plain_route
def test_header_lines_keep_their_order_case_repeats_and_every_byte(place: Place) -> None:
    lines = [
        "x-LOWER-upper: 1", "X-Twice: b", "Accept: a/b;q=0.5,  c/d", "X-Twice: a", "X-Empty:", "cookie: a=1",
        "Cookie: b=2", "X-Latin: \xe9\xff\x80", "User-Agent: me", "X_Under: _", "x-twice: c", "Via: 1.1 x",
        "X-Forwarded-For: 10.0.0.1", 'If-None-Match: "x", W/"y"',
    ]  # fmt: skip
    assert place.get("/", *lines).status == 200
    sent = place.api.last
    expected = [line.encode("latin-1").partition(b":") for line in lines]
    arrived = [line for line in sent.headers if line[0].lower() not in {b"host", b"authorization"}]
    assert arrived == [(name, value.strip()) for name, _, value in expected]


@plain_route
@pytest.mark.parametrize(
    "line",
    [
        "User-Agent:",
        "Accept-Encoding:",
        "X-A: \t 1 \t ",
        "X-A:1",
        "X-A: a,, ,b , ",
        'X-A: "quoted, \\" comma"',
        "!#$%&'*+-.^_`|~09azAZ: 1",
        "X-Forwarded-For: 10.0.0.1, unknown, [::1]",
        "Forwarded: for=10.0.0.1",
        "X-Real-IP: 10.0.0.1",
        "Range: bytes=0-0,-1",
        'If-Range: W/"x"',
        "Upgrade-Insecure-Requests: 1",
        "Max-Forwards: 0",
        "Priority: u=1, i",
        "Cookie: a=1; b=\xe9; c",
    ],
)
def test_a_header_line_goes_on_as_it_came(place: Place, line: str) -> None:
    assert place.get("/", line).status == 200
    name, _, value = line.encode("latin-1").partition(b":")
    besides = [pair for pair in place.api.last.headers if pair[0] not in {b"Host", b"Authorization"}]
    assert besides == [(name, value.strip(b" \t"))]


@plain_route
def test_900_header_lines_go_on_in_their_order(place: Place) -> None:
    lines = [f"X-{number}: {number}" for number in range(900)]
    assert place.get("/", *lines).status == 200
    sent = [name + b": " + value for name, value in place.api.last.headers if name.startswith(b"X-")]
    assert sent == [each.encode() for each in lines]


@plain_route
def test_nothing_is_added_to_a_request_but_the_credential(place: Place) -> None:
    assert place.get().status == 200
    assert sorted(place.api.last.names) == ["authorization", "host"]
    assert place.api.last.one("Authorization") == "Bearer never-changes"


@plain_route
def test_hop_by_hop_headers_and_those_that_connection_lists_stay_here(place: Place) -> None:
    answer = place.get(
        "/",
        "Connection: keep-alive, X-Mine",
        "connection: x-Other",
        "X-Mine: 1",
        "X-OTHER: 2",
        "X-Kept: 3",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: Basic eDp5",
        "TE: trailers",
        "Trailer: X-T",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    )
    assert answer.status == 200
    assert sorted(place.api.last.names) == ["authorization", "host", "x-kept"]


@plain_route
@pytest.mark.parametrize("name", ["Authorization", "Host", "Cookie", "Content-Length", "Content-Type"])
def test_connection_cannot_make_an_end_to_end_header_vanish(place: Place, name: str) -> None:
    answer = place.post("/", f"Connection: {name}", "Cookie: a=1", "Content-Type: a/b", body=b"hello")
    assert answer.status == 200
    assert place.api.last.body == b"hello"
    assert sorted(place.api.last.names) == [
        "authorization",
        "content-length",
        "content-type",
        "cookie",
        "host",
    ]


@plain_route
def test_the_host_is_the_upstreams(place: Place) -> None:
    place.get()
    assert place.api.last.one("Host") == f"127.0.0.1:{place.api.port}"


@pytest.mark.route(preserve_host=True, **PLAIN)
def test_the_host_is_the_callers_when_told_so(place: Place) -> None:
    place.get()
    assert place.api.last.one("Host") == place.host
    place.ask(request("GET", f"http://{place.host}/x", host="localhost"))  # there the target counts
    assert place.api.last.one("Host") == place.host


@pytest.mark.route(
    headers={"set": {"X-Team": "geo", "x-replaced": "ours"}, "remove": ["Cookie"]},
    response_headers={"set": {"X-From": "proxy"}, "remove": ["Server"]},
    **PLAIN,
)
def test_configured_headers_are_set_and_removed_both_ways(place: Place) -> None:
    place.api.says(reply(200, "Server: secret/1.0", "X-From: upstream", "X-Kept: 1", body=b"x"))
    answer = place.get("/", "Cookie: a=1", "X-Replaced: theirs", "X-Kept: 1")
    sent = place.api.last
    assert (sent.one("X-Team"), sent.one("X-Replaced"), sent.one("Cookie")) == ("geo", "ours", None)
    assert sent.one("X-Kept") == "1"
    assert (answer.one("X-From"), answer.one("Server"), answer.one("X-Kept")) == ("proxy", None, "1")


# ── a request that brings its own credential ─────────────────────────────────────────────────────


@pytest.mark.parametrize("line", ["Authorization: Basic bWU6bWU=", "authorization: Bearer mine"])
def test_a_callers_own_credential_is_kept_and_neither_injected_nor_repeated(place: Place, line: str) -> None:
    answer = place.get("/", line)
    assert (answer.status, answer.body) == (401, b"the API's own")
    (sent,) = place.api.requests
    assert sent.one("Authorization") == line.partition(": ")[2]
    assert place.tokens.requests == []


@pytest.mark.route(auth={"grant": "static", "token": "ours", "incoming": "replace"})
def test_a_callers_own_credential_is_replaced_when_told_so(place: Place) -> None:
    place.api.says(reply())
    assert place.get("/", "authorization: Bearer mine").status == 200
    assert place.api.last.all("Authorization") == ["Bearer ours"]


@pytest.mark.route(auth={"grant": "static", "token": "ours", "incoming": "reject"})
def test_a_callers_own_credential_is_rejected_when_told_so(place: Place) -> None:
    place.api.says(reply())
    answer = place.get("/", "Authorization: Bearer mine")
    assert (answer.status, answer.proxy_error) == (403, "http_request_denied")
    assert place.get().status == 200
    assert len(place.api.requests) == 1


API_KEY = {"grant": "static", "token": "ours", "header": "X-Api-Key", "scheme": ""}


@pytest.mark.route(headers={"remove": ["Authorization"]})
@pytest.mark.parametrize("lines", [["Authorization: Bearer mine"], ["authorization: Basic bWU6bWU="], []])
def test_a_header_that_is_removed_is_the_callers_and_ours_is_added_and_renewed(
    place: Place, lines: list[str]
) -> None:
    assert place.get("/", *lines).status == 200
    place.tokens.revoke()
    assert place.get("/", *lines).status == 200
    assert [came.all("Authorization") for came in place.api.requests[-2:]] == [
        [f"Bearer {token}"] for token in place.tokens.issued.every[-2:]
    ]


@pytest.mark.route(
    auth={"grant": "static", "token": "ours", "incoming": "reject"}, headers={"remove": ["authorization"]}
)
def test_what_is_removed_does_not_count_as_brought_along(place: Place) -> None:
    assert place.get("/", "Authorization: Bearer mine").status == 200
    assert place.api.last.all("Authorization") == ["Bearer ours"]


@pytest.mark.route(auth={**API_KEY, "incoming": "replace"})
def test_every_spelling_of_the_header_is_dropped_when_it_is_replaced(place: Place) -> None:
    place.api.says(reply())
    answer = place.get("/", "X_Api_Key: a", "x-api-key: b", "X-API_KEY: c", "X-Api-Key2: d")
    assert answer.status == 200
    assert [line for line in place.api.last.headers if line[0].lower() != b"host"] == [
        (b"X-Api-Key2", b"d"),
        (b"X-Api-Key", b"ours"),
    ]


@pytest.mark.route(auth=API_KEY)
def test_another_spelling_does_not_slip_in_beside_the_injected_header(place: Place) -> None:
    place.api.says(reply())
    assert place.get("/", "X_Api_Key: a").status == 200
    assert place.api.last.names.count("x_api_key") + place.api.last.names.count("x-api-key") == 1


# ── bodies ───────────────────────────────────────────────────────────────────────────────────────


@plain_route
def test_gzip_is_not_touched_in_either_direction(place: Place) -> None:
    zipped = gzip.compress(EVERY_BYTE)
    place.api.says(reply(200, "Content-Encoding: gzip", "Content-Type: text/plain", body=zipped))
    answer = place.post("/", "Content-Encoding: gzip", "Accept-Encoding: gzip", body=zipped)
    assert place.api.last.body == zipped
    assert place.api.last.one("Content-Encoding") == "gzip"
    assert place.api.last.one("Accept-Encoding") == "gzip"
    assert answer.body == zipped
    assert answer.one("Content-Encoding") == "gzip"


@plain_route
def test_gzip_in_chunks_is_not_touched(place: Place) -> None:
    zipped = gzip.compress(EVERY_BYTE)
    with place.connect() as wire:
        head = place.request("POST", "/", "Content-Encoding: gzip", "Transfer-Encoding: chunked")
        assert wire.send(head + chunked(zipped)).answer().status == 200
    assert place.api.last.body == zipped


@plain_route
def test_a_chunked_upload_is_framed_anew(place: Place) -> None:
    sent = place.request("POST", "/", "Transfer-Encoding: chunked")
    sent += b"5;name=value\r\nhello\r\n" + chunked(EVERY_BYTE)
    assert place.ask(sent).status == 200
    assert place.api.last.body == b"hello" + EVERY_BYTE
    assert place.api.last.all("Transfer-Encoding") == ["chunked"]
    assert "content-length" not in place.api.last.names


@plain_route
def test_trailers_are_dropped_together_with_their_announcement_both_ways(place: Place) -> None:
    trailer = b"0\r\nX-Sum: 42\r\nAuthorization: Bearer evil\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
    place.api.says(head + chunked(b"hello", end=trailer))
    sent = place.request("POST", "/", "Transfer-Encoding: chunked", "Trailer: X-Sum")
    answer = place.ask(sent + chunked(b"up", end=trailer))
    for message in (place.api.last, answer):
        assert message.trailer == b""
        assert not {"x-sum", "trailer"} & set(message.names)
    assert (place.api.last.body, answer.body) == (b"up", b"hello")
    assert place.api.last.all("Authorization") == ["Bearer never-changes"]


@plain_route
def test_an_empty_post_says_that_it_is_empty(place: Place) -> None:
    assert place.post(body=b"").status == 200
    assert place.api.last.all("Content-Length") == ["0"]
    assert "transfer-encoding" not in place.api.last.names


@plain_route
def test_a_get_may_have_a_body(place: Place) -> None:
    assert place.ask(place.request("GET", "/", body=b"query")).status == 200
    assert place.api.last.body == b"query"


@plain_route
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS", "POST", "PUT"])
@pytest.mark.parametrize(
    ("lines", "body", "framing"),
    [
        ([], b"", {}),
        (["Content-Length: 0"], b"", {"content-length": "0"}),
        (["Content-Length: 5"], b"hello", {"content-length": "5"}),
        (["Transfer-Encoding: Chunked"], chunked(b"hel", b"lo"), {"transfer-encoding": "chunked"}),
        (["Transfer-Encoding: chunked"], chunked(), {"transfer-encoding": "chunked"}),
    ],
    ids=["nothing", "empty", "length", "chunked", "chunked and empty"],
)
def test_a_body_is_framed_as_it_came_whatever_the_method(
    place: Place, method: str, lines: list[str], body: bytes, framing: dict[str, str]
) -> None:
    with place.connect() as wire:
        for _ in range(2):
            wire.send(place.request(method, "/", *lines) + body)
            assert wire.answer(to_head=method == "HEAD").status == 200
    for sent in place.api.requests:
        assert sent.body == (b"hello" if body not in {b"", chunked()} else b"")
        found = {
            name: sent.one(name) for name in ("content-length", "transfer-encoding") if name in sent.names
        }
        assert found == framing


@plain_route
def test_a_long_chain_of_small_chunks_is_the_same_body_both_ways(place: Place) -> None:
    place.api.answer = lambda came, _wire: (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + chunked(*(bytes([byte]) for byte in came.body))
    )
    sent = place.request("POST", "/", "Transfer-Encoding: chunked")
    assert place.ask(sent + chunked(*(bytes([byte]) for byte in EVERY_BYTE))).body == EVERY_BYTE
    assert place.api.last.body == EVERY_BYTE


@plain_route
@pytest.mark.parametrize(
    ("lines", "version", "waits"),
    [
        (["Expect: 100-continue", "Content-Length: 5"], "1.1", True),
        (["expect: 100-Continue", "Content-Length: 5"], "1.1", True),
        (["Expect: 100-continue", "Content-Length: 5", "Connection: close"], "1.1", True),
        (["Expect: 100-continue", "Expect: 100-continue", "Content-Length: 5"], "1.1", True),
        (["Expect: 100-continue", "Content-Length: 0"], "1.1", False),
        (["Expect: 100-continue"], "1.1", False),
        (["Expect: 100-continue", "Content-Length: 5"], "1.0", False),
    ],
)
def test_a_100_comes_when_it_is_waited_for_and_only_then(
    place: Place, lines: list[str], version: str, *, waits: bool
) -> None:
    with place.connect() as wire:
        wire.send(place.request("POST", "/", *lines).replace(b"HTTP/1.1", b"HTTP/" + version.encode()))
        if waits:
            assert wire.answer().status == 100
            assert place.api.requests == []
        if "Content-Length: 5" in lines:
            wire.send(b"hello")
        assert wire.answer().status == 200
    assert "expect" not in place.api.last.names
    assert place.api.last.body == (b"hello" if "Content-Length: 5" in lines else b"")


@plain_route
def test_a_chunked_body_is_waited_for_too(place: Place) -> None:
    with place.connect() as wire:
        wire.send(place.request("POST", "/", "Expect: 100-continue", "Transfer-Encoding: chunked"))
        assert wire.answer().status == 100
        assert wire.send(chunked(b"hello")).answer().status == 200
    assert place.api.last.body == b"hello"


@pytest.mark.route(allow={"methods": ["GET"]}, **PLAIN)
def test_a_body_that_nobody_will_take_is_not_asked_for(place: Place) -> None:
    with place.connect() as wire:
        wire.send(place.request("POST", "/", "Expect: 100-continue", "Content-Length: 5"))
        assert wire.answer().status == 403


@plain_route
def test_an_upstream_may_answer_before_the_body_that_was_asked_for(place: Place) -> None:
    place.api.reads_bodies = False
    place.api.says(reply(417, body=b"no"), then_close=True)
    with place.connect() as wire:
        wire.send(place.request("POST", "/", "Expect: 100-continue", "Content-Length: 5"))
        assert wire.answer().status == 100
        answer = wire.answer()
        assert (answer.status, answer.body, answer.proxy_error) == (417, b"no", None)


@plain_route
def test_an_expectation_is_answered_here_and_not_forwarded(place: Place) -> None:
    with place.connect() as wire:
        wire.send(place.request("POST", "/", "Expect: 100-continue", "Content-Length: 5"))
        assert wire.answer().status == 100
        wire.send(b"hello")
        assert wire.answer().status == 200
    assert place.api.last.body == b"hello"
    assert "expect" not in place.api.last.names


@plain_route
def test_an_http_1_0_client_is_not_sent_a_100(place: Place) -> None:
    sent = place.request("POST", "/", "Expect: 100-continue", body=b"hello").replace(b"HTTP/1.1", b"HTTP/1.0")
    assert place.ask(sent).status == 200


# ── answers ──────────────────────────────────────────────────────────────────────────────────────


@plain_route
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 Fine By Me\r\ncontent-LENGTH: 0\r\n\r\n",
        b"HTTP/1.1 418 I'm a \xe9\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 299 \r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 500 Internal Server Error\r\nX-B: 2\r\nx-a: 1\r\nX-B: 1\r\nContent-Length: 1\r\n\r\n!",
        (
            b"HTTP/1.1 200 OK\r\nSet-Cookie: b=2; Path=/\r\nSet-Cookie: a=1\r\nset-cookie: c\r\n"
            b"X-Latin: \xe9\xff\r\nContent-Length: 0\r\n\r\n"
        ),
        b"HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n",
        b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n',
        b"HTTP/1.1 200 OK\r\nServer: up/1\r\nDate: Thu, 1 Jan 1970 00:00:00 GMT\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200  two  blanks\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 a\ttab\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 499 \r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 599 \xff\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 999 Enough\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Empty: \r\n!#$%&'*+-.^_`|~0: a,, b;\"c\r\nContent-Length: 0\r\n\r\n",
        b'HTTP/1.1 200 OK\r\nETag: W/"\xe9"\r\nAccept-Ranges: bytes\r\nContent-Length: 0\r\n\r\n',
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/9\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */9\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 412 Precondition Failed\r\nVary: a\r\nvary: b\r\nVary: a\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nAge: 1\r\nVia: 1.1 x\r\nWarning: 199 - old\r\nContent-Length: 0\r\n\r\n",
        b'HTTP/1.1 401 No\r\nWWW-Authenticate: a\r\nWWW-Authenticate: b c="d"\r\nContent-Length: 0\r\n\r\n',
        b"HTTP/1.1 200 OK\r\n"
        + b"".join(b"X-%d: %d\r\n" % (n, n) for n in range(500))
        + b"Content-Length: 0\r\n\r\n",
    ],
)
def test_an_answer_comes_back_to_the_byte(place: Place, answer: bytes) -> None:
    place.api.says(answer)
    came = place.get()
    head = came.head
    if came.status == 401:  # the one addition to an upstream's answer; it stands last
        head, line, end = head.rpartition(b"Proxy-Status: authproxy; received-status=401; ")
        assert (line != b"", end.count(b"\r\n")) == (True, 2)
        head += b"\r\n"
    assert head + came.body == answer


@plain_route
@pytest.mark.parametrize(
    ("said", "start"),
    [
        (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 "),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 OK"),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 OK"),
    ],
)
def test_a_status_line_is_made_whole(place: Place, said: bytes, start: bytes) -> None:
    place.api.says(said)
    with place.connect() as wire:
        for _ in range(2):
            answer = wire.send(place.request("GET")).answer()
            assert (answer.start, answer.names) == (start, ["content-length"])


@plain_route
def test_a_kept_connection_of_an_http_1_0_upstream_is_used_again_and_no_other(place: Place) -> None:
    place.api.says(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi")
    assert [place.get().body for _ in range(3)] == [b"hi"] * 3
    assert place.api.connections == 1
    place.api.says(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", then_close=True)
    assert [place.get().body for _ in range(3)] == [b"hi"] * 3
    assert place.api.connections == 3


@plain_route
@pytest.mark.parametrize("length", [b"", b"Content-Length: 0\r\n", b"Content-Length: 5\r\n"])
def test_a_204_has_no_length_that_somebody_might_wait_for(place: Place, length: bytes) -> None:
    place.api.says(b"HTTP/1.1 204 No Content\r\n" + length + b"X-Kept: 1\r\n\r\n", then_close=True)
    with place.connect() as wire:
        answer = wire.send(place.request("GET")).answer()
        assert (answer.status, answer.names) == (204, ["x-kept"])
        place.api.says(reply(body=b"after"))
        assert wire.send(place.request("GET")).answer().body == b"after"


@plain_route
@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_a_status_without_a_body_has_none_and_the_connection_goes_on(place: Place, status: bytes) -> None:
    place.api.says(b"HTTP/1.1 " + status + b"\r\nETag: x\r\n\r\n")
    with place.connect() as wire:
        for _ in range(2):
            assert wire.send(place.request("GET")).answer().status == int(status[:3])
        place.api.says(reply(body=b"after"))
        assert wire.send(place.request("GET")).answer().body == b"after"


@plain_route
def test_a_304_may_announce_the_length_that_it_does_not_send(place: Place) -> None:
    place.api.says(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1234\r\n\r\n")
    with place.connect() as wire:
        assert wire.send(place.request("GET")).answer().one("Content-Length") == "1234"
        place.api.says(reply(body=b"after"))
        assert wire.send(place.request("GET")).answer().body == b"after"


@plain_route
def test_an_answer_to_head_keeps_its_length_and_has_no_body(place: Place) -> None:
    place.api.says(b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n")
    with place.connect() as wire:
        for _ in range(2):
            answer = wire.send(place.request("HEAD")).answer(to_head=True)
            assert (answer.status, answer.one("Content-Length")) == (200, "1234")
        place.api.says(reply(body=b"after"))
        assert wire.send(place.request("GET")).answer().body == b"after"
    assert place.api.requests[0].method == "HEAD"


@plain_route
def test_a_chunked_answer_to_head_has_no_body(place: Place) -> None:
    place.api.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    with place.connect() as wire:
        assert wire.send(place.request("HEAD")).answer(to_head=True).status == 200
        place.api.says(reply(body=b"after"))
        assert wire.send(place.request("GET")).answer().body == b"after"


@plain_route
def test_a_chunked_answer_comes_back_whole(place: Place) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    place.api.says(head + b"5;ext=1\r\nhello\r\n" + chunked(EVERY_BYTE))
    answer = place.get()
    assert answer.body == b"hello" + EVERY_BYTE
    assert answer.names == ["transfer-encoding"]


@plain_route
def test_an_answer_that_ends_with_its_connection_comes_back_whole(place: Place) -> None:
    place.api.says(b"HTTP/1.1 200 OK\r\nX-A: 1\r\n\r\n" + EVERY_BYTE, then_close=True)
    assert place.get().body == EVERY_BYTE


@plain_route
def test_an_http_1_0_answer_comes_back_whole(place: Place) -> None:
    place.api.says(b"HTTP/1.0 200 OK\r\n\r\n" + EVERY_BYTE, then_close=True)
    answer = place.get()
    assert answer.start == b"HTTP/1.1 200 OK"
    assert answer.body == EVERY_BYTE


@plain_route
def test_hop_by_hop_headers_of_an_answer_stay_here_too(place: Place) -> None:
    place.api.says(
        reply(
            200,
            "Connection: close, X-Mine",
            "X-Mine: 1",
            "Keep-Alive: timeout=5",
            "Proxy-Connection: close",
            "Proxy-Authenticate: Basic",
            "Upgrade: h2c",
            "Trailer: X-T",
            "X-Kept: 2",
            body=b"x",
        ),
        then_close=True,
    )
    with place.connect() as wire:
        assert wire.send(place.request("GET")).answer().names == ["x-kept", "content-length"]
        assert wire.send(place.request("GET")).answer().status == 200, "our own connection goes on"


@plain_route
@pytest.mark.parametrize(
    "before",
    [
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n" * 3,
    ],
)
def test_an_interim_answer_is_never_taken_for_the_answer(place: Place, before: bytes) -> None:
    place.api.says(before + reply(200, "X-Final: 1", body=b"final"))
    with place.connect() as wire:
        for _ in range(2):
            wire.send(place.request("GET"))
            answer = wire.answer()
            while answer.status < 200:
                answer = wire.answer()
            assert (answer.status, answer.body, answer.one("X-Final")) == (200, b"final", "1")


@plain_route
def test_an_interim_answer_that_comes_long_before_the_answer_is_not_taken_for_it_either(place: Place) -> None:
    seen = threading.Event()

    def answer(_request: Message, wire: Wire) -> bytes:
        wire.send(b"HTTP/1.1 102 Processing\r\n\r\n")
        seen.wait(0.3)  # nothing sets it: the proxy has the time to err
        return reply(200, body=b"final")

    place.api.answer = answer
    assert (place.get().status, place.get().body) == (200, b"final")


# ── a client's connection ────────────────────────────────────────────────────────────────────────


@plain_route
def test_one_connection_carries_many_requests(place: Place) -> None:
    with place.connect() as wire:
        for number in range(5):
            wire.send(place.request("POST", f"/{number}", body=b"%d" % number))
            assert wire.answer().status == 200
    assert [sent.body for sent in place.api.requests] == [b"0", b"1", b"2", b"3", b"4"]
    assert place.api.connections <= 1, "and so does the one to the upstream"


@plain_route
def test_pipelined_requests_are_answered_in_order(place: Place) -> None:
    place.api.answer = lambda came, _wire: reply(body=came.target.encode() + came.body)
    with place.connect() as wire:
        wire.send(
            place.request("GET", "/1") + place.request("POST", "/2", body=b"two") + place.request("GET", "/3")
        )
        assert [wire.answer().body for _ in range(3)] == [b"/1", b"/2two", b"/3"]


@plain_route
def test_pipelined_requests_wait_for_a_slow_first_answer(place: Place) -> None:
    def answer(came: Message, wire: Wire) -> bytes:
        if came.target == "/1":
            wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"slow", end=b""))
            return chunked(b"ly")
        return reply(body=came.target.encode())

    place.api.answer = answer
    with place.connect() as wire:
        wire.send(place.request("GET", "/1") + place.request("GET", "/2") + place.request("HEAD", "/3"))
        assert wire.answer().body == b"slowly"
        assert wire.answer().body == b"/2"
        assert wire.answer(to_head=True).status == 200


@plain_route
def test_requests_that_arrive_byte_by_byte_are_the_same_requests(place: Place) -> None:
    upload = place.request("POST", "/up", "Transfer-Encoding: chunked") + chunked(b"hello", b"world")
    with place.connect() as wire:
        for byte in upload:
            wire.send(bytes([byte]))
        assert wire.answer().status == 200
        for byte in place.request("GET", "/a") + place.request("HEAD", "/b"):
            wire.send(bytes([byte]))
        assert wire.answer().status == 200
        assert wire.answer(to_head=True).status == 200
    assert [(sent.method, sent.target) for sent in place.api.requests] == [
        ("POST", "/up"),
        ("GET", "/a"),
        ("HEAD", "/b"),
    ]
    assert place.api.requests[0].body == b"helloworld"


@plain_route
def test_requests_that_arrive_in_odd_pieces_are_the_same_requests(place: Place) -> None:
    place.api.answer = lambda came, _wire: reply(body=came.target.encode())
    stream = b"".join(place.request("GET", f"/{number}") for number in range(20))
    with place.connect() as wire:
        size = len(stream) // 7
        for start in range(0, len(stream), size):
            wire.send(stream[start : start + size])
        assert [wire.answer().body for _ in range(20)] == [b"/%d" % number for number in range(20)]


@plain_route
def test_connection_close_is_obeyed(place: Place) -> None:
    with place.connect() as wire:
        answer = wire.send(place.request("GET", "/", "Connection: close")).answer()
        assert answer.body == b"fine"
        assert answer.one("Connection") == "close"
        assert wire.is_closed()
    assert "connection" not in place.api.last.names


@plain_route
@pytest.mark.parametrize("framed", [True, False])
def test_an_http_1_0_client_gets_its_answer_unchunked_and_the_end_of_the_connection(
    place: Place, *, framed: bool
) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    place.api.says(reply(body=b"hello") if framed else head + chunked(b"hel", b"lo"))
    with place.connect() as wire:
        wire.send(place.request("GET").replace(b"HTTP/1.1", b"HTTP/1.0"))
        answer = wire.answer()
        assert answer.body == b"hello"
        assert "transfer-encoding" not in answer.names
        assert wire.is_closed()
    assert place.api.last.start.endswith(b"HTTP/1.1")


@plain_route
def test_an_http_1_0_client_may_keep_its_connection(place: Place) -> None:
    with place.connect() as wire:
        for _ in range(2):
            sent = place.request("GET", "/", "Connection: keep-alive")
            answer = wire.send(sent.replace(b"HTTP/1.1", b"HTTP/1.0")).answer()
            assert answer.body == b"fine"
            assert answer.one("Connection") == "keep-alive"


@plain_route
def test_a_line_feed_before_a_request_is_forgiven(place: Place) -> None:
    with place.connect() as wire:
        assert wire.send(b"\r\n" + place.request("GET")).answer().status == 200


def test_cookies_are_nobodys_but_the_callers(place: Place) -> None:
    place.api.says(reply(200, "Set-Cookie: session=1"))
    assert place.get().one("Set-Cookie") == "session=1"
    assert place.get().status == 200
    assert [sent.one("Cookie") for sent in place.api.requests] == [None, None]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_passed_on_and_not_followed(place: Place, status: int) -> None:
    elsewhere = "Location: http://elsewhere.example/x"
    place.api.says(reply(status, elsewhere))
    answer = place.get()
    assert (answer.status, answer.one("Location")) == (status, "http://elsewhere.example/x")
    assert len(place.api.requests) == 1


def test_the_log_says_which_request_was_repeated(place: Place, proxy: RunningProxy) -> None:
    place.api.says_in_turn([UNAUTHORIZED, reply(body=b"fine")])
    assert place.get("/told?q=not-told").status == 200
    log = proxy.wait_for_log("path=/told")
    (line,) = [line for line in log.splitlines() if "path=/told" in line]
    assert "status=200" in line
    assert "retried=yes" in line
    assert "not-told" not in log


@plain_route
def test_the_log_names_the_path_as_it_came_and_not_the_query(place: Place, proxy: RunningProxy) -> None:
    assert place.get("/a%0Ab?secret=in-the-query").status == 200
    log = proxy.wait_for_log("path=/a%0Ab ")
    assert "in-the-query" not in log
