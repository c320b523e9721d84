"""One request on its way: what is noted of it, what is told of it, and what is broken off."""

from types import SimpleNamespace

import pytest

from authproxy.observe.record import MAX_KEPT_HEAD
from authproxy.proxy.context import Answered, RequestContext, Waiting, first_lines
from authproxy.proxy.send import Outgoing


def context():
    request = SimpleNamespace(
        method="PUT", target="/x?password=s3cr3t", head=None, raw_headers=((b"Host", b"a"),), notes=None
    )
    return RequestContext(request, None, 1_700_000_000.0, 5.0)


def test_of_a_request_that_was_not_judged_yet_nothing_is_known():
    record = context().record(7.5)
    assert (record.at, record.started, record.seconds, record.ended) == (
        1_700_000_000.0,
        5.0,
        2.5,
        1_700_000_002.5,
    )
    assert (record.facts, record.token, record.received, record.notes) == (None, None, 0, None)
    assert (record.method, record.path, record.status, record.sent) == ("PUT", "-", 0, 0)
    assert (record.route, record.retried, record.cause) == (None, False, None)


def test_what_has_become_of_it_is_told():
    told = context()
    told.route = SimpleNamespace(name="api", facts="facts")
    told.path, told.retried, told.cause = "/x", True, "no"
    told.answering(206, 9)
    record = told.record(5.0)
    assert record.facts == "facts"
    assert (record.route, record.path, record.status, record.sent) == ("api", "/x", 206, 9)
    assert (record.retried, record.cause) == (True, "no")
    assert told.route_name == "api"


def test_an_answer_has_begun_once_something_of_it_is_out():
    begun = context()
    assert not begun.answer_begun
    begun.answering(204)
    assert (begun.answer_begun, begun.status, begun.sent) == (True, 204, 0)


def test_what_is_noted_of_one_request_is_not_noted_of_another():
    first, second = context(), context()
    first.answering(200, 5)
    first.origin = "https://a.example"
    assert (second.answer_begun, second.sent, second.origin) == (False, 0, None)


def test_what_is_under_way_can_be_broken_off():
    broken_off = context()
    broken_off.give_up()  # nothing was sent
    outgoing = broken_off.outgoing = Outgoing("PUT", b"", None)
    broken_off.give_up()
    aborted = []
    outgoing.lent = SimpleNamespace(abort=lambda: aborted.append(True))
    broken_off.give_up()
    assert aborted == [True]


@pytest.mark.parametrize(("status", "stands"), [(0, "under way"), (404, "404")])
def test_its_repr_tells_no_target(status, stands):
    shown = context()
    shown.route = SimpleNamespace(name="api")
    if status:
        shown.answering(status)
    assert repr(shown) == f"<RequestContext PUT api {stands}>"


def test_a_step_says_how_it_goes_on():
    assert Answered(keep_alive=True).keep_alive
    assert Waiting("it").context == "it"


# ── what is kept of heads ────────────────────────────────────────────────────────────────────────


def heads(made, size):
    made.request.raw_headers = tuple((b"X-%d" % number, b"x" * 100) for number in range(size // 107))
    made.answer = b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 3
    return made.record(6.0)


def test_a_head_is_kept_as_it_came():
    record = heads(context(), 1000)
    assert record.head.startswith(b"X-0: xxx")
    assert record.head.count(b"\r\n") == 1000 // 107
    assert record.notes is None


@pytest.mark.parametrize("plain", [True, False])
def test_a_head_without_measure_is_cut_behind_a_line_and_marked(plain):
    made = context()
    if plain:
        section = SimpleNamespace(size=MAX_KEPT_HEAD, lines=[])
        made.request.head = SimpleNamespace(section=section)
    record = heads(made, 3 * MAX_KEPT_HEAD)
    assert MAX_KEPT_HEAD // 2 - 200 < len(record.head) <= MAX_KEPT_HEAD // 2
    assert record.head.endswith(b"x\r\n")
    assert record.notes.cut
    assert record.answer == made.answer


def test_a_target_without_measure_leaves_less_room():
    made = context()
    made.request.target = "/" + "x" * (2 * MAX_KEPT_HEAD)
    record = heads(made, 1000)
    assert (record.head, record.answer) == (b"", b"")
    assert record.notes.cut


@pytest.mark.parametrize(
    ("room", "kept"),
    [(100, b"a: b\r\nc: d\r\n"), (12, b"a: b\r\nc: d\r\n"), (11, b"a: b\r\n"), (6, b"a: b\r\n"), (3, b"")],
)
def test_lines_are_kept_whole(room, kept):
    assert first_lines(b"a: b\r\nc: d\r\n", room) == kept


def test_its_id_is_known_before_it_has_ended():
    made = context()
    assert made.id == made.record(9.0).id
    made.notes().id = "known"
    assert made.id == made.record(9.0).id == "known"
