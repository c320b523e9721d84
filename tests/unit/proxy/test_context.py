"""One request on its way: what is noted of it, what is told of it, and what is broken off."""

from types import SimpleNamespace

import pytest

from authproxy.proxy.context import Answered, RequestContext, Sent, Waiting
from authproxy.proxy.send import Outgoing


def context():
    request = SimpleNamespace(
        method="PUT", target="/x?password=s3cr3t", section=None, raw_headers=((b"Host", b"a"),), notes=None
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
    outgoing.exchange = SimpleNamespace(abort=lambda: aborted.append(True))
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
    assert (Sent("it").context, Waiting("it").context) == ("it", "it")
