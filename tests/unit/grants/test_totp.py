"""One-time codes: the vectors of RFC 6238, and what vendors hand out."""

import pytest

from authproxy.grants.totp import CODE_PERIOD, code_of

SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"  # RFC 6238, appendix B


@pytest.mark.parametrize(
    ("now", "code"),
    [
        (59, "287082"),
        (1111111109, "081804"),
        (1111111111, "050471"),
        (1234567890, "005924"),
        (2000000000, "279037"),
        (20000000000, "353130"),
    ],
)
def test_a_code_is_that_of_its_period(now, code):
    assert code_of(now // CODE_PERIOD, SECRET) == code


def test_a_secret_of_80_bits_will_do_as_many_vendors_hand_one_out():
    assert code_of(1, "GEZDGNBVGY3TQOJQ") != code_of(2, "GEZDGNBVGY3TQOJQ")


def test_a_secret_may_be_padded_or_not():
    assert code_of(1, "GEZDGNBVGY3TQOI") == code_of(1, "GEZDGNBVGY3TQOI=")
