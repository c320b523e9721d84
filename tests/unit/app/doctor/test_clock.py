"""Whether two clocks agree."""

import pytest

from authproxy.app.doctor.clock import judge_clock, shown


def test_a_skew_is_told_with_its_side():
    assert judge_clock(20, "id.example").ok
    behind, ahead = judge_clock(7200, "id.example"), judge_clock(-40, "id.example")
    assert behind.cause == "this machine's clock is 2 hours behind that of id.example"
    assert ahead.cause == "this machine's clock is 40 s ahead of that of id.example"
    assert "NTP" in ahead.next


@pytest.mark.parametrize(("seconds", "text"), [(40, "40 s"), (150, "2 minutes"), (3 * 86400, "3 days")])
def test_a_span_is_told_in_its_unit(seconds, text):
    assert shown(seconds) == text
