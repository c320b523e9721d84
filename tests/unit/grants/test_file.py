"""`file`: a token that somebody else keeps fresh."""

import base64
import json

import pytest

from authproxy.errors import BadTokenReply
from authproxy.grants.file import File
from authproxy.grants.steps import Read

from .talk import NOW, answer, expired, hold, make

GRANT = make(File, path="/run/token")


@pytest.mark.parametrize("old", [None, expired("r")])
def test_the_file_is_read(old):
    (step,), token = hold(GRANT.flow(old), answer(body=b" a\n", place="/run/token"))
    assert step == Read("/run/token")
    assert token.value == "a"


def test_a_byte_order_mark_is_not_part_of_the_token():
    _, token = hold(GRANT.flow(None), answer(body=b"\xef\xbb\xbfa\r\n"))
    assert token.value == "a"


def test_the_expiry_of_a_projected_token_is_known():
    claims = base64.urlsafe_b64encode(json.dumps({"exp": NOW + 3600}).encode()).decode().rstrip("=")
    _, token = hold(GRANT.flow(None), answer(body=f"e30.{claims}.c2ln\n".encode()))
    assert token.lifetime == 3600


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "is empty"), (b" \n", "is empty"), (b"a\nb", "printable ASCII"), (b"\xff", "printable ASCII")],
)
def test_a_file_without_a_token_is_a_failure(content, says):
    with pytest.raises(BadTokenReply, match=says):
        hold(GRANT.flow(None), answer(body=content, place="/run/token"))
