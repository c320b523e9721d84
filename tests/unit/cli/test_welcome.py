"""What `run` tells a person. Nothing is served."""

import pytest

from authproxy.cli.calling import URLs
from authproxy.cli.welcome import MAX_ROUTES, example, page_url, welcome
from authproxy.config.read import parse
from tests.support.systems import of_unix

LOGIN = "{grant: authorization_code, issuer: 'https://id.example', client_id: c}"


def config(*routes, top=""):
    lines = [f"- {{upstream: 'https://a.example', auth: {{grant: none}}, {each}}}" for each in routes]
    return parse("\n".join([top, "routes:", *lines]), "proxy.yaml")


def said(capsys, config, admin="http://127.0.0.1:8081"):
    welcome(config, URLs(("http://127.0.0.1:8080",)), admin)
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def test_it_names_the_file_the_routes_the_page_and_a_line_to_try(capsys):
    assert said(capsys, config("name: a, path: /a", "name: longer, path: /b")) == [
        "",
        "configuration  proxy.yaml",
        "",
        "  a       http://127.0.0.1:8080/a  → https://a.example",
        "  longer  http://127.0.0.1:8080/b  → https://a.example",
        "",
        "page  http://127.0.0.1:8081/",
        "try   curl http://127.0.0.1:8080/a/",
    ]


def test_it_says_how_the_forward_proxy_is_used(capsys):
    welcome(config("name: a"), URLs(("http://127.0.0.1:8080",), forward="HTTPS_PROXY=http://x:1"), None)
    assert "forward  HTTPS_PROXY=http://x:1" in capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(
    ("admin", "how"),
    [("http://127.0.0.1:8081", "http://127.0.0.1:8081/login/a"), (None, "authproxy login a -c proxy.yaml")],
)
def test_a_login_is_told_as_it_can_be_done(capsys, admin, how):
    found = parse(f"routes: [{{name: a, upstream: 'https://a.example', auth: {LOGIN}}}]", "proxy.yaml")
    assert any(line.endswith(f"needs a login, once: {how}") for line in said(capsys, found, admin))


def test_of_many_routes_some_are_listed(capsys):
    lines = said(capsys, config(*(f"name: r{index}, path: /r{index}" for index in range(MAX_ROUTES + 2))))
    assert "  … and 2 more: authproxy routes -c proxy.yaml" in lines


def test_the_key_is_explained_and_not_told(capsys):
    lines = said(capsys, config("name: a", top="access: {tokens: [a-key-of-twenty-characters-or-more]}"))
    assert lines[-1].strip() == "where $KEY is one of access.tokens"
    assert "a-key-of" not in "".join(lines)


@pytest.mark.parametrize(
    ("top", "admin", "page"),
    [
        ("", "http://0.0.0.0:81", "http://127.0.0.1:81/"),
        ("", "unix:/run/a", None),
        ("", None, None),
        of_unix("listen: unix:/run/a", "http://127.0.0.1:81", None),
    ],
)
def test_the_page_is_named_where_a_browser_can_open_it(top, admin, page):
    assert page_url(config("name: a", top=top), admin) == page


@pytest.mark.parametrize(
    ("allow", "tried"),
    [
        ("{}", ("GET", "/")),
        ("{paths: ['/v2/**']}", ("GET", "/v2/")),
        ("{paths: ['!/**']}", ("GET", "/")),
        ("{methods: [HEAD]}", ("HEAD", "/")),
        ("{methods: [POST]}", ("GET", "/")),
    ],
)
def test_what_is_tried_is_allowed_if_anything_harmless_is(allow, tried):
    found = config(f"name: a, allow: {allow}")
    assert example(found.routes) == (found.routes[0], *tried)


def test_of_several_the_first_that_lets_something_through_is_tried():
    found = config("name: a, allow: {methods: [POST]}", "name: b, path: /b")
    assert example(found.routes)[0].name == "b"


def test_a_route_with_an_address_of_its_own_is_told_by_that(capsys):
    made = config("name: a, listen: '127.0.0.1:7'", "name: b, path: /b")
    welcome(made, URLs(("http://127.0.0.1:8080",), {"a": "http://127.0.0.1:7"}), None)
    lines = capsys.readouterr().err.splitlines()
    assert "  a  http://127.0.0.1:7       → https://a.example" in lines
    assert lines[-1] == "try   curl http://127.0.0.1:7/"
