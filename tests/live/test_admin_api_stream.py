"""The live stream of the admin API over the wire: what is told, what is lost, and when it ends."""

import socket
from collections.abc import Iterator

import pytest

from tests.support.admin_api import Here, Watcher, admin_api
from tests.support.command import wait_until
from tests.support.wire import UNAUTHORIZED, Wire, ask, connect, request

MANY = 1500  # requests


@pytest.fixture(params=[1, 2], ids=["one process", "two workers"])
def here(request: pytest.FixtureRequest) -> Iterator[Here]:
    with admin_api(workers=request.param) as made:
        yield made


def test_finished_requests_are_told_as_in_the_list(here: Here) -> None:
    here.call("/other/before")
    with here.watching() as watcher, here.watching() as another:
        for number in range(20):
            here.call(f"/other/{number}?key=s3cr3t")
        told = watcher.wait_for("request", 20)
        assert sorted(told, key=lambda each: each["id"], reverse=True) == here.requests("?limit=20")
        assert another.wait_for("request", 20) == told
        assert watcher.of("lost") == []


def test_changes_of_state_are_told(here: Here) -> None:
    with here.watching() as watcher:
        here.call()
        wait_until(lambda: [each["state"] for each in watcher.of("status")][-1:] == ["valid"])
        assert {each["name"] for each in watcher.of("status")} == {"api"}
        assert watcher.of("status")[-1].keys() == here.route().keys()
        here.api.says(UNAUTHORIZED)
        here.call()
        wait_until(lambda: watcher.of("status")[-1]["state"] == "refused")
        here.post("/api/routes/api/forget")
        here.api.answer = here.api.first_answer
        here.call()
        wait_until(lambda: watcher.of("status")[-1]["state"] == "valid")


def test_who_does_not_read_loses_events_is_told_how_many_and_slows_nobody(here: Here) -> None:
    with connect(here.proxy.admin_url) as slow:
        slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        slow.send(request("GET", "/api/requests/stream"))
        assert slow.head().status == 200
        with here.watching() as watcher:
            path = "/other/" + "x" * 6000
            with connect(here.proxy.url) as wire:
                for number in range(1, MANY + 1):
                    wire.send(request("GET", f"{path}/{number}"))
                    assert wire.answer().status == 200
                    if number % 50 == 0:  # so that who does read loses next to nothing
                        wait_until(lambda: len(watcher.of("request")) + lost_by(watcher) == number)  # noqa: B023
        told, lost = read_slowly(slow)
        assert lost > lost_by(watcher)
        assert told + lost == MANY


def lost_by(watcher: Watcher) -> int:
    return sum(each["count"] for each in watcher.of("lost"))


def read_slowly(wire: Wire) -> tuple[int, int]:
    """Return how many requests a reader was told of, and how many it was told that it has lost."""
    came, lost = b"", 0
    while came.count(b"event: request") + lost < MANY:
        came += wire.chunk()
        lost = sum(int(each.partition(b"}")[0]) for each in came.split(b'data: {"count": ')[1:])
    return came.count(b"event: request"), lost


def test_the_stream_ends_when_the_process_does(here: Here) -> None:
    with here.watching() as watcher:
        here.call("/other/x")
        watcher.wait_for("request")
        assert here.proxy.stop() == 0
        wait_until(lambda: watcher.ended)


def test_streams_are_few_and_leave_room_for_others() -> None:
    with admin_api(limits={"connections": 20}) as here:
        wires = []
        for _ in range(4):
            wires.append(connect(here.proxy.admin_url).send(request("GET", "/api/requests/stream")))
            assert wires[-1].head().status == 200
            assert wires[-1].chunk()  # with nothing left to read, its end is a FIN and no RST
        with connect(here.proxy.admin_url) as wire:
            answer = wire.send(request("GET", "/api/requests/stream")).head()
        assert (answer.status, answer.one("Content-Type")) == (503, "application/problem+json")
        assert answer.one("Retry-After") is not None
        assert here.get("/healthz").status == 200
        wires[0].close()
        wait_until(lambda: ask_head(here) == 200)
        for wire in wires[1:]:
            wire.close()


def ask_head(here: Here) -> int:
    with connect(here.proxy.admin_url) as wire:
        wire.send(request("GET", "/api/requests/stream"))
        return wire.head().status


def test_who_comes_after_others_have_gone_is_told_as_well(here: Here) -> None:
    with here.watching():
        pass
    with here.watching() as watcher:
        here.call("/other/seen")
        assert watcher.wait_for("request")[-1]["path"] == "/other/seen"


def test_a_post_to_the_stream_is_not_allowed(here: Here) -> None:
    assert ask(here.proxy.admin_url, request("POST", "/api/requests/stream", body=b"")).status == 405
