"""`authproxy token`: a token and nothing else, in each of its forms."""

import json

import pytest

from authproxy.app.application import App
from authproxy.cli.token_formats import EXEC_CREDENTIAL_VERSIONS
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


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ("netrc", "machine fixed.example login oauth2 password the-token"),
        ("curl", 'header = "Authorization: Bearer the-token"'),
        ("env", "FIXED_TOKEN=the-token"),
    ],
)
def test_a_line_for_another_tool_is_printed_and_nothing_else(write, run, form, line):
    result = run("token", "fixed", "--format", form, "-c", write())
    assert (result.stdout, result.stderr) == (f"{line}\n", "")


# ── helpers ──────────────────────────────────────────────────────────────────────────────────────

ASKED = "protocol=https\nhost=fixed.example\n\n"


def test_git_is_given_a_name_and_the_token(write, run):
    result = run("token", "fixed", "--format", "git-credential", "get", "-c", write(), input=ASKED)
    assert (result.stdout, result.stderr) == ("username=oauth2\npassword=the-token\n", "")


@pytest.mark.parametrize(
    ("operation", "asked"),
    [
        ("get", ASKED.replace("fixed", "other")),
        ("get", ASKED.replace("https", "http")),
        ("get", ASKED.replace("fixed", "evil.example\vhost=fixed")),
        ("get", ""),
        ("store", ASKED),
        ("erase", ASKED),
        ("some-day", ASKED),
    ],
)
def test_git_is_told_nothing_where_there_is_nothing_to_tell(write, run, operation, asked):
    result = run("token", "fixed", "--format", "git-credential", operation, "-c", write(), input=asked)
    assert (result.stdout, result.stderr) == ("", "")


def test_docker_is_given_a_document(write, run):
    arguments = ("token", "fixed", "--format", "docker-credential", "-c", write())
    assert json.loads(run(*arguments, "get", input="fixed.example\n").stdout) == {
        "ServerURL": "fixed.example", "Username": "oauth2", "Secret": "the-token",
    }  # fmt: skip
    assert json.loads(run(*arguments, "list").stdout) == {"https://fixed.example": "oauth2"}
    for operation in ("store", "erase"):
        assert run(*arguments, operation, input="fixed.example").stdout == ""


def test_docker_learns_that_there_is_nothing_for_another_host(write, run):
    arguments = ("token", "fixed", "--format", "docker-credential", "get", "-c", write())
    result = run(*arguments, input="other.example", exits=1)
    assert result.stdout == "credentials not found in native keychain\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--format", "git-credential"], "needs an operation: get, store, erase"),
        (["--format", "docker-credential"], "needs an operation: get, list, store, erase"),
        (["--format", "docker-credential", "forget"], "unknown operation 'forget': choose from get, list,"),
        (["get"], "unexpected argument 'get': it would belong to --format git-credential or"),
        (["--format", "netrc", "get"], "unexpected argument 'get'"),
    ],
)
def test_an_operation_is_there_where_it_belongs(write, run, arguments, told):
    assert told in run("token", "fixed", *arguments, "-c", write(), exits=2).stderr
