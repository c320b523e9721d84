"""A tool that follows what an upstream says of itself stays on the proxy, and has the credential there."""

import json
import re
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit
from urllib.request import HTTPCookieProcessor, HTTPHandler, OpenerDirector, ProxyHandler, build_opener

import pytest
import trustme

from tests.support.command import RunningProxy, authproxy, running_proxy
from tests.support.launch import GUARD
from tests.support.wire import Message, Upstream, Wire, ask, connect, get, reply, request

AUTH = {"grant": "static", "token": "t0ken"}
LIES = "the path of the upstream, and not of the proxy"


class API(Upstream):
    """Lets in who has the token; `said` is what it answers under which path, 200 under any other."""

    def __init__(self, **keys: Any) -> None:
        super().__init__(self._judge, **keys)
        self.said: dict[str, bytes] = {}

    def _judge(self, came: Message, _wire: Wire) -> bytes:
        if came.one("Authorization") != "Bearer t0ken":
            return reply(401, body=b"who are you?")
        return self.said.get(came.target, reply(body=f"this is {came.target}".encode()))

    def redirects(self, path: str, *lines: str, status: int = 302) -> None:
        self.said[path] = reply(status, *lines)

    @property
    def asked(self) -> list[str]:
        """What was asked for, by whoever had the token."""
        return [came.target for came in self.requests if came.one("Authorization")]

    def reset(self) -> None:
        super().reset()
        self.said = {}


@dataclass
class World:
    """A proxy with a route for each way of being mounted, before one API."""

    proxy: RunningProxy
    api: API
    other: API
    socket: str

    @property
    def url(self) -> str:
        return self.proxy.url

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    @property
    def authority(self) -> str:
        return urlsplit(self.url).netloc


def routes(api: str, other: str, **keys: Any) -> list[dict[str, Any]]:
    mounted: list[dict[str, Any]] = [
        {"name": "up42", "path": "/up42", "upstream": f"{api}/v2"},
        {"name": "left-alone", "path": "/left-alone", "upstream": f"{api}/v2", "rewrite": False},
        {"name": "kept", "path": "/kept", "upstream": f"{api}/v2", "strip_path": False},
        {"name": "bare", "path": "/bare", "upstream": api},
        {"name": "hosted", "host": "hosted.localhost", "upstream": f"{api}/v2"},
        {"name": "named", "path": "/named", "upstream": api, "preserve_host": True},
        {"name": "other", "path": "/other", "upstream": other},
    ]
    return [{"auth": AUTH, **keys, **each} for each in mounted]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    socket = str(tmp_path_factory.mktemp("socket") / "s")
    with API() as api, API() as other:
        config = {"listen": ["127.0.0.1:0", f"unix:{socket}"], "routes": routes(api.url, other.url)}
        with running_proxy(config) as proxy:
            yield World(proxy, api, other, socket)
            assert proxy.stop() == 0
            assert "internal error" not in proxy.log()


@pytest.fixture
def world(started: World) -> World:
    started.api.reset()
    started.other.reset()
    return started


def curl(*args: str) -> tuple[str, str]:
    """Run curl; return the body, and the URL that it ended up at."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    done = subprocess.run(
        ["curl", "-q", "-sS", "--noproxy", "*", "--max-time", str(GUARD), "-w", "\n%{url_effective}", *args],
        capture_output=True, timeout=2 * GUARD, check=True,
    )  # fmt: skip
    body, _, url = done.stdout.decode("utf-8", "surrogateescape").rpartition("\n")
    return body, url


# ── redirects, followed by curl ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "location",
    ["{api}/v2/jobs/7?page=2#top", "//{authority}/v2/jobs/7?page=2", "/v2/jobs/7?page=2", "jobs/7?page=2",
     "../v2/jobs/7?page=2", "/x/../v2/jobs/7?page=2"],
)  # fmt: skip
def test_curl_follows_a_redirect_and_stays_on_the_proxy(world: World, location: str) -> None:
    said = location.format(api=world.api.url, authority=urlsplit(world.api.url).netloc)
    world.api.redirects("/v2/start", f"Location: {said}")
    body, url = curl("-L", f"{world.url}/up42/start")
    assert body == "this is /v2/jobs/7?page=2"
    assert url.partition("#")[0] == f"{world.url}/up42/jobs/7?page=2"
    assert world.api.asked == ["/v2/start", "/v2/jobs/7?page=2"]


def test_where_it_is_turned_off_curl_leaves_the_proxy_and_has_no_credential(world: World) -> None:
    world.api.redirects("/v2/start", f"Location: {world.api.url}/v2/next")
    body, url = curl("-L", f"{world.url}/left-alone/start")
    assert (body, url) == ("who are you?", f"{world.api.url}/v2/next")


def test_curl_follows_a_redirect_with_raw_utf_8_in_it(world: World) -> None:
    utf8 = "/v2/caf\xc3\xa9"
    world.api.redirects("/v2/start", f"Location: {utf8}")
    body, _ = curl("-L", f"{world.url}/up42/start")
    assert body.lower() == "this is /v2/caf%c3%a9"


@pytest.mark.parametrize(
    ("asked", "location", "ends_at"),
    [
        ("/bare", "next", "/next"),  # the bare mount is / to the upstream
        ("/bare/a", "../next", "/next"),
        ("/bare/a/b/c", "../next", "/a/next"),
        ("/bare/", "/bare/next", "/bare/next"),
        ("/kept/a", "/v2/kept/next", "/v2/kept/next"),
        ("/kept/a", "next", "/v2/kept/next"),
        ("/up42", "v2/next", "/v2/next"),
    ],
)
def test_curl_ends_where_the_upstream_meant_it_to(
    world: World, asked: str, location: str, ends_at: str
) -> None:
    world.api.answer = lambda came, _wire: (
        reply(200, body=came.target.encode())
        if "next" in came.target
        else reply(302, f"Location: {location}")
    )
    body, url = curl("-L", world.url + asked)
    assert body == ends_at
    assert url.startswith(world.url + re.match("/[a-z0-9]+", asked)[0])  # type: ignore[index]
    assert len(world.api.requests) == 2


def test_a_post_that_is_sent_on_arrives_with_its_body_and_the_credential(world: World) -> None:
    world.api.redirects("/v2/start", f"Location: {world.api.url}/v2/next", status=307)
    curl("-L", "-d", "hello", f"{world.url}/up42/start")
    assert [(came.method, came.body) for came in world.api.requests] == [("POST", b"hello")] * 2
    assert world.api.asked == ["/v2/start", "/v2/next"]


def test_a_route_with_a_host_of_its_own_keeps_it(world: World) -> None:
    world.api.redirects("/v2/start", f"Location: {world.api.url}/v2/next")
    with_port = f"http://hosted.localhost:{world.port}"
    body, url = curl("-L", f"{with_port}/start")
    assert (body, url) == ("this is /v2/next", f"{with_port}/next")
    said = get(world.url, "/start", host="hosted.localhost").one("Location")
    assert said == "http://hosted.localhost/next"
    body, url = curl("-L", "--noproxy", "", "-x", world.url, "http://hosted.localhost/start")
    assert (body, url) == ("this is /v2/next", "http://hosted.localhost/next")


def test_an_upstream_that_is_told_the_callers_host_may_call_itself_that(world: World) -> None:
    def answer(came: Message, _wire: Wire) -> bytes:
        if came.path == "/next":
            return reply(body=b"there")
        return reply(302, f"Location: https://{came.one('Host')}/next")

    world.api.answer = answer
    assert curl("-L", f"{world.url}/named/start") == ("there", f"{world.url}/named/next")


def test_a_unix_socket_is_called_what_the_caller_called_it(world: World) -> None:
    world.api.redirects("/v2/start", f"Location: {world.api.url}/v2/next")
    body, url = curl("-L", "--unix-socket", world.socket, "http://localhost/up42/start")
    assert (body, url) == ("this is /v2/next", "http://localhost/up42/next")


def test_behind_tls_curl_is_sent_to_https(tmp_path: Path) -> None:
    ca = trustme.CA()
    issued = ca.issue_cert("localhost")
    chain, key, ca_file = tmp_path / "chain.pem", tmp_path / "key.pem", tmp_path / "ca.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(key))
    ca.cert_pem.write_to_path(str(ca_file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    with API(tls=context) as api:
        config = {
            "tls": {"cert_file": str(chain), "key_file": str(key)},
            "routes": routes(api.url, api.url, tls={"ca_file": str(ca_file)}),
        }
        with running_proxy(config) as proxy:
            api.redirects("/v2/start", f"Location: {api.url}/v2/next")
            here = f"https://localhost:{urlsplit(proxy.url).port}"
            body, url = curl("-L", "--cacert", str(ca_file), f"{here}/up42/start")
    assert (body, url) == ("this is /v2/next", f"{here}/up42/next")


# ── cookies ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "attributes",
    [
        "; Domain=127.0.0.1; Path=/v2",
        "; Path=/; HttpOnly",
        "; Domain=127.0.0.1",
        "; Path=/v2/jobs; SameSite=Lax",
    ],
)
def test_a_cookie_in_curls_jar_goes_to_its_own_route_and_to_no_other(
    world: World, tmp_path: Path, attributes: str
) -> None:
    jar = str(tmp_path / "jar")
    world.api.redirects("/v2/jobs", f"Set-Cookie: sid=5ecret{attributes}", status=200)
    for target in ("/up42/jobs", "/up42/jobs/7", "/other/jobs", "/bare/jobs"):
        curl("-c", jar, "-b", jar, f"http://localhost:{world.port}{target}")
    cookies = [(came.target, came.one("Cookie")) for came in world.api.requests]
    assert cookies == [("/v2/jobs", None), ("/v2/jobs/7", "sid=5ecret"), ("/jobs", None)]
    assert world.other.last.one("Cookie") is None


@pytest.mark.parametrize("clients", ["curl", "cookiejar"])
@pytest.mark.parametrize(
    "attributes",
    ["; Path=/other", "; Path=/v2/other", '; Path="/other"', "; Path=/other; Path=/v2",
     "; Path=/; Path=/other", "; Domain=localhost; Path=/other", "; Path=/kept/../other",
     "; path=/up42; Secure=no"],
)  # fmt: skip
@pytest.mark.parametrize("mount", ["kept", "up42"])
def test_no_cookie_goes_to_the_route_that_its_upstream_names(
    world: World, tmp_path: Path, mount: str, attributes: str, clients: str
) -> None:
    set_cookie = reply(200, f"Set-Cookie: sid=5ecret{attributes}")
    world.api.answer = lambda came, _wire: reply() if came.path == "/x" else set_cookie
    jar, client = str(tmp_path / "jar"), opener(CookieJar())
    for target in (f"/{mount}/x", "/other/x", "/bare/x", "/up42/x" if mount == "kept" else "/kept/x"):
        if clients == "curl":
            curl("-c", jar, "-b", jar, f"http://localhost:{world.port}{target}")
        else:
            client.open(world.url + target, timeout=GUARD).close()
    assert [came.one("Cookie") for came in [*world.api.requests, *world.other.requests]] == [None] * 4


@pytest.mark.parametrize("domain", ["team.localhost", ".Team.Localhost", "localhost", "a.team.localhost"])
def test_no_cookie_goes_to_the_host_of_another_route(tmp_path: Path, domain: str) -> None:
    jar = str(tmp_path / "jar")
    with API() as api, API() as other:
        named = [("a.team.localhost", api), ("b.team.localhost", other), ("x.a.team.localhost", other)]
        hosted = [
            {"name": f"r{number}", "host": host, "upstream": upstream.url, "auth": AUTH}
            for number, (host, upstream) in enumerate(named)
        ]
        api.redirects("/x", f"Set-Cookie: sid=5ecret; Domain={domain}; Path=/", status=200)
        with running_proxy({"routes": hosted}) as proxy:
            port = urlsplit(proxy.url).port
            for host, _ in [*named, named[0]]:
                curl("-c", jar, "-b", jar, f"http://{host}:{port}/x")
        assert [came.one("Cookie") for came in api.requests] == [None, "sid=5ecret"]
        assert [came.one("Cookie") for came in other.requests] == [None, None]


def test_without_rewriting_that_cookie_does_not_come_back(world: World, tmp_path: Path) -> None:
    jar = str(tmp_path / "jar")
    world.api.redirects("/v2/jobs", "Set-Cookie: sid=5ecret; Domain=127.0.0.1; Path=/v2", status=200)
    for _ in range(2):
        curl("-c", jar, "-b", jar, f"http://localhost:{world.port}/left-alone/jobs")
    assert [came.one("Cookie") for came in world.api.requests] == [None, None]


def opener(jar: CookieJar) -> OpenerDirector:
    return build_opener(ProxyHandler({}), HTTPHandler(), HTTPCookieProcessor(jar))


def test_a_cookie_for_the_bare_mount_stays_in_the_mount(world: World) -> None:
    """Without a path it would be for /: for every route."""
    world.api.redirects("/", "Set-Cookie: sid=5ecret", status=200)
    client = opener(CookieJar())
    for target in ("/bare", "/bare/x", "/other/x", "/up42/x"):
        client.open(world.url + target, timeout=GUARD).close()
    cookies = {came.target: came.one("Cookie") for came in world.api.requests}
    assert cookies == {"/": None, "/x": "sid=5ecret", "/v2/x": None}
    assert world.other.last.one("Cookie") is None


def test_a_login_with_a_redirect_and_a_session_works_through_the_proxy(world: World) -> None:
    def answer(came: Message, _wire: Wire) -> bytes:
        if came.path == "/v2/login":
            session = (
                "Set-Cookie: session=1; Domain=127.0.0.1; Path=/v2; Expires=Wed, 21 Oct 2099 07:28:00 GMT"
            )
            return reply(303, session, f"Location: {world.api.url}/v2/home")
        return reply(body=f"cookie: {came.one('Cookie')}".encode())

    world.api.answer = answer
    with opener(CookieJar()).open(f"{world.url}/up42/login", data=b"user=me", timeout=GUARD) as page:
        assert page.read() == b"cookie: session=1"
        assert page.url == f"{world.url}/up42/home"


# ── links ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "form", ["{api}/v2/items?page={n}", "/v2/items?page={n}", "?page={n}", "items?page={n}"]
)
def test_pages_are_followed_to_the_end_by_their_links(world: World, form: str) -> None:
    last = 4

    def answer(came: Message, _wire: Wire) -> bytes:
        page = int(came.target.partition("page=")[2] or 1)
        links = [f'<{form.format(api=world.api.url, n=1)}>; rel="first"; title="<{LIES}>, </v2/x>; rel=next"']
        if page < last:
            links.append(f"<{form.format(api=world.api.url, n=page + 1)}>; rel=next")
        return reply(200, f"Link: {', '.join(links)}", body=b"%d" % page)

    world.api.answer = answer
    client, url, pages = opener(CookieJar()), f"{world.url}/up42/items", []
    while url and len(pages) < 2 * last:
        with client.open(url, timeout=GUARD) as page:
            pages.append(int(page.read()))
            said = re.sub('"[^"]*"', "", page.headers["Link"])
            following = re.search("<([^>]*)>; rel=next", said)
            url = urljoin(page.url, following[1]) if following else ""
    assert pages == [1, 2, 3, 4]
    assert len(world.api.asked) == last


# ── every kind of answer ─────────────────────────────────────────────────────────────────────────

SAID = [
    "x-first: /v2/x",
    "location: /v2/a",
    "Set-Cookie: a=1; path=/v2 ;Secure",
    "Content-Location: {api}/v2/b",
    "Link: </v2/c>; rel=next, <https://other.example/v2/d>",
    "set-cookie: b=2; Domain=other.example",
    "LINK: </v2/e>;rel=prev",
    "Refresh: 5; url=/v2/f",
]
COMES_BACK = [
    "x-first: /v2/x",
    "location: /up42/a",
    "Set-Cookie: a=1; path=/up42 ;Secure",
    "Content-Location: http://localhost/up42/b",
    "Link: </up42/c>; rel=next, <https://other.example/v2/d>",
    "set-cookie: b=2; Domain=other.example",
    "LINK: </up42/e>;rel=prev",
    "Refresh: 5; url=/v2/f",
]


def said_by(world: World) -> list[str]:
    return [line.format(api=world.api.url) for line in SAID]


def lines_of(answer: Message) -> list[str]:
    lines = [f"{name.decode()}: {value.decode()}" for name, value in answer.headers]
    own = ("Content-Length", "Transfer-Encoding", "Connection")
    return [line for line in lines if not line.startswith(own)]


def warm(wire: Wire) -> None:
    """Have a connection to the upstream at hand, so that the next answer takes the fast path."""
    assert wire.send(request("GET", "/up42/warm")).answer().status == 200


def test_an_answer_that_is_all_there_is_rewritten_line_by_line(world: World) -> None:
    world.api.said["/v2/x"] = reply(302, *said_by(world), body=b"moved: /v2/a")
    with connect(world.url) as wire:
        warm(wire)
        answer = wire.send(request("GET", "/up42/x")).answer()
    assert lines_of(answer) == COMES_BACK
    assert answer.body == b"moved: /v2/a"  # a body is never touched


@pytest.mark.parametrize("framing", ["Content-Length: 10", "Transfer-Encoding: chunked", "Connection: close"])
def test_an_answer_that_is_still_coming_is_rewritten_the_same(world: World, framing: str) -> None:
    may_end = threading.Event()

    def answer(came: Message, wire: Wire) -> bytes | None:
        if came.path == "/v2/warm":
            return reply()
        head = "\r\n".join(["HTTP/1.1 201 Created", *said_by(world), framing]).encode() + b"\r\n\r\n"
        chunked = "chunked" in framing
        wire.send(head + (b"5\r\nhello\r\n" if chunked else b"hello"))
        assert may_end.wait(GUARD)
        wire.send(b"5\r\nworld\r\n0\r\n\r\n" if chunked else b"world")
        return None

    world.api.answer = answer
    with connect(world.url) as wire:
        warm(wire)
        head = wire.send(request("GET", "/up42/x")).head()
        assert lines_of(head) == COMES_BACK
        may_end.set()
        assert wire.until(b"world").endswith(b"world")


def test_an_answer_to_head_is_rewritten_too(world: World) -> None:
    world.api.said["/v2/x"] = reply(302, *said_by(world)).replace(b"Length: 0", b"Length: 12")
    answer = ask(world.url, request("HEAD", "/up42/x"))
    assert lines_of(answer) == COMES_BACK
    assert answer.one("Content-Length") == "12"


def test_a_switch_of_protocols_is_rewritten_too(world: World) -> None:
    lines = ["Connection: Upgrade", "Upgrade: echo", "Set-Cookie: a=1; Path=/v2"]
    head = "\r\n".join(["HTTP/1.1 101 Switching Protocols", *lines]).encode() + b"\r\n\r\n"
    world.api.says(head, then_close=True)
    with connect(world.url) as wire:
        wire.send(request("GET", "/up42/x", "Connection: Upgrade", "Upgrade: echo"))
        answer = wire.head()
    assert answer.status == 101
    assert answer.one("Set-Cookie") == "a=1; Path=/up42"


def test_what_is_left_alone_comes_back_to_the_byte(world: World) -> None:
    world.api.said["/v2/x"] = reply(302, *said_by(world))
    assert lines_of(get(world.url, "/left-alone/x")) == said_by(world)


def test_the_effective_routes_say_whether_they_rewrite() -> None:
    config = {"routes": routes("https://api.example.com", "https://other.example.com")}
    shown = json.loads(authproxy("routes", "--json", config=config).stdout)
    assert {
        route["name"]: route["rewrite"] for route in shown if route["name"] in {"up42", "left-alone"}
    } == {
        "up42": True,
        "left-alone": False,
    }
