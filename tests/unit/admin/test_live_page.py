"""The live page's files: what they are served with, and that they want nothing from anywhere else."""

import re

import pytest
from aiohttp import web

from authproxy.admin.live_page import FILES, HEADERS, TYPES, page_routes

from .talk import Client

NAMES = sorted(each.name for each in FILES.iterdir())
INDEX = (FILES / "index.html").read_text("utf-8")
MODULES = [name for name in NAMES if name.endswith(".js")]


@pytest.fixture
def key_header():
    return {"name": ""}


@pytest.fixture
async def client(key_header):
    application = web.Application()
    application.add_routes(page_routes(lambda: key_header["name"]))
    async with Client(application) as client:
        yield client


def assert_headers(reply):
    for name, value in HEADERS.items():
        assert reply.headers[name.lower()] == value
    assert reply.headers["etag"]


async def test_the_page_comes_with_its_policy_and_is_asked_for_each_time(client):
    reply = await client.ask("/")
    assert (reply.status, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert_headers(reply)
    assert reply.headers["cache-control"] == "no-cache"
    assert reply.text == INDEX


@pytest.mark.parametrize("name", [name for name in NAMES if name != "index.html"])
async def test_every_file_comes_as_what_it_is(client, name):
    reply = await client.ask(f"/page/{name}")
    kind = TYPES["." + name.rpartition(".")[2]]
    assert (reply.status, reply.headers["content-type"]) == (200, f"{kind}; charset=utf-8")
    assert_headers(reply)
    assert reply.body == (FILES / name).read_bytes()


@pytest.mark.parametrize("target", ["/", "/page/main.js"])
async def test_a_head_is_answered_as_the_get_without_its_body(client, target):
    got, head = await client.ask(target), await client.ask(target, method="HEAD")
    assert (head.status, head.body) == (200, b"")
    for name in ("content-type", "content-length", "etag", "content-security-policy"):
        assert head.headers[name] == got.headers[name]


@pytest.mark.parametrize("target", ["/", "/page/page.css"])
async def test_what_the_browser_has_already_is_not_sent_again(client, target):
    tag = (await client.ask(target)).headers["etag"]
    for held in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        reply = await client.ask(target, If_None_Match=held)
        assert (reply.status, reply.body, reply.headers["etag"]) == (304, b"", tag)
        assert_headers(reply)
    assert (await client.ask(target, If_None_Match='"other"')).status == 200


@pytest.mark.parametrize(
    "target", ["/page/", "/page/nothing.js", "/page/index.html", "/page/..%2Fapi.py", "/page/%2e%2e/api.py"]
)
async def test_there_is_nothing_else(client, target):
    assert (await client.ask(target)).status == 404


async def test_the_page_names_the_header_of_the_key_and_is_another_one_then(client, key_header):
    before = await client.ask("/")
    key_header["name"] = "X-'Key'&"
    reply = await client.ask("/", If_None_Match=before.headers["etag"])
    assert reply.status == 200
    assert '<meta name="key-header" content="X-&#x27;Key&#x27;&amp;">' in reply.text


def test_the_policy_lets_nothing_in_from_outside_and_nothing_run_that_is_no_file_of_ours():
    policy = dict(each.split(" ", 1) for each in HEADERS["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "connect-src")} == {"'self'"}
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert (policy["require-trusted-types-for"], policy["trusted-types"]) == ("'script'", "'none'")
    assert "unsafe" not in HEADERS["Content-Security-Policy"]


def test_nothing_is_named_that_is_elsewhere_or_not_there():
    named = re.findall(r'(?:src|href)="([^"#]+)"', INDEX)
    assert {"/page/main.js", "/page/page.css", "/page/icon.svg"} <= set(named)
    assert {each.removeprefix("/page/") for each in named} <= {*NAMES, "/api/status"}
    for name in MODULES:
        source = (FILES / name).read_text("utf-8")
        assert set(re.findall(r'from "\./([^"]+)"', source)) <= set(NAMES)
    for name in NAMES:
        text = (FILES / name).read_text("utf-8").replace('"http://www.w3.org/2000/svg"', "")
        assert not re.findall(r"https?://[\w.]+\.\w+", text), name
        assert "url(" not in text
        assert "@import" not in text


def test_no_script_and_no_style_stands_in_the_page():
    assert re.findall(r"<script[^>]*>", INDEX) == ['<script type="module" src="/page/main.js">']
    assert "<style" not in INDEX
    assert not re.findall(r"\s(style|on\w+)=", INDEX)


@pytest.mark.parametrize("name", MODULES)
def test_what_comes_from_the_proxy_only_ever_becomes_text(name):
    source = (FILES / name).read_text("utf-8")
    unsafe = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\(|Function\(|srcdoc"
    assert not re.findall(unsafe, source)
