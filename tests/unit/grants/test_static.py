"""`static`, `basic` and `none`: nothing is asked."""

import base64

import pytest
from pydantic import SecretStr, ValidationError

from authproxy.errors import BadTokenReply
from authproxy.grants.registry import grant_name
from authproxy.grants.static import Basic, NoGrant, Static

from .talk import expired, make


def earned(grant, old=None):
    with pytest.raises(StopIteration) as end:
        next(grant.flow(old))
    return end.value.value


@pytest.mark.parametrize("token", ["a", " a\n"])
def test_a_static_token_is_given_as_it_is(token):
    assert earned(make(Static, token=token)).value == "a"
    assert earned(make(Static, token=token), expired()).value == "a"


def test_a_static_token_holds_until_it_is_refused():
    jwt = "e30.eyJleHAiOiA5OTk5OTk5OTk5fQ.c2ln"  # its exp is in 2286
    assert earned(make(Static, token=jwt)).expires_at == float("inf")


@pytest.mark.parametrize("token", ["a\nb", "grün", "", " "])
def test_a_static_token_that_a_header_cannot_carry_is_refused(token):
    with pytest.raises(BadTokenReply):
        earned(make(Static, token=token))


def test_basic_is_made_of_name_and_password():
    grant = make(Basic, username="joe", password="p:ß")
    assert grant.scheme == "Basic"
    assert base64.b64decode(earned(grant).value).decode() == "joe:p:ß"


def test_a_name_with_a_colon_cannot_be_sent_as_basic():
    with pytest.raises(ValidationError, match="must not contain a colon"):
        make(Basic, username="a:b", password="c")


@pytest.mark.parametrize(
    ("grant", "keys"), [(Static, {"token": "a"}), (Basic, {"username": "a", "password": "b"})]
)
def test_only_a_changed_source_brings_another(grant, keys):
    assert make(grant, **keys).in_configuration
    assert not make(NoGrant).in_configuration


def test_a_grant_knows_what_it_is_called_in_a_file():
    assert grant_name(Static(token=SecretStr("a"))) == "static"
    assert grant_name(NoGrant()) == "none"
