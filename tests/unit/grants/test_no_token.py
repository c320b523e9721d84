"""What came instead of a token: the names of fields are told, values never."""

import json

import pytest

from authproxy.grants.no_token import MAX_FIELDS, field_pointers, no_token
from authproxy.grants.steps import Answer


def told(document, *, body=None, headers=None):
    body = json.dumps(document).encode() if body is None else body
    answer = Answer(body, 0.0, "https://id.example/token", headers=headers or {})
    return no_token(answer, document, "/access_token", secrets=["s3cr3t-word"])


def test_fields_are_named_and_values_are_not():
    cause, hint = told({"token": "value-one", "data": {"id": 7}})
    assert "the fields there are /token, /data/id" in cause
    assert "value-one" not in cause
    assert hint == "if that is where the token is, set `response: {token: /token}`"


@pytest.mark.parametrize(
    "document", [{"a": 1}, {"x_token": 1, "y_token": 2}, {"refresh_token": "x"}, [], "x"]
)
def test_where_no_field_is_the_likely_one_none_is_proposed(document):
    assert told(document)[1] == "`response.token` says where the reply has the token"


def test_a_page_is_called_a_page():
    cause, hint = told(None, body=b"<html><form>", headers={"Content-Type": "text/html"})
    assert "an HTML page" in cause
    assert "check the URL" in hint


@pytest.mark.parametrize(("body", "says"), [(b"", "nothing"), (b"token=1", "what is not JSON")])
def test_what_is_no_json_is_called_so(body, says):
    assert says in told(None, body=body)[0]


def test_keys_that_may_be_data_or_secrets_are_not_told():
    assert field_pointers({"maria@example.com": 1, "ok": 2}) == ["/ok"]
    assert "s3cr3t-word" not in told({"s3cr3t-word": 1})[0]


def test_a_long_list_is_cut():
    assert len(field_pointers({f"f{number}": 1 for number in range(50)})) == MAX_FIELDS + 1
