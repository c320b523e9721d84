"""Upgrades of requests that have a body, as `docker exec` makes them: the body first, then the tunnel."""

import select
from collections.abc import Callable

import pytest

from tests.support.wire import UNAUTHORIZED, Message, Wire, chunked, reply

from .conftest import Place

START = "/v1.43/exec/4f2e/start"
WHAT = b'{"Detach": false, "Tty": true}'
LINES = ("Content-Type: application/json", "Connection: Upgrade", "Upgrade: tcp")
UPGRADED = (
    b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n"
    b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
)
FRAMINGS = {
    "length": (f"Content-Length: {len(WHAT)}", WHAT),
    "chunks": ("Transfer-Encoding: chunked", chunked(WHAT[:10], WHAT[10:])),
}
framings = pytest.mark.parametrize("framing", FRAMINGS)
static = pytest.mark.route(auth={"grant": "static", "token": "the-token"}, timeouts={"idle": "1s"})


def daemon(_came: Message, wire: Wire) -> None:
    """Answer as dockerd does, and then shout back whatever comes."""
    wire.send(UPGRADED + b"$ ")
    while data := wire.read():
        wire.send(data.upper())


def asked(place: Place, framing: str, *lines: str) -> tuple[bytes, bytes]:
    """Return the head and the body of the request."""
    length, body = FRAMINGS[framing]
    return place.request("POST", START, *LINES, length, *lines), body


def talks(wire: Wire) -> None:
    """Check that `wire` is a tunnel to the daemon."""
    head = wire.head()
    assert head.start == b"HTTP/1.1 101 UPGRADED"
    assert head.one("Upgrade") == "tcp"
    assert head.one("Content-Type") == "application/vnd.docker.raw-stream"
    assert wire.exactly(2) == b"$ "
    for said in (b"ls\n", b"\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"):
        wire.send(said)
        assert wire.exactly(len(said)) == said.upper()


@static
@framings
@pytest.mark.parametrize("at_once", [True, False], ids=["whole", "in pieces"])
def test_the_body_goes_first_and_then_it_is_a_tunnel(place: Place, framing: str, *, at_once: bool) -> None:
    place.api.answer = daemon
    head, body = asked(place, framing)
    with place.connect() as wire:
        if at_once:
            wire.send(head + body)
        else:
            wire.send(head)
            for index in range(len(body)):
                wire.send(body[index : index + 1])
        talks(wire)
    sent = place.api.last
    assert (sent.method, sent.target, sent.body) == ("POST", START, WHAT)
    assert (sent.one("Connection"), sent.one("Upgrade")) == ("Upgrade", "tcp")
    assert sent.one("Authorization") == "Bearer the-token"


@framings
@pytest.mark.parametrize("at_once", [True, False], ids=["whole", "in pieces"])
def test_it_is_said_again_with_its_body_after_a_401(place: Place, framing: str, *, at_once: bool) -> None:
    assert place.get().status == 200
    place.tokens.revoke()
    place.api.answer = lambda came, wire: daemon(came, wire) if place.api.lets_in(came) else UNAUTHORIZED
    head, body = asked(place, framing)
    with place.connect() as wire:
        wire.send(head + body if at_once else head + body[:7])
        if not at_once:
            place.api.wait_for(1)
            wire.send(body[7:])
        talks(wire)
    refused, accepted = place.api.requests[1:]
    for sent in (refused, accepted):
        assert (sent.one("Upgrade"), sent.body) == ("tcp", WHAT)
    assert refused.one("Authorization") != accepted.one("Authorization")


@static
@framings
@pytest.mark.parametrize(
    "answer", [reply(409, body=b"is not running"), reply(200, body=b"detached"), reply(204)[:-2] + b"\r\n"]
)
def test_a_refused_upgrade_is_an_ordinary_answer(place: Place, framing: str, answer: bytes) -> None:
    place.api.says(answer)
    head, body = asked(place, framing)
    with place.connect() as wire:
        told = wire.send(head + body).answer()
        assert told.status == int(answer.split()[1])
        assert told.body == answer.partition(b"\r\n\r\n")[2]
        assert told.one("Upgrade") is None
    assert place.api.last.body == WHAT
    assert place.get().status == int(answer.split()[1])


def early(place: Place) -> Callable[[Message, Wire], bytes | None]:
    """Return a daemon that says 101 as soon as it has seen the head."""
    place.api.reads_bodies = False

    def answer(came: Message, wire: Wire) -> bytes | None:
        if came.method == "GET":
            return reply(body=b"fine")
        wire.send(UPGRADED + b"$ ")
        assert wire.exactly(len(WHAT)) == WHAT, "the body comes before what is said in the tunnel"
        while data := wire.read():
            wire.send(data.upper())
        return None

    return answer


@static
def test_an_early_101_waits_for_the_end_of_the_body(place: Place) -> None:
    place.api.answer = early(place)
    head, body = asked(place, "length")
    with place.connect() as wire:
        wire.send(head + body[:7])
        place.api.wait_for(1)
        for _ in range(3):
            assert place.get("/other").status == 200  # so there was time for the 101 to be passed on
        assert not select.select([wire.sock], [], [], 0)[0]
        wire.send(body[7:])
        talks(wire)


@static
def test_an_early_101_does_not_keep_a_client_that_stalls(place: Place) -> None:
    place.api.answer = early(place)
    head, body = asked(place, "length")
    with place.connect() as wire:
        answer = wire.send(head + body[:7]).answer()
        assert (answer.status, answer.proxy_error) == (408, "http_request_error")
