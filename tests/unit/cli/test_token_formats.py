"""The forms of a token: what each tool reads back is what was meant."""

import netrc
import shlex
import subprocess
from types import SimpleNamespace

import pytest

from authproxy.cli import token_formats as forms
from authproxy.grants.requests import basic_value
from authproxy.grants.static import Basic, Static
from authproxy.tokens.token import Token

ODD = "a\"b\\c d#e'$f"
TOKENS = ["plain-token_1.2~3", ODD]


def route(upstream="https://api.example.com/base", *, name="my-api", **keys):
    return SimpleNamespace(name=name, upstream=upstream, grant=Static(token="x", **keys))


@pytest.mark.parametrize("value", [*TOKENS, ""])
def test_a_line_of_netrc_is_read_back(tmp_path, value):
    file = tmp_path / "netrc"
    file.write_text(forms.netrc(Token(value), route()) + "\nmachine other login a password b\n")
    assert netrc.netrc(str(file)).authenticators("other") == ("a", "", "b")
    assert netrc.netrc(str(file)).authenticators("api.example.com") == ("oauth2", "", value)


@pytest.mark.parametrize("value", TOKENS)
def test_an_assignment_is_what_a_shell_reads(value):
    line = forms.env(Token(value), route())
    read = subprocess.run(
        ["/bin/sh", "-c", f'{line}; printf %s "$MY_API_TOKEN"'], capture_output=True, text=True, check=True
    )
    assert read.stdout == value


@pytest.mark.parametrize(("value", "written"), [("a", "a"), ('a"b\\c', 'a\\"b\\\\c')])
def test_a_line_for_curl_has_the_header_in_quotes(value, written):
    assert forms.curl(Token(value), route(scheme="Token", header="X-T")) == f'header = "X-T: Token {written}"'
    assert shlex.split(forms.curl(Token(value), route()))[2] == f"Authorization: Bearer {value}"


def test_basic_is_a_name_and_a_password():
    there = SimpleNamespace(name="a", upstream="https://a", grant=Basic(username="me", password="p:w"))
    got = Token(basic_value("me", "p:wö"))
    assert forms.login_of(got, there) == forms.Login("me", "p:wö")
    assert forms.docker_list(there) == '{"https://a": "me"}'


@pytest.mark.parametrize("value", ["no base64!", "Zm9v", "/////w=="])
def test_what_only_calls_itself_basic_is_a_token(value):
    assert forms.login_of(Token(value), route(scheme="Basic")) == forms.Login("oauth2", value)


@pytest.mark.parametrize(
    ("upstream", "url", "is_it"),
    [
        ("https://a.example.com/base", "https://a.example.com", True),
        ("https://a.example.com/base", "https://A.example.com:443/some/path", True),
        ("https://a.example.com:8443", "https://a.example.com:8443", True),
        ("https://a.example.com", "a.example.com", True),
        ("https://a.example.com", "a.example.com:443", True),
        ("https://a.example.com", "a.example.com:5000", False),
        ("https://a.example.com", "http://a.example.com", False),
        ("https://a.example.com", "https://a.example.com.evil.example", False),
        ("https://a.example.com", "https://a.example.com@evil.example", False),
        ("https://a.example.com", "https://evil.example/a.example.com", False),
        ("https://a.example.com", "https://a.example.com:port", False),
        ("https://a.example.com", "https://a.example.com?.evil.example", False),
        ("https://a.example.com", "https://a.example.com#.evil.example", False),
        ("https://a.example.com", "https://evil.example\\@a.example.com", False),
        ("https://a.example.com", "https://a.exam\tple.com", False),
        ("https://a.example.com", "", False),
        ("https://a.example.com", "://", False),
        ("http://127.0.0.1:5000", "127.0.0.1:5000", True),
    ],
)
def test_a_helper_knows_its_upstream(upstream, url, is_it):
    assert forms.is_upstream(route(upstream), url) is is_it


def test_what_git_says_is_read_up_to_the_empty_line():
    said = "protocol=https\nhost=a\nhost=b\nodd\npassword=x=y\n\nhost=c\n"
    assert forms.git_asks(said) == {"protocol": "https", "host": "b", "password": "x=y"}


@pytest.mark.parametrize("end", ["\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"])
def test_a_line_of_gits_ends_at_a_line_feed_alone(end):
    said = f"protocol=https\nhost=evil.example{end}host=api.example.com\n"
    assert not forms.git_is_for(route(), forms.git_asks(said))


@pytest.mark.parametrize(
    "host", ["api.example.com/.evil.example", "api.example.com?.evil.example", "evil@api.example.com"]
)
def test_the_host_that_git_names_is_a_host(host):
    assert not forms.git_is_for(route(), {"protocol": "https", "host": host})


def test_git_keeps_its_own_name_and_learns_the_end():
    got = Token("t", expires_at=1_700_000_000.9)
    said = "protocol=https\nhost=api.example.com\nusername=me\n"
    answer = forms.git_credential(got, route(), forms.git_asks(said), said)
    assert answer.splitlines() == ["username=me", "password=t", "password_expiry_utc=1700000000"]


def test_a_git_that_can_send_the_routes_own_scheme_does():
    said = "capability[]=authtype\ncapability[]=state\nprotocol=https\nhost=a\n"
    answer = forms.git_credential(Token("t"), route(), {}, said)
    assert answer.splitlines() == ["capability[]=authtype", "authtype=Bearer", "credential=t", "ephemeral=1"]
    other_header = forms.git_credential(Token("t"), route(header="X-T"), {}, said)
    assert other_header.splitlines() == ["username=oauth2", "password=t"]


@pytest.mark.parametrize(
    ("said", "token"), [("password=a\n", "a"), ("credential=b\n", "b"), ("password=\n", None), ("", None)]
)
def test_what_git_has_erased_is_the_token_that_will_not_do(said, token):
    assert forms.erased(said) == (Token(token) if token else None)
