"""Moments as documents tell them."""

import pytest

from authproxy.times import rfc3339


@pytest.mark.parametrize(
    ("moment", "told"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_700_000_000.1239, "2023-11-14T22:13:20.123Z"),
        (253402300799, "9999-12-31T23:59:59.000Z"),
        (253402300800, None),  # no calendar has it
        (-1, None),
        (float("inf"), None),
        (float("nan"), None),
        (None, None),
    ],
)
def test_a_moment_is_told_in_utc_to_the_millisecond(moment, told):
    assert rfc3339(moment) == told
