"""`authproxy token`: a token and nothing else, in each of its forms."""

import json

import pytest

from authproxy.app.application import App
from authproxy.cli.token import EXEC_CREDENTIAL_VERSIONS
from authproxy.errors import CredentialRejected, TokenUnavailable
from authproxy.tokens.token import Token

ENDS = 1_700_000_000.9


@pytest.fixture
def ends(monkeypatch):
    """Every token ends at `ENDS`."""

    async def token(_app, _route):
        return Token("the-token", issued_at=ENDS - 300, expires_at=ENDS)

    monkeypatch.setattr(App, "token", token)


def test_a_token_is_printed_and_nothing_else(write, run):
    result = run("token", "fixed", "-c", write())
    assert (result.stdout, result.stderr) == ("the-token\n", "")


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ("", "Authorization: Bearer the-token"),
        (", scheme: Token", "Authorization: Token the-token"),
        (", scheme: '', header: X-Api-Key", "X-Api-Key: the-token"),
    ],
)
def test_the_header_is_printed_as_the_proxy_would_send_it(write, run, keys, line):
    config = write("routes: [{{name: a, upstream: 'https://a.example', auth: "
                   f"{{{{grant: static, token: the-token{keys}}}}}}}}}]")  # fmt: skip
    assert run("token", "a", "--header", "-c", config).stdout == f"{line}\n"


@pytest.mark.parametrize(
    ("asked", "answered"),
    [(version, version) for version in EXEC_CREDENTIAL_VERSIONS] + [("v9", EXEC_CREDENTIAL_VERSIONS[0])],
)
@pytest.mark.usefixtures("ends")
def test_kubectl_gets_the_version_that_it_asks_for(write, run, monkeypatch, asked, answered):
    monkeypatch.setenv("KUBERNETES_EXEC_INFO", json.dumps({"apiVersion": asked}))
    document = json.loads(run("token", "fixed", "--format", "exec-credential", "-c", write()).stdout)
    assert document == {
        "apiVersion": answered,
        "kind": "ExecCredential",
        "status": {"token": "the-token", "expirationTimestamp": "2023-11-14T22:13:20Z"},
    }


@pytest.mark.parametrize("info", ["", "{", "[]", "7", '{"apiVersion": ["v1"]}', "[" * 100_000])
def test_what_kubectl_would_never_say_gets_the_first_version(write, run, monkeypatch, info):
    monkeypatch.setenv("KUBERNETES_EXEC_INFO", info)
    document = json.loads(run("token", "fixed", "--format", "exec-credential", "-c", write()).stdout)
    assert document["apiVersion"] == EXEC_CREDENTIAL_VERSIONS[0]
    assert document["status"] == {"token": "the-token"}  # no end: it has none


@pytest.mark.usefixtures("ends")
def test_a_credential_process_says_when_its_token_ends(write, run):
    assert json.loads(run("token", "fixed", "--format", "credential-process", "-c", write()).stdout) == {
        "Version": 1,
        "AccessKeyId": "fixed",
        "SecretAccessKey": "the-token",
        "SessionToken": "the-token",
        "Expiration": "2023-11-14T22:13:20Z",
    }


def test_a_header_is_no_document(write, run):
    result = run("token", "fixed", "--header", "--format", "exec-credential", "-c", write(), exits=2)
    assert "--header and --format cannot be used together" in result.stderr


def test_a_route_that_is_not_there_is_told_with_those_that_are(write, run):
    result = run("token", "nowhere", "-c", write(), exits=2)
    assert "there is no route 'nowhere'" in result.stderr
    assert "fixed, plain, person" in result.stderr
    assert result.stdout == ""


def held_back(hint):
    error = TokenUnavailable("rejected before", hint=hint, retry_after=16.2)
    error.rejects = True
    return error


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (held_back("mend it"), "mend it; next try in 17 s; --retry-rejected tries now"),
        (held_back(None), "next try in 17 s; --retry-rejected tries now"),
        (TokenUnavailable("down", hint="wait", retry_after=16.2), "wait"),
        (CredentialRejected("no", hint="mend it"), "mend it"),
    ],
)
def test_a_rejected_credential_that_is_left_alone_says_until_when(write, run, monkeypatch, error, hint):
    async def token(_app, _route):
        raise error

    monkeypatch.setattr(App, "token", token)
    with pytest.raises(type(error)) as caught:
        run("token", "fixed", "-c", write())
    assert caught.value.hint == hint


@pytest.mark.parametrize(("flags", "retries"), [([], False), (["--retry-rejected"], True)])
def test_only_who_says_so_tries_a_rejected_credential(write, run, monkeypatch, flags, retries):
    seen = []

    async def token(app, _route):
        seen.append(app._retry_rejected)
        return Token("t")

    monkeypatch.setattr(App, "token", token)
    run("token", "fixed", "-c", write(), *flags)
    assert seen == [retries]
