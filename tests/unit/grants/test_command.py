"""`command`: each kind of document that a program may print."""

import base64
import json
import time

import pytest
from pydantic import ValidationError

from authproxy.errors import BadTokenReply, CredentialRejected
from authproxy.grants.command import Command
from authproxy.grants.steps import Run

from .talk import NOW, answer, expired, hold, make

GRANT = make(Command, command=["program", "get-token"], default_lifetime=900)


def printed(content, grant=GRANT):
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    _, token = hold(grant.flow(None), answer(body=body, place="program"))
    return token


AZ = {"accessToken": "az", "tokenType": "Bearer", "expiresOn": "2023-11-14 22:23:20.000000", "tenant": "t"}


@pytest.fixture
def west_of_greenwich(monkeypatch):
    """Have local time be two hours behind UTC."""
    monkeypatch.setenv("TZ", "WEST+2")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def exec_credential(**status):
    return {"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1", "status": status}


@pytest.mark.parametrize("old", [None, expired("r")])
def test_the_program_is_run_as_it_is_given(old):
    (step,), _ = hold(GRANT.flow(old), answer(body=b"a"))
    assert step == Run(("program", "get-token"))


@pytest.mark.parametrize(
    ("content", "value", "lifetime"),
    [
        (b"bare\n", "bare", 900),
        (b"12345\n", "12345", 900),
        ({"access_token": "a", "expires_in": 300}, "a", 300),
        ({"access_token": "a"}, "a", 900),
        (exec_credential(token="k"), "k", 900),
        (exec_credential(token="k", expirationTimestamp="2023-11-14T22:23:20Z"), "k", 600),
        (exec_credential(token="k", expirationTimestamp="2023-11-15T00:23:20+02:00"), "k", 600),
        (exec_credential(token="k", expirationTimestamp="2023-11-14T22:23:20.500Z"), "k", 600.5),
        (exec_credential(token="k", expirationTimestamp="2020-01-01T00:00:00Z"), "k", 900),  # gone by
        (exec_credential(token="k", expirationTimestamp="soon"), "k", 900),
        (exec_credential(token="k", expirationTimestamp=None), "k", 900),
        ({"Version": 1, "SessionToken": "s", "Expiration": "2023-11-14T22:23:20Z"}, "s", 600),
        ({"Version": 1, "SessionToken": "s", "Expiration": "2023-11-14T22:23:20"}, "s", 600),
        (AZ | {"expires_on": int(NOW) + 600}, "az", 600),
        (AZ, "az", 7800),  # it has local time
        (AZ | {"expiresOn": "2023-11-14T22:23:20Z"}, "az", 600),
        ({"credential": {"access_token": "g", "token_expiry": "2023-11-14T22:23:20Z"}}, "g", 600),
        ({"token": "g", "expiry": {"datetime": "2023-11-14 22:23:20.000000", "day": 14}}, "g", 600),
        ({"token": "azd", "expiresOn": "2023-11-14T22:23:20Z"}, "azd", 600),
        (b'"quoted"\n', "quoted", 900),
        ("bare".encode("utf-16"), "bare", 900),
        (b"\xef\xbb\xbfbare\r\n", "bare", 900),
        (b'\xef\xbb\xbf{"access_token": "a"}', "a", 900),
    ],
)
def test_every_kind_of_output_is_understood(content, value, lifetime, west_of_greenwich):
    token = printed(content)
    assert token.value == value
    assert token.lifetime == pytest.approx(lifetime)


def test_a_bare_jwt_ends_when_it_says():
    claims = base64.urlsafe_b64encode(json.dumps({"exp": NOW + 60}).encode()).decode().rstrip("=")
    assert printed(f"e30.{claims}.c2ln".encode()).lifetime == 60


@pytest.mark.parametrize(
    ("content", "failure", "says"),
    [
        (b"", BadTokenReply, "printed nothing"),
        (b"\n\n", BadTokenReply, "printed nothing"),
        (b"Hello!\na", BadTokenReply, "printed several lines"),
        (b"gr\xc3\xbcn", BadTokenReply, "printable ASCII"),
        ({}, BadTokenReply, "without a token at /access_token"),
        ([], BadTokenReply, "without a token"),
        (exec_credential(), BadTokenReply, "without a token"),
        (exec_credential(token="a\nb"), BadTokenReply, "printable ASCII"),
        ({"error": "invalid_grant"}, CredentialRejected, "invalid_grant"),
    ],
)
def test_what_holds_no_token_is_a_failure(content, failure, says):
    with pytest.raises(failure, match=says):
        printed(content)


def test_what_a_program_of_ones_own_prints_is_read_as_the_configuration_says():
    grant = make(Command, command=["p"], response={"token": "/0/jwt", "expires_in": "/0/ttl"})
    token = printed([{"jwt": "a", "ttl": 60}], grant)
    assert (token.value, token.lifetime, token.refresh_token) == ("a", 60, None)


@pytest.mark.parametrize("command", [[], [""], ["", "a"]])
def test_a_command_names_a_program(command):
    with pytest.raises(ValidationError):
        make(Command, command=command)


def test_a_command_does_not_print_its_arguments():
    assert "s3cr3t" not in repr(make(Command, command=["program", "--key", "s3cr3t"]))
