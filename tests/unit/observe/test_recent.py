"""The ring of the last requests: which it has, which fit a filter, and in what order they are told."""

import pytest

from authproxy.observe.recent import MAX_LIMIT, Filter, Recent, percentiles
from tests.support.records import record


def at(second, **changes):
    return record(at=1_700_000_000.0 + second, **changes)


@pytest.fixture
def recent():
    made = Recent(5)
    for second in range(8):
        made.add(at(second, path=f"/{second}"))
    return made


def paths(recent, **wanted):
    return [each.path for each in recent.newest(Filter.of(**wanted))]


def test_the_last_ones_are_remembered_and_told_newest_first(recent):
    assert (len(recent), recent.keep) == (5, 5)
    assert paths(recent) == ["/7", "/6", "/5", "/4", "/3"]


def test_the_newest_is_who_began_last_whenever_it_ended():
    made = Recent(5)
    for second in (3, 1, 2):
        made.add(at(second, path=f"/{second}", seconds=10 - second))
    assert paths(made) == ["/3", "/2", "/1"]


def test_one_is_found_by_its_id(recent):
    [newest, *_] = recent.newest(Filter())
    assert recent.find(newest.id) is newest
    assert recent.find("0" * 22) is None


def test_pages_follow_each_other_whatever_comes_in_between(recent):
    first = list(recent.newest(Filter.of(limit="2")))
    recent.add(at(100))
    second = list(recent.newest(Filter.of(limit="2", before=first[-1].id)))
    assert [each.path for each in [*first, *second]] == ["/7", "/6", "/5", "/4"]


def test_a_page_can_begin_before_what_is_not_remembered_any_more(recent):
    assert paths(recent, before=at(1).id) == []
    assert len(paths(recent, before=at(1000).id)) == 5


@pytest.mark.parametrize("keep", [0, 3, 9])
def test_it_can_be_made_larger_and_smaller_and_keeps_the_last(recent, keep):
    recent.resize(keep)
    recent.add(at(50, path="/new"))
    assert (recent.keep, len(recent)) == (keep, min(keep, 6))
    assert paths(recent)[:1] == ["/new"][:keep]


def test_how_long_requests_took_is_told_by_route():
    made = Recent(5)
    for seconds, route in ((1.0, "a"), (2.0, "b"), (3.0, "a"), (4.0, None)):
        made.add(record(seconds=seconds, route=route))
    assert made.seconds() == {"a": [1.0, 3.0], "b": [2.0]}


# ── filters ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "fits", "does_not"),
    [
        (None, [0, 200, 999], []),
        ("404", [404], [403, 405, 0]),
        ("0", [0], [200]),
        ("4xx", [400, 499], [399, 500]),
        ("5XX", [500, 599], [499]),
        (">=400", [400, 404, 599], [399, 0]),
    ],
)
def test_a_status_may_be_one_a_class_or_a_least(status, fits, does_not):
    wanted = Filter.of(status=status)
    assert all(wanted.fits(record(status=each)) for each in fits)
    assert not any(wanted.fits(record(status=each)) for each in does_not)


def test_every_part_of_a_filter_has_to_fit():
    wanted = Filter.of(route="up42", method="get", q="2/x", status="2xx")
    assert wanted.fits(record())
    for changes in ({"route": None}, {"method": "PUT"}, {"path": "/v3/x"}, {"status": 301}):
        assert not wanted.fits(record(**changes))


@pytest.mark.parametrize("part", ["caf%C3%A9", "café", "a b", "a%20b", "x?page=", "café/a b?page"])
def test_a_part_of_the_path_is_found_as_it_is_shown_and_as_people_read_it(part):
    shown = record(path="/caf%C3%A9/a%20b/x", target="/caf%C3%A9/a%20b/x?page=2")
    assert Filter.of(q=part).fits(shown) == (part != "café/a b?page")


def test_what_is_masked_is_not_found():
    assert not Filter.of(q="page=2").fits(record(path="/x", target="/x?page=2"))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"status": "ok"}, "status"),
        ({"status": "6xx"}, "status"),
        ({"status": "400-500"}, "status"),
        ({"status": "4040"}, "status"),
        ({"before": "12"}, "before"),
        ({"before": "g" * 22}, "before"),
        ({"limit": "0"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "1e3"}, "limit"),
        ({"limit": "٣"}, "limit"),
        ({"limit": "000"}, "limit"),
    ],
)
def test_what_means_nothing_is_named(wrong, named):
    with pytest.raises(ValueError, match=rf"^{named}: should be"):
        Filter.of(**wrong)


def test_one_answer_holds_only_so_many():
    assert Filter.of(limit="99999").limit == Filter.of().limit == MAX_LIMIT
    assert Filter.of(limit="1" * 5000).limit == MAX_LIMIT
    assert Filter.of(limit="007").limit == 7


def test_a_filter_survives_the_way_to_another_process():
    wanted = Filter.of(route="a", status="4xx", method="put", q="x", limit="3", before="0" * 22)
    assert Filter(**wanted.data()) == wanted


# ── latencies ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        ([], {"p50": None, "p90": None, "p99": None}),
        ([0.002], {"p50": 2.0, "p90": 2.0, "p99": 2.0}),
        ([0.003, 0.001, 0.002], {"p50": 2.0, "p90": 3.0, "p99": 3.0}),
        ([each / 1000 for each in range(1, 101)], {"p50": 50.0, "p90": 90.0, "p99": 99.0}),
        ([each / 1000 for each in range(1, 1001)], {"p50": 500.0, "p90": 900.0, "p99": 990.0}),
    ],
)
def test_percentiles_are_those_of_requests_that_there_were(seconds, told):
    assert percentiles(seconds) == told
