"""The record of a finished request: its id, that nobody can change it, and how much of bodies is kept."""

import gc
import os

import pytest

from authproxy.observe import record as module
from authproxy.observe.record import ID, BodyBudget, KeptBody, Notes, RouteFacts, request_id
from tests.support.records import record


def test_who_gets_a_record_cannot_change_it_for_the_others():
    with pytest.raises(AttributeError):
        record().status = 500


def test_what_is_secret_is_not_in_its_repr():
    shown = repr(record(target="/x?key=s3cr3t", head=b"Cookie: s3cr3t\r\n", answer=b"Set-Cookie: s3cr3t"))
    assert "s3cr3t" not in shown
    assert "up42" in shown


def test_it_ended_when_it_had_begun_and_taken_its_time():
    assert record(at=100.0, seconds=2.5).ended == 102.5


# ── ids ──────────────────────────────────────────────────────────────────────────────────────────


def test_an_id_has_one_form_and_stays_the_same():
    made = record()
    assert ID.fullmatch(made.id)
    assert made.id == made.id == request_id(made.at, made.started)


def test_ids_sort_as_requests_began():
    moments = [(0.0, 9e9), (1e9, 1.0), (1.7e9, 5.0), (1.7e9 + 1e-5, 2.0), (1.7e9 + 0.02, 1.0), (4.1e9, 0.0)]
    ids = [request_id(*moment) for moment in moments]
    assert ids[2:] == sorted(ids[2:])
    assert {len(each) for each in ids[2:]} == {22}


def test_a_clock_that_stands_still_makes_no_two_the_same():
    ids = [request_id(1.7e9, number / 1e6) for number in range(20_000)]
    assert len(set(ids)) == len(ids)
    assert ids == sorted(ids)


def test_another_process_makes_other_ids():
    before = request_id(1.7e9, 5.0)
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.write(writer, request_id(1.7e9, 5.0).encode())
        os._exit(0)
    os.wait()
    assert os.read(reader, 100).decode() != before
    for end in (reader, writer):
        os.close(end)


def test_an_id_that_was_known_before_is_the_one():
    assert record(notes=Notes("known")).id == "known"
    assert ID.fullmatch(record(notes=Notes()).id)


# ── bodies ───────────────────────────────────────────────────────────────────────────────────────


def test_the_beginning_of_a_body_is_kept_and_all_of_it_counted():
    body = KeptBody(5, BodyBudget())
    for piece in (b"abc", b"def", b"ghi"):
        body.add(piece)
    assert (bytes(body.data), body.size, body.cut) == (b"abcde", 9, True)


def test_a_body_that_fits_is_not_cut():
    body = KeptBody(5, BodyBudget())
    body.add(b"abcde")
    assert not body.cut


def test_what_is_over_the_budget_makes_the_oldest_go():
    budget = BodyBudget(10)
    bodies = [budget.new(6) for _ in range(3)]
    for body in bodies:
        body.add(b"123456")
    assert [len(body.data) for body in bodies] == [0, 0, 6]
    assert [body.cut for body in bodies] == [True, True, False]
    assert budget.held == 6
    bodies[0].add(b"more")  # it had its chance
    assert len(bodies[0].data) == 0


def test_a_body_that_nobody_has_any_more_frees_its_part():
    budget = BodyBudget(10)
    body = budget.new(6)
    body.add(b"123456")
    del body
    gc.collect()
    assert budget.held == 0
    kept = budget.new(10)
    kept.add(b"1234567890")
    assert not kept.cut


def test_a_route_says_how_much_of_its_bodies_is_kept():
    budget = BodyBudget()
    body = RouteFacts("up42", str, bodies=2, budget=budget).new_body()
    body.add(b"abc")
    assert (bytes(body.data), budget.held) == (b"ab", 2)


def test_without_fork_a_process_has_its_mark_all_the_same():
    assert len(module._process.tag) == 4
