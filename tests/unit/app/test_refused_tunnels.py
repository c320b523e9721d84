"""Which CONNECTs of a program are told of, and when."""

import logging

import pytest

from authproxy.app.refused_tunnels import MAX_TOLD, RefusedTunnels
from authproxy.observe.record import Notes, RequestRecord

API, OTHER = "api.example:443", "other.example:443"


def record(path=API, status=403, method="CONNECT", *, inside="", **problem):
    notes = Notes()
    notes.problem, notes.listener = problem or None, inside
    return RequestRecord(
        *(0.0, 0.0, None, method, path, status, 0, False, None, 0.0, path, b"", b"", None, None, 0, notes)
    )


KEYLESS = record(status=407, title="Key required", hint="send it")


@pytest.fixture
def told(caplog):
    caplog.set_level(logging.WARNING, "authproxy")
    return lambda: [each.facts for each in caplog.records]


def test_a_refusal_is_told_of_at_once_with_its_cause_and_its_hint_and_once(told):
    refused = RefusedTunnels()
    for _ in range(3):
        refused.answered(record(OTHER, detail="no route's", hint="add one"))
    refused.answered(record(OTHER, 502, title="Bad gateway"))
    refused.ended()
    assert told() == [
        {"host": OTHER, "status": 403, "cause": "no route's", "hint": "add one"},
        {"host": OTHER, "status": 502, "cause": "Bad gateway"},
    ]


def test_what_went_well_and_what_is_no_connect_is_not_told_of(told):
    refused = RefusedTunnels()
    refused.answered(record(OTHER, 200))
    refused.answered(record(API, 200, detail="no TLS with the client"))
    refused.answered(record("/x", 404, "GET", detail="no route"))
    refused.ended()
    assert told() == []


def test_one_without_a_key_is_told_of_at_the_end(told):
    refused = RefusedTunnels()
    refused.answered(KEYLESS)
    refused.answered(KEYLESS)
    assert told() == []
    refused.ended()
    refused.ended()
    assert told() == [{"host": API, "status": 407, "cause": "Key required", "hint": "send it"}]


@pytest.mark.parametrize(
    "let_in",
    [
        lambda refused: refused.secured(API, "api.example"),
        lambda refused: refused.answered(record(API, 200)),
        lambda refused: refused.answered(record("/x", 200, "GET", inside=f"forward http://{API}")),
    ],
)
def test_one_that_comes_again_with_the_key_is_not_told_of(told, let_in):
    refused = RefusedTunnels()
    refused.answered(KEYLESS)
    let_in(refused)
    refused.ended()
    assert told() == []


def test_so_many_hosts_are_told_of_and_no_more(told):
    refused = RefusedTunnels()
    for number in range(MAX_TOLD + 3):
        refused.answered(record(f"{number}.example:443", detail="no"))
        refused.answered(record(f"{number}.example:443", 407, detail="no"))
    refused.ended()
    assert len(told()) == MAX_TOLD
