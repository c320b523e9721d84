"""What is counted, and how the counts of several processes become one."""

import json
from collections import Counter

import pytest

from authproxy.observe.counters import BOUNDS, COUNTERS, Counters, total
from tests.support.records import record


def test_a_request_is_counted_by_route_method_and_status():
    counters = Counters()
    for status in (200, 200, 502):
        counters.request(record(route="up42", method="GET", status=status, seconds=0.5))
    assert counters.requests == {("up42", "GET", "200"): 2, ("up42", "GET", "502"): 1}
    assert counters.seconds == {("up42",): 1.5}


def test_what_found_no_route_is_not_counted_for_one():
    counters = Counters()
    counters.request(record(route=None, status=404))
    assert not counters.requests
    assert not counters.buckets


def test_clients_cannot_make_up_time_series():
    counters = Counters()
    for method in ("BREW", "get", "X" * 1000):
        counters.request(record(method=method))
    assert counters.requests == {("up42", "other", "200"): 3}


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0, 0), (BOUNDS[0], 0), (BOUNDS[0] + 1e-9, 1), (0.05, 5), (BOUNDS[-1], -2), (BOUNDS[-1] + 1, -1)],
)
def test_a_duration_falls_into_the_first_bucket_that_is_no_less(seconds, bucket):
    counters = Counters()
    counters.request(record(route="up42", method="GET", status=200, seconds=seconds))
    counts = counters.buckets["up42"]
    assert len(counts) == len(BOUNDS) + 1
    assert sum(counts) == counts[bucket] == 1


def counted(number):
    counters = Counters()
    for _ in range(number):
        counters.request(record(route="up42", method="GET", status=200, seconds=0.25))
        counters.retries["up42", "accepted"] += 1
        counters.refused["forbidden",] += 1
        counters.token_requests["up42", "success"] += 1
    return counters


def test_the_counts_of_several_processes_add_up_after_a_journey_as_json():
    other = Counters()
    other.request(record(route="hello", method="PUT", status=201, seconds=100))
    snapshots = [json.loads(json.dumps(each.snapshot())) for each in (counted(2), counted(3), other)]
    sum_ = total(snapshots)
    assert sum_.requests == {("up42", "GET", "200"): 5, ("hello", "PUT", "201"): 1}
    assert sum_.retries == {("up42", "accepted"): 5}
    assert sum_.refused == {("forbidden",): 5}
    assert sum_.token_requests == {("up42", "success"): 5}
    assert sum_.seconds == {("up42",): 1.25, ("hello",): 100}
    assert Counter(sum_.buckets["up42"]) == {0: len(BOUNDS), 5: 1}
    assert sum_.buckets["hello"][-1] == 1


def test_a_snapshot_is_not_changed_by_what_comes_later():
    counters = counted(1)
    snapshot = counters.snapshot()
    before = json.dumps(snapshot)
    counters.request(record(route="up42", method="GET", status=200, seconds=0.25))
    total([snapshot, snapshot])
    assert json.dumps(snapshot) == before


def test_everything_that_is_counted_is_in_a_snapshot():
    kept = {name for name, value in vars(Counters()).items() if not callable(value)}
    assert kept == {*COUNTERS, "routes"} == set(Counters().snapshot())


def test_nothing_adds_up_to_nothing():
    assert total([]).snapshot() == Counters().snapshot()
