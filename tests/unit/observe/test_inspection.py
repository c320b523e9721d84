"""A request as it is shown: all that helps, and nothing that is secret."""

import json
from base64 import b64decode
from types import SimpleNamespace

import pytest

from authproxy.observe import inspection
from authproxy.observe.inspection import details, request_lines, summary
from authproxy.observe.record import BodyBudget, KeptBody, Notes, RouteFacts
from authproxy.tokens.token import Token
from tests.support.records import record

CANARY = "c4n4ry-c4n4ry"
FACTS = RouteFacts("up42", lambda path: f"https://up.example/base{path}", frozenset({"x-custom"}), bodies=10)
TOKEN = Token(CANARY, issued_at=1_699_999_990.0)


def noted(*steps, **changes):
    notes = Notes()
    notes.steps = [(what, detail, 50.0 + ms / 1000) for what, detail, ms in steps]
    for name, value in changes.items():
        setattr(notes, name, value)
    return notes


def body(data, limit=10):
    kept = KeptBody(limit, BodyBudget())
    kept.add(data)
    return kept


def test_a_plain_request_is_told_in_full():
    shown = record(facts=FACTS, token=TOKEN, target="/v2/x?a=1&b", received=3)
    assert summary(shown) == {
        "id": shown.id,
        "at": "2023-11-14T22:13:20.000Z",
        "route": "up42",
        "method": "GET",
        "path": "/v2/x?a=••••&b",
        "upstream": "https://up.example/base/v2/x",
        "status": 200,
        "ms": 100.0,
        "bytes_in": 3,
        "bytes_out": 12,
        "repeated": False,
        "token": {"age_s": 10.0, "source": "held"},
        "steps": [
            {"what": "token", "detail": "held", "ms": 0.0},
            {"what": "upstream", "detail": "answered 200", "ms": 100.0},
        ],
        "error": None,
    }


def test_what_found_no_route_has_no_upstream():
    shown = summary(record(route=None))
    assert (shown["route"], shown["upstream"], shown["token"]) == (None, None, None)


def test_steps_follow_each_other_and_take_all_the_time():
    notes = noted(
        ("token", "fetched", 20), ("connect", "new", 30), ("upstream", "answered 401", 60),
        ("token", "renewed", 75), ("upstream", "answered 200", 95), origin="renewed",
    )  # fmt: skip
    steps = summary(record(token=TOKEN, notes=notes, retried=True))["steps"]
    assert [(each["what"], each["ms"]) for each in steps] == [
        ("token", 20.0), ("connect", 10.0), ("upstream", 30.0),
        ("token", 15.0), ("upstream", 20.0), ("answer", 5.0),
    ]  # fmt: skip
    assert sum(each["ms"] for each in steps) == pytest.approx(100.0)


def test_a_placeholder_is_a_step_and_a_login_ends_with_our_answer():
    notes = noted(("placeholder", "taken out of Cookie", 1))
    steps = summary(record(token=TOKEN, notes=notes))["steps"]
    assert [each["what"] for each in steps] == ["token", "placeholder", "upstream"]
    notes = noted(("placeholder", "taken out of Cookie", 1), ("token", "fetched", 9), ("upstream", "x", 10))
    steps = summary(record(token=TOKEN, notes=notes))["steps"]
    assert [each["what"] for each in steps] == ["placeholder", "token", "upstream", "answer"]
    steps = summary(record(notes=noted(("stand_in", "answered by authproxy", 1), login=True)))["steps"]
    assert [each["what"] for each in steps] == ["stand_in"]


def test_what_was_answered_here_says_why():
    problem = {"title": "Forbidden", "status": 403}
    shown = summary(record(status=403, cause="no", notes=noted(("refused", "Forbidden", 1), problem=problem)))
    assert shown["error"] == problem
    assert [each["what"] for each in shown["steps"]] == ["refused"]


def test_what_broke_off_says_why():
    shown = summary(record(status=0, cause="the client went away"))
    assert shown["error"] == {"title": "Broken off", "detail": "the client went away", "route": "up42"}
    assert shown["steps"][-1]["detail"] == "the client went away"


def test_a_token_of_which_nobody_knows_the_age_has_none():
    assert summary(record(token=Token("x")))["token"] == {"age_s": None, "source": "held"}


# ── headers ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("plain", [True, False])
def test_headers_are_told_as_they_came_and_secrets_masked(plain):
    lines = [b"Host: a", b"X-Custom: " + CANARY.encode(), b"x-Odd:spaced", b"Cookie: a=" + CANARY.encode()]
    head = SimpleNamespace(lines=lines) if plain else b"".join(line + b"\r\n" for line in lines)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nSet-Cookie: " + CANARY.encode() + b"\r\n"
    shown = details(record(facts=FACTS, head=head, answer=answer))
    assert shown["request_headers"] == [
        ["Host", "a"], ["X-Custom", "••••"], ["x-Odd", "spaced"], ["Cookie", "••••"],
    ]  # fmt: skip
    assert shown["response_headers"] == [["Content-Length", "3"], ["Set-Cookie", "••••"]]
    assert request_lines(record(head=head)) == lines


def test_the_token_that_was_added_is_masked_wherever_it_comes_back():
    shown = details(
        record(
            facts=FACTS, token=TOKEN, path=f"/{CANARY}", target=f"/{CANARY}",
            answer=f"HTTP/1.1 200 OK\r\nX-Echo: got {CANARY}!\r\n".encode(),
            notes=noted(response_body=body(f"<{CANARY}>".encode(), 99)),
        )
    )  # fmt: skip
    assert CANARY not in json.dumps(shown)
    assert shown["response_headers"] == [["X-Echo", "got ••••!"]]


def test_where_no_route_was_found_the_access_key_is_masked_all_the_same():
    shown = details(record(route=None, head=b"X-Door: k\r\n"), frozenset({"x-door"}))
    assert shown["request_headers"] == [["X-Door", "••••"]]


def test_what_was_cut_says_so():
    assert details(record(notes=noted(cut=True)))["headers_cut"] is True
    assert "headers_cut" not in details(record())


# ── bodies ───────────────────────────────────────────────────────────────────────────────────────


def test_without_inspect_there_are_no_bodies():
    assert "request_body" not in details(record(facts=RouteFacts("up42", str)))


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", None),
        (b"hello", {"text": "hello", "bytes": 5, "cut": False}),
        (b"hello world", {"text": "hello worl", "bytes": 11, "cut": True}),
        ("ééééé!".encode(), {"text": "ééééé", "bytes": 11, "cut": True}),
        ("xéééééé".encode(), {"text": "xéééé", "bytes": 13, "cut": True}),  # in the middle of a character
        (b"\xff\xfe\x00", {"base64": "//4A", "bytes": 3, "cut": False}),
        (b"\xff" * 20, {"base64": "/////////////w==", "bytes": 20, "cut": True}),
    ],
)
def test_a_body_is_told_as_text_or_in_base64_and_marked_when_cut(data, told):
    shown = details(record(facts=FACTS, notes=noted(request_body=body(data))))
    assert shown["request_body"] == told
    assert shown["response_body"] is None


def test_a_body_that_had_to_make_room_is_cut():
    kept = body(b"hello")
    kept.drop()
    assert details(record(facts=FACTS, notes=noted(request_body=kept)))["request_body"]["cut"]


def test_a_token_in_a_binary_body_is_masked():
    data = b"\xff" + CANARY.encode()
    shown = details(record(facts=FACTS, token=TOKEN, notes=noted(request_body=body(data, 99))))
    assert "base64" in shown["request_body"]
    assert details(record(facts=FACTS, notes=noted(request_body=body(data, 99)))) != shown


def test_what_an_answer_repeats_of_the_routes_secrets_and_the_callers_is_masked():
    facts = RouteFacts("up42", lambda path: path, frozenset(), bodies=99, secrets=("r0ute-s3cret-12",))
    notes = noted(response_body=body(b"\xff r0ute-s3cret-12 c4ller-s3cret", limit=99))
    shown = details(
        record(
            facts=facts,
            notes=notes,
            head=b"Authorization: Bearer c4ller-s3cret\r\n",
            answer=b"HTTP/1.1 200 OK\r\nX-Echo: r0ute-s3cret-12, c4ller-s3cret",
        )
    )
    assert shown["response_headers"] == [["X-Echo", "••••, ••••"]]
    assert b64decode(shown["response_body"]["base64"]) == b"\xff " + "•••• ••••".encode()


def test_what_masks_a_summary_is_worked_out_once_for_all_callers():
    inspection._hiding.cache_clear()
    for number in range(50):
        head = f"Authorization: Bearer c4ller-s3cret-{number}\r\n".encode()
        summary(record(facts=FACTS, token=TOKEN, head=head, target=f"/x?page=another-one-{number}"))
    assert inspection._hiding.cache_info().misses == 1


def test_where_it_came_in_is_told_if_that_is_a_routes_own_listener():
    own = RouteFacts("up42", str, listener="127.0.0.1:8091")
    assert details(record(facts=own))["own_listener"] is True
    assert details(record(facts=None, notes=noted(listener="127.0.0.1:8091")))["own_listener"] is True
    assert "own_listener" not in details(record(facts=FACTS, notes=noted(listener="127.0.0.1:8091")))
    assert "own_listener" not in details(record(facts=None))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"facts": FACTS}, None),
        ({"facts": RouteFacts("up42", str, listener="forward https://up.example:443")}, "intercepted"),
        ({"notes": noted(listener="forward https://up.example:443")}, "intercepted"),  # it was refused there
        ({"notes": noted(forward="tunnelled")}, "tunnelled"),
        ({"notes": noted(forward="forwarded")}, "forwarded"),
        ({"facts": RouteFacts("up42", str, listener="127.0.0.1:8091")}, None),
    ],
)
def test_what_came_by_the_forward_proxy_says_what_became_of_it(changes, said):
    shown = record(**changes)
    assert summary(shown).get("forward") == said
    assert details(shown).get("own_listener", False) == (said is None and bool(shown.listener))


def test_what_was_intercepted_names_its_origin():
    shown = summary(record(facts=None, notes=noted(listener="forward https://up.example:443")))
    assert shown["origin"] == "https://up.example:443"
    assert "origin" not in summary(record(notes=noted(forward="tunnelled")))


def test_what_was_sent_nowhere_has_no_step_of_an_upstream():
    gone = record(method="CONNECT", route=None, cause="the client went away", notes=noted())
    assert [(each["what"], each["detail"]) for each in summary(gone)["steps"]] == [
        ("answer", "the client went away")
    ]


def test_the_steps_of_a_tunnel_end_with_its_bytes():
    shown = record(
        method="CONNECT", notes=noted(("connect", "new", 4), ("tunnelled", "1 bytes in, 2 bytes out", 9))
    )
    assert [each["what"] for each in summary(shown)["steps"]] == ["connect", "tunnelled"]
