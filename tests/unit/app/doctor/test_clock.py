"""Whether two clocks agree."""

import pytest

from authproxy.app.doctor.clock import judge_clock, shown, skew

NOON = 1_700_000_000.0
DATE = "Tue, 14 Nov 2023 22:13:20 GMT"  # NOON


@pytest.mark.parametrize(
    ("asked", "answered", "seconds"),
    [
        (NOON, NOON + 1, 0),
        (NOON + 0.9, NOON + 2, 0),  # a header has whole seconds
        (NOON - 100, NOON - 99, 99),
        (NOON + 100, NOON + 101, -100),
        (NOON - 5, NOON + 5, 0),  # a slow answer
    ],
)
def test_the_skew_is_what_the_time_under_way_does_not_explain(asked, answered, seconds):
    assert skew({"Date": DATE}, asked, answered) == seconds


@pytest.mark.parametrize("headers", [{}, {"Date": "yesterday"}, {"Date": ""}])
def test_who_does_not_say_the_time_is_not_judged(headers):
    assert skew(headers, NOON, NOON) is None


def test_a_skew_is_told_with_its_side():
    assert judge_clock(20, "id.example").ok
    behind, ahead = judge_clock(7200, "id.example"), judge_clock(-40, "id.example")
    assert behind.cause == "this machine's clock is 2 hours behind that of id.example"
    assert ahead.cause == "this machine's clock is 40 s ahead of that of id.example"
    assert "NTP" in ahead.next


@pytest.mark.parametrize(("seconds", "text"), [(40, "40 s"), (150, "2 minutes"), (3 * 86400, "3 days")])
def test_a_span_is_told_in_its_unit(seconds, text):
    assert shown(seconds) == text
