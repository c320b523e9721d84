"""A login is the whole of it: a name and its password."""

import pytest

from authproxy.demo.accounts import PASSWORD, USERNAME, is_login


@pytest.mark.parametrize(
    ("sent", "right"),
    [
        ((USERNAME, PASSWORD), True),
        ((USERNAME, "wrong"), False),
        (("nobody", PASSWORD), False),
        (None, False),
    ],
)
def test_a_login_is_a_name_with_its_password(sent, right):
    assert is_login(sent, USERNAME, PASSWORD) is right
