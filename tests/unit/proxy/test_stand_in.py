"""What a client's own login is, and what it is answered."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from authproxy.errors import BadRequest, Forbidden, RequestTimeout
from authproxy.proxy.body import Body
from authproxy.proxy.placeholders import placeholder
from authproxy.proxy.request import Stream
from authproxy.proxy.stand_in import Login, Pointers, StandIn, fields_in, placed

MARK = placeholder("api")
LOGIN = Login("/v1/oauth", frozenset({"POST"}))


def stand_in(*logins, **keys):
    return StandIn(logins or [LOGIN], mark=MARK, **keys)


@pytest.mark.parametrize(
    ("method", "path", "found"),
    [
        ("POST", "/api/v1/oauth", LOGIN),
        ("POST", "/api/v1//oauth", LOGIN),
        ("POST", "/api/v1/%6Fauth;x", LOGIN),
        ("GET", "/api/v1/oauth", None),
        ("post", "/api/v1/oauth", None),
        ("POST", "/api/v1/oauth/", None),
        ("POST", "/api", None),
    ],
)
def test_a_login_is_found_by_its_method_and_its_path_below_the_route(method, path, found):
    assert stand_in().find(method, path, "/api") is found


def test_a_path_that_steps_out_of_its_route_is_refused_as_ever():
    with pytest.raises(Forbidden):
        stand_in().find("POST", "/api/../v1/oauth", "/api")
    assert stand_in().find("GET", "/api/../v1/oauth", "/api") is None  # others judge that


@pytest.mark.parametrize(
    ("pointers", "document"),
    [
        (Pointers(), {"access_token": MARK, "token_type": "Bearer", "expires_in": 3600}),
        (
            Pointers(token="/data/0/a~1b", expires_in="/ttl", refresh_token="/data/1"),
            {
                "data": [{"a/b": MARK}, MARK], "token_type": "Bearer", "ttl": 3600, "expires_in": 3600,
                "refresh_token": MARK,
            },
        ),
        (Pointers(token=""), MARK),
        (Pointers(token="/1"), [None, MARK]),
        (Pointers(token="/token_type"), {"token_type": MARK, "expires_in": 3600}),
    ],
)  # fmt: skip
def test_the_answer_has_the_placeholder_where_a_token_is_looked_for(pointers, document):
    refreshes = isinstance(document, dict) and "refresh_token" in document
    assert stand_in(pointers=pointers).document("t", LOGIN, refreshes=refreshes, now=5) == document


def test_a_number_that_is_no_place_in_a_list_is_a_name():
    assert placed(None, ["100000000", "a"], 1) == {"100000000": {"a": 1}}
    assert placed([1], ["x"], 2) == [1]
    assert placed({"a": 1}, ["a", "b"], 2) == {"a": 1}


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"grant_type=password&a=%C3%BC&b=", {"grant_type": "password", "a": "ü", "b": ""}),
        (b'{"grant_type": "password", "a": [1]}', {"grant_type": "password", "a": [1]}),
        (b"", {}),
        (b"[1]", {}),
        (b"\xff\xfe", {"\ufffd\ufffd": ""}),
        (b"[" * 60_000, {"[" * 60_000: ""}),
    ],
)
def test_a_body_is_a_form_or_json(body, fields):
    assert fields_in(body) == fields


# ── the whole of it ──────────────────────────────────────────────────────────────────────────────


class Client:
    def __init__(self):
        self.transport = self
        self.written = b""
        self.draining = False

    def write(self, data):
        self.written += data

    def pause_reading(self):
        """Nobody is in a hurry."""

    def resume_reading(self):
        """Nobody waits."""


class Source:
    def __init__(self, held):
        self.held = held

    def take(self):
        return self.held

    def origin(self):
        return "fetched"

    async def token(self):
        return SimpleNamespace(value="fetched")


def asked(body=b"", method="POST", *, ended=True, idle_seconds=9.0):
    stream = Stream(Client())
    if body:
        stream.feed_data(body)
    if ended:
        stream.feed_eof()
    client, notes = Client(), SimpleNamespace(steps=[], origin="held")
    request = SimpleNamespace(connection=client, method=method, keep_alive=True, version=(1, 1))
    context: Any = SimpleNamespace()
    context.__dict__.update(
        request=request,
        route=SimpleNamespace(idle_seconds=idle_seconds),
        login_query="",
        login_body=Body(stream, length=None, keep=0, limit=100),
        origin=None,
        received=0,
        notes=lambda: notes,
        answering=lambda status, sent: setattr(context, "answered", (status, sent)),
    )
    return context, client, notes


async def test_the_tokens_it_has_are_not_asked_for():
    context, client, notes = asked(b"a=b")
    credential = SimpleNamespace(source=Source(SimpleNamespace(value="held")))
    assert await stand_in().answer(context, LOGIN, credential) is True
    head, _, body = client.written.partition(b"\r\n\r\n")
    assert json.loads(body)["access_token"] == MARK
    assert head.endswith(b"\r\nContent-Length: %d" % len(body))
    assert (context.answered, context.received) == ((200, len(body)), 3)
    assert [step[:2] for step in notes.steps] == [("stand_in", "answered by authproxy")]


async def test_those_it_has_to_wait_for_are_a_step():
    context, client, notes = asked(method="HEAD")
    await stand_in().answer(context, LOGIN, SimpleNamespace(source=Source(None)))
    assert client.written.endswith(b"\r\n\r\n")
    assert [step[0] for step in notes.steps] == ["token", "stand_in"]
    assert notes.origin == "fetched"


async def test_a_code_is_refused_before_anybody_is_asked_for_a_token():
    context, client, _ = asked(b"grant_type=authorization_code")
    with pytest.raises(BadRequest) as caught:
        await stand_in().answer(context, LOGIN, None)
    assert caught.value.error == "unsupported_grant_type"
    assert not client.written


async def test_a_body_that_does_not_go_on_is_not_waited_for():
    context, _, _ = asked(b"a", ended=False, idle_seconds=0.0)
    with pytest.raises(RequestTimeout):
        await stand_in().answer(context, LOGIN, None)
