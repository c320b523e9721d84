"""URLs in bodies, over the wire: what comes back pointing here, and what that means for the head."""

import gzip
import json
import re
import signal
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from tests.support.beside import python, run_beside
from tests.support.command import RunningProxy, authproxy, running_proxy, wait_until
from tests.support.forward import Named, forwarding, inside, route
from tests.support.installed import need
from tests.support.launch import GUARD
from tests.support.wire import Message, Upstream, Wire, ask, chunked, connect, get, json_reply, reply, request

from .test_streams import MIB, memory, needs_proc

AUTH = {"grant": "static", "token": "t0ken"}
ELSES = {"grant": "static", "token": "an0ther"}
TYPES = ["application/json", "application/*+json"]
DIGESTS = [
    "Digest: sha-256=x", "Content-Digest: sha-256=:x:", "Repr-Digest: sha-256=:x:", "Content-MD5: x",
    "Accept-Ranges: bytes",
]  # fmt: skip


class API(Upstream):
    """Answers what `said` has for a path, whoever asks; it closes where that says so."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.said: dict[str, bytes] = {}

    def _answer(self, came: Message, _wire: Wire) -> bytes:
        return self.said.get(came.path, reply(404))

    def says_of(self, path: str, document: object, *lines: str, status: int = 200) -> None:
        self.said[path] = json_reply(document, status, *lines)

    def reset(self) -> None:
        super().reset()
        self.said = {}


@dataclass
class World:
    """A proxy before two APIs, with a route for each way of being mounted."""

    proxy: RunningProxy
    api: API
    other: API
    socket: str

    @property
    def url(self) -> str:
        return self.proxy.url

    def own(self, route: str) -> str:
        return self.proxy.own[route]


def routes(api: str, other: str) -> list[dict[str, Any]]:
    bodies = {"rewrite": {"bodies": TYPES}}
    short = {"rewrite": {"bodies": TYPES, "max": 1024}}
    only = {"rewrite": {"headers": False, "bodies": TYPES}}
    return [
        {"name": "api", "path": "/api", "upstream": f"{api}/v2", **bodies},
        {"name": "left-alone", "path": "/left-alone", "upstream": f"{api}/left"},
        {"name": "kept", "path": "/kept", "strip_path": False, "upstream": f"{api}/keeps", **bodies},
        {"name": "named", "path": "/named", "upstream": f"{api}/named", "preserve_host": True, **bodies},
        {"name": "short", "path": "/short", "upstream": f"{api}/short", **short},
        {"name": "only", "path": "/only", "upstream": f"{api}/only", **only},
        {
            "name": "texts",
            "path": "/texts",
            "upstream": f"{api}/texts",
            "rewrite": {"bodies": ["text/plain"]},
        },
        {"name": "sts", "path": "/sts", "upstream": f"{other}/sts"},
        {"name": "hosted", "host": "hosted.localhost", "upstream": f"{other}/hosted"},
        {"name": "own", "listen": "127.0.0.1:0", "upstream": f"{other}/own", **bodies},
        {"name": "both", "path": "/both", "listen": "127.0.0.1:0", "upstream": f"{other}/both", **bodies},
        {"name": "foreign", "path": "/foreign", "upstream": f"{other}/foreign", "auth": ELSES, **bodies},
    ]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    socket = str(tmp_path_factory.mktemp("socket") / "s")
    with API() as api, API() as other:
        made = [{"auth": AUTH, **each} for each in routes(api.url, other.url)]
        config = {
            "listen": ["127.0.0.1:0", f"unix:{socket}"],
            "admin": {"listen": "127.0.0.1:0"},
            "routes": [{**each, "inspect": {"bodies": "64KiB"}} for each in made],
        }
        with running_proxy(config) as proxy:
            yield World(proxy, api, other, socket)
            assert proxy.stop() == 0
            assert "internal error" not in proxy.log()


@pytest.fixture
def world(started: World) -> World:
    started.api.reset()
    started.other.reset()
    return started


def answered(world: World, target: str, *lines: str, url: str = "", host: str = "localhost:80") -> Any:
    """Return the document that is answered to a GET."""
    return get(url or world.url, target, *lines, host=host).json


# ── where it leads ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("said", "comes_back"),
    [
        ("{api}/v2/items?page=2#x", "http://localhost:80/api/items?page=2#x"),
        ("{api}/v2", "http://localhost:80/api"),
        ("{api}/v2?x", "http://localhost:80/api?x"),
        ("{api}/v2/", "http://localhost:80/api/"),
        ("{other}/sts/v1", "http://localhost:80/sts/v1"),
        ("{other}/hosted/v1", "http://hosted.localhost:80/v1"),
        ("{other}/own/v1", "{at_own}/v1"),
        ("{other}/both/v1", "http://localhost:80/both/v1"),
        ("{api}/left/x", "http://localhost:80/left-alone/x"),
        ("{api}/keeps/kept/x", "http://localhost:80/kept/x"),
    ],
)
def test_a_url_in_an_answer_leads_to_its_route(world: World, said: str, comes_back: str) -> None:
    upstream = {"api": world.api.url, "other": world.other.url}
    world.api.says_of("/v2/x", {"next": said.format(**upstream), "n": [1, said.format(**upstream)]})
    expected = comes_back.format(at_own=world.own("own"))
    assert answered(world, "/api/x") == {"next": expected, "n": [1, expected]}


@pytest.mark.parametrize(
    "said",
    ["{api}/v20", "{api}/", "{api}/V2/x", "{api}/keeps/x", "{other}/foreign/x", "{other}/", "see {api}/v2/x",
     "https://example.com/v2/x", "/v2/x"],
)  # fmt: skip
def test_what_is_none_of_the_credentials_routes_stays_as_it_is(world: World, said: str) -> None:
    document = {"next": said.format(api=world.api.url, other=world.other.url)}
    world.api.says_of("/v2/x", document)
    assert answered(world, "/api/x") == document


def test_an_upstream_steers_nobody_into_somebody_elses_credential(world: World) -> None:
    """Nor does it get those of others by what it writes; where the same is written by those, it is theirs."""
    urls = [f"{world.api.url}/v2/x", f"{world.other.url}/sts/x", f"{world.other.url}/foreign/x"]
    world.other.says_of("/foreign/x", urls)
    assert answered(world, "/foreign/x") == [*urls[:2], "http://localhost:80/foreign/x"]


OUT = [
    "/../bank/transfer", "/x/../../bank/transfer", "/%2e%2E/bank", "/.%2e/bank/", "//../bank",
    "/../../bank", "/..\\bank", "/.\t./bank", "/\n../bank", "/..", "/..\u00a0", "\\..\\bank",
]  # fmt: skip
ESCAPED = {"/": r"\/", ".": r"\u002e", "%": r"\u0025"}


@pytest.mark.parametrize("base", ["", "/deep/er"])
def test_dots_lead_nobody_to_another_route(base: str) -> None:
    """A client asks for what it makes of a URL: curl walks its dots, to browsers a backslash is a slash."""
    with API() as evil, API() as bank:
        bodies = {"rewrite": {"bodies": [*TYPES, "text/plain"]}, "auth": ELSES}
        made = [
            {"name": "evil", "path": "/evil", "upstream": f"{evil.url}{base}", **bodies},
            {"name": "bank", "path": "/bank", "upstream": bank.url, "auth": AUTH},
        ]
        urls = [f"{evil.url}{base}{path}" for path in OUT]
        stays = f"{evil.url}{base}/a/../b?/../..#/../.."
        text = json.dumps([*urls, stays], ensure_ascii=False)
        spelled = text
        for plain, escape in ESCAPED.items():
            spelled = spelled.replace(plain, escape)
        bank.said["/transfer"] = json_reply("robbed")
        with running_proxy({"routes": made}) as proxy:
            expected = [*urls, f"{proxy.url}/evil/a/../b?/../..#/../.."]
            authority = proxy.url.removeprefix("http://")
            for body in (text, spelled):
                evil.said[f"{base}/x"] = reply(200, JSON, body=body.encode())
                found = get(proxy.url, "/evil/x", host=authority).json
                assert found == expected
            for url in urls:
                evil.said[f"{base}/t"] = reply(200, "Content-Type: text/plain", body=url.encode())
                assert get(proxy.url, "/evil/t", host=authority).body.decode() == url
            need("curl")
            for url in (found[0], found[1], found[-1]):
                subprocess.run(["curl", "-s", url], check=False, capture_output=True, timeout=GUARD)
    assert bank.requests == []
    assert evil.last.path == f"{base}/b"


@pytest.mark.parametrize("mount", ["/", "/a"])
def test_a_mount_below_another_one_is_not_led_to_by_that_ones_upstream(mount: str) -> None:
    """What it calls its own `/bank/x` would be somebody else's here."""
    below = mount.rstrip("/")
    with API() as evil, API() as bank:
        bodies = {"rewrite": {"bodies": [*TYPES, "text/plain"]}, "auth": ELSES}
        made = [
            {"name": "evil", "path": mount, "upstream": evil.url, **bodies},
            {"name": "bank", "path": f"{below}/bank", "upstream": bank.url, "auth": AUTH},
            {"name": "own", "path": f"{below}/own", "upstream": evil.url, "auth": AUTH},
        ]
        closed = ["/bank", "/bank/x", "//bank/x", "/b%61nk/x?a", "/y/../bank/x", "/y//../bank", "/bank#a"]
        with running_proxy({"routes": made}) as proxy:
            authority = proxy.url.removeprefix("http://")
            for path in closed:
                said = f"{evil.url}{path}"
                evil.said["/x"] = json_reply({"next": said}, 201, f"Location: {said}")
                answer = get(proxy.url, f"{below}/x", host=authority)
                assert (answer.json, answer.one("Location")) == ({"next": said}, said)
                evil.said["/t"] = reply(200, "Content-Type: text/plain", body=said.encode())
                assert get(proxy.url, f"{below}/t", host=authority).body.decode() == said
            for path in ("/banks", "/y/bank", "/own/x"):  # that one is of the same upstream
                said = f"{evil.url}{path}"
                evil.said["/x"] = json_reply({"next": said}, 201, f"Location: {said}")
                answer = get(proxy.url, f"{below}/x", host=authority)
                leads = f"{proxy.url}{below}{path}"
                assert (answer.json, answer.one("Location")) == ({"next": leads}, leads)
    assert bank.requests == []


def test_at_a_routes_own_listener_it_leads_back_to_that_or_on_to_the_others(world: World) -> None:
    own, both = world.own("own"), world.own("both")
    port = world.url.rpartition(":")[2]
    world.other.says_of(
        "/own/x", [f"{world.other.url}{path}" for path in ("/own/y", "/both/y", "/sts/y", "/hosted/y")]
    )
    assert answered(world, "/x", url=own, host="localhost:7") == [
        "http://localhost:7/y", f"{both}/y", f"http://127.0.0.1:{port}/sts/y", f"http://hosted.localhost:{port}/y",
    ]  # fmt: skip


def test_the_callers_own_host_is_the_upstreams_too_where_it_is_sent_on(world: World) -> None:
    names = ["http://LOCALHOST:80/named/x", "https://localhost:80/named", "http://localhost:81/named/x"]
    world.api.says_of("/named/x", [*names, f"{world.api.url}/named/x"])
    assert answered(world, "/named/x") == [
        "http://localhost:80/named/x", "http://localhost:80/named", names[2], "http://localhost:80/named/x",
    ]  # fmt: skip


def test_by_a_unix_socket_and_by_an_absolute_target_it_is_as_it_was_addressed(world: World) -> None:
    world.api.says_of("/v2/x", {"next": f"{world.api.url}/v2/y"})
    assert answered(world, "/api/x", url=f"unix:{world.socket}") == {"next": "http://localhost:80/api/y"}
    assert answered(world, "http://localhost:9/api/x") == {"next": "http://localhost:9/api/y"}


def test_where_headers_are_left_alone_bodies_are_not(world: World) -> None:
    there = f"{world.api.url}/only/y"
    world.api.says_of("/only/x", {"next": there}, f"Location: {there}", status=201)
    answer = get(world.url, "/only/x", host="localhost:80")
    assert (answer.one("Location"), answer.json) == (there, {"next": "http://localhost:80/only/y"})


def test_a_plain_text_that_is_a_url_leads_there_too_where_it_is_listed(world: World) -> None:
    lines = ("Content-Type: text/plain; charset=utf-8",)
    world.api.said["/texts/x"] = reply(200, *lines, body=f"{world.api.url}/texts/y\n".encode())
    world.api.said["/texts/bare"] = reply(200, *lines, body=f"{world.other.url}/own".encode())
    world.api.said["/texts/long"] = reply(200, *lines, body=f"see {world.api.url}/texts/y".encode())
    world.api.said["/v2/x"] = reply(200, *lines, body=f"{world.api.url}/v2/y".encode())
    assert get(world.url, "/texts/x", host="localhost:80").body == b"http://localhost:80/texts/y\n"
    assert get(world.url, "/texts/bare").body == world.own("own").encode()
    assert get(world.url, "/texts/long").body == f"see {world.api.url}/texts/y".encode()
    assert get(world.url, "/api/x").body == f"{world.api.url}/v2/y".encode()


# ── what people follow ───────────────────────────────────────────────────────────────────────────


def test_pages_packages_and_catalogues_are_followed_through_the_proxy_to_the_end(world: World) -> None:
    api, mount = f"{world.api.url}/v2", f"{world.url}/api"
    authority = world.url.removeprefix("http://")
    tarball = f"{api}/left-pad/-/left-pad-1.3.0.tgz"
    world.api.says_of("/v2/left-pad", {"versions": {"1.3.0": {"dist": {"tarball": tarball}}}})
    links = [{"rel": "self", "href": f"{api}/search"}, {"rel": "next", "href": f"{api}/search?token=2"}]
    world.api.says_of("/v2/search", {"type": "FeatureCollection", "features": [], "links": links})
    world.api.says_of("/v2/Orders", {"@odata.nextLink": f"{api}/Orders?$skip=2", f"{api}/Orders": 1})
    npm = answered(world, "/api/left-pad", host=authority)
    stac = answered(world, "/api/search", host=authority)
    odata = answered(world, "/api/Orders", host=authority)
    assert npm["versions"]["1.3.0"]["dist"]["tarball"] == f"{mount}/left-pad/-/left-pad-1.3.0.tgz"
    assert [each["href"] for each in stac["links"]] == [f"{mount}/search", f"{mount}/search?token=2"]
    assert odata == {"@odata.nextLink": f"{mount}/Orders?$skip=2", f"{api}/Orders": 1}


# ── the head ─────────────────────────────────────────────────────────────────────────────────────


def document_of(world: World) -> tuple[bytes, bytes]:
    """Return a body, and what it comes back as."""
    body = json.dumps({"next": f"{world.api.url}/v2/y", "n": "x"}).encode()
    return body, body.replace(f"{world.api.url}/v2".encode(), b"http://localhost:80/api")


def said_of(world: World, *lines: str, status: int = 200, body: bytes | None = None) -> Message:
    """Have the API say this of `/x`, and return what the client gets."""
    world.api.said["/v2/x"] = reply(status, *lines, body=document_of(world)[0] if body is None else body)
    return get(world.url, "/api/x", host="localhost:80")


JSON = "Content-Type: application/json"


@pytest.mark.parametrize(
    "line",
    ["Content-Type: application/json", "content-type: Application/JSON; charset=UTF-8",
     'Content-Type: application/geo+json;charset="utf-8"', "Content-Type:application/json ; profile=x"],
)  # fmt: skip
def test_types_are_compared_without_case_and_parameters(world: World, line: str) -> None:
    assert said_of(world, line).body == document_of(world)[1]


def test_what_is_no_longer_true_goes_from_the_head(world: World) -> None:
    answer = said_of(world, JSON, *DIGESTS, 'ETag: "abc"', "X-Other: 1", "Last-Modified: x")
    assert answer.body == document_of(world)[1]
    assert answer.names == [
        "content-type", "etag", "x-other", "last-modified", "accept-ranges", "transfer-encoding",
    ]  # fmt: skip
    assert (answer.one("Accept-Ranges"), answer.one("ETag")) == ("none", 'W/"abc"')


def test_a_digest_in_a_trailer_goes_too(world: World) -> None:
    head = (
        f"HTTP/1.1 200 OK\r\n{JSON}\r\nTrailer: Content-Digest\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    )
    body, expected = document_of(world)
    end = b"0\r\nContent-Digest: sha-256=:x:\r\n\r\n"
    world.api.said["/v2/x"] = head + chunked(body[:9], body[9:], end=end)
    answer = get(world.url, "/api/x", host="localhost:80")
    assert (answer.body, answer.trailer, answer.one("Trailer")) == (expected, b"", None)


def test_an_error_is_rewritten_too(world: World) -> None:
    answer = said_of(world, "Content-Type: application/problem+json", status=422)
    assert (answer.status, answer.body) == (422, document_of(world)[1])


def test_to_head_it_says_what_it_says_to_get(world: World) -> None:
    lines = (JSON, *DIGESTS, 'ETag: "abc"', "X-Other: 1")
    body = document_of(world)[0]
    world.api.answer = lambda came, _wire: reply(200, *lines, body=body).removesuffix(
        body if came.method == "HEAD" else b""
    )
    asked = [ask(world.url, request(method, "/api/x", host="localhost:80")) for method in ("GET", "HEAD")]
    assert asked[1].headers == [pair for pair in asked[0].headers if pair[0] != b"Transfer-Encoding"]
    assert asked[1].one("Content-Length") is None


def test_http_1_0_learns_the_end_from_the_connection(world: World) -> None:
    world.api.said["/v2/x"] = reply(200, JSON, body=document_of(world)[0])
    with connect(world.url) as wire:
        wire.send(b"GET /api/x HTTP/1.0\r\nHost: localhost:80\r\nConnection: keep-alive\r\n\r\n")
        answer = wire.answer()
    assert (answer.body, answer.one("Connection")) == (document_of(world)[1], "close")
    assert {"content-length", "transfer-encoding"}.isdisjoint(answer.names)


def test_an_upstream_is_asked_for_what_can_be_read(world: World) -> None:
    said_of(world, JSON)
    get(world.url, "/api/x", "Accept-Encoding: gzip, br", "Accept_Encoding: gzip")
    get(world.url, "/left-alone/x", "Accept-Encoding: gzip, br")
    asked = [[each.all("Accept-Encoding"), each.all("Accept_Encoding")] for each in world.api.requests]
    assert asked == [[["identity"], []], [["identity"], []], [["gzip, br"], []]]


# ── conditions ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        ('W/"abc"', '"abc"'),
        ('"abc"', '"abc"'),
        ("*", "*"),
        ('W/"abc", "d,e",W/"W/"', '"abc", "d,e","W/"'),
        ('W/"weak", W/"abc"', 'W/"weak", "abc"'),
        ("nonsense", "nonsense"),
    ],
)
@pytest.mark.parametrize("name", ["If-Match", "If-None-Match"])
def test_a_tag_comes_back_as_it_was_at_the_upstream(world: World, name: str, sent: str, arrives: str) -> None:
    for tag in ('"abc"', 'W/"weak"'):
        assert said_of(world, JSON, f"ETag: {tag}").one("ETag") == f"W/{tag.removeprefix('W/')}"
    get(world.url, "/api/x", f"{name}: {sent}")
    assert world.api.last.all(name) == [arrives]
    get(world.url, "/left-alone/x", f"{name}: {sent}")
    assert world.api.last.all(name) == [sent]


def test_what_has_not_changed_is_known_by_the_tag_that_was_given(world: World) -> None:
    body, expected = document_of(world)

    def answer(came: Message, _wire: Wire) -> bytes:
        lines = ['ETag: "abc"', "Accept-Ranges: bytes", "Content-Digest: sha-256=:x:"]
        if came.one("If-None-Match") == '"abc"':
            return "\r\n".join(["HTTP/1.1 304 Same", *lines, f"Content-Length: {len(body)}", "\r\n"]).encode()
        return reply(200, JSON, *lines, body=body)

    world.api.answer = answer
    first = get(world.url, "/api/x", host="localhost:80")
    tag = first.one("ETag")
    assert (first.body, tag) == (expected, 'W/"abc"')
    second = get(world.url, "/api/x", f"If-None-Match: {tag}")
    assert (second.status, second.one("ETag"), second.one("Accept-Ranges")) == (304, 'W/"abc"', "none")
    assert {"content-length", "content-digest"}.isdisjoint(second.names)
    # Nor does one that names a strong tag get another head: a 304 does not say of what it is.
    world.api.answer = lambda _came, _wire: "\r\n".join(
        ["HTTP/1.1 304 Same", 'ETag: "abc"', *DIGESTS, "\r\n"]
    ).encode()
    third = get(world.url, "/api/x", 'If-None-Match: "other", "abc"')
    assert (third.status, third.one("ETag"), third.names) == (304, 'W/"abc"', ["etag", "accept-ranges"])
    assert third.one("Accept-Ranges") == "none"


def test_ranges_are_asked_for_and_answered_as_they_are(world: World) -> None:
    lines = (JSON, "Content-Range: bytes 0-9/99", 'ETag: "abc"', "Accept-Ranges: bytes")
    world.api.said["/v2/x"] = reply(206, *lines, body=b'["http://x')
    answer = get(world.url, "/api/x", "Range: bytes=0-9", 'If-Range: W/"abc"')
    assert world.api.last.one("Range") == "bytes=0-9"
    assert world.api.last.one("If-Range") == 'W/"abc"', (
        "a strong one would join what does not belong together"
    )
    assert answer.body == b'["http://x'
    assert (answer.one("ETag"), answer.one("Accept-Ranges"), answer.one("Content-Length")) == (
        '"abc"', "bytes", "10",
    )  # fmt: skip


# ── what passes untouched ────────────────────────────────────────────────────────────────────────


def counted(world: World) -> dict[str, float]:
    """Return how many bodies went untouched for which reason."""
    lines = get(world.proxy.admin_url, "/metrics", host="localhost").body.decode().splitlines()
    found = [line for line in lines if line.startswith("authproxy_bodies_untouched_total{")]
    return {line.partition('reason="')[2].partition('"')[0]: float(line.rpartition(" ")[2]) for line in found}


UNTOUCHED = {
    "encoded": ([JSON, "Content-Encoding: gzip"], 200),
    "encoded, in some other way": ([JSON, "Content-Encoding: x-own"], 200),
    "partial": ([JSON, "Content-Range: bytes 0-9/99"], 206),
    "multipart": (["Content-Type: multipart/mixed; boundary=x"], 200),
    "no_transform": ([JSON, "Cache-Control: max-age=1, No-Transform"], 200),
    "charset": (["Content-Type: application/json; charset=utf-16"], 200),
    "charset, of eight bits": (['Content-Type: application/json; charset="ISO-8859-1"'], 200),
}


@pytest.mark.parametrize("why", UNTOUCHED)
def test_what_cannot_be_rewritten_passes_untouched_and_is_counted(world: World, why: str) -> None:
    lines, status = UNTOUCHED[why]
    body = gzip.compress(document_of(world)[0]) if "gzip" in str(lines) else document_of(world)[0]
    before = counted(world)
    answer = said_of(world, *lines, *DIGESTS, 'ETag: "abc"', status=status, body=body)
    assert answer.body == body
    sent = [*lines, *DIGESTS, 'ETag: "abc"', f"Content-Length: {len(body)}"]
    assert [f"{name.decode()}: {value.decode()}" for name, value in answer.headers] == sent
    reason = why.partition(",")[0]
    assert counted(world).get(reason, 0) == before.get(reason, 0) + 1


def test_one_that_says_it_is_too_long_passes_and_one_that_does_not_is_rewritten(world: World) -> None:
    def body(size: int, url: str = f"{world.api.url}/short/y") -> bytes:
        made = json.dumps({"next": url, "fill": ""})
        return json.dumps({"next": url, "fill": "x" * (size - len(made))}).encode()

    before = counted(world).get("too_large", 0)
    for size in (1024, 1025):
        world.api.said["/short/x"] = reply(200, JSON, body=body(size))
        answer = get(world.url, "/short/x", host="localhost:80")
        assert (answer.body == body(size)) is (size > 1024)
        assert answer.one("Content-Length") == (str(size) if size > 1024 else None)
    assert counted(world)["too_large"] == before + 1
    head = f"HTTP/1.1 200 OK\r\n{JSON}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    world.api.said["/short/x"] = head + chunked(body(9999))
    assert get(world.url, "/short/x", host="localhost:80").json["next"] == "http://localhost:80/short/y"


def test_utf_16_that_does_not_say_so_passes_and_is_counted(world: World) -> None:
    before = counted(world).get("charset", 0)
    body = document_of(world)[0].decode().encode("utf-16")
    assert said_of(world, JSON, body=body).body == body
    assert counted(world)["charset"] == before + 1


@pytest.mark.parametrize("line", ["Content-Type: text/html", "Content-Type: text/json", "X-No-Type: 1"])
def test_what_is_of_no_such_type_passes_and_is_not_counted(world: World, line: str) -> None:
    before = counted(world)
    answer = said_of(world, line, 'ETag: "abc"', "Accept-Ranges: bytes")
    assert (answer.body, answer.one("ETag")) == (document_of(world)[0], '"abc"')
    assert answer.one("Content-Length") == str(len(answer.body))
    assert counted(world) == before


def test_where_it_is_not_asked_for_nothing_is_changed(world: World) -> None:
    body = json.dumps([f"{world.api.url}/left/x"]).encode()
    world.api.said["/left/x"] = reply(200, JSON, 'ETag: "abc"', *DIGESTS, body=body)
    answer = get(world.url, "/left-alone/x")
    assert (answer.body, answer.one("ETag"), answer.one("Digest")) == (body, '"abc"', "sha-256=x")


# ── as it arrives ────────────────────────────────────────────────────────────────────────────────


def test_lines_arrive_one_by_one_and_no_byte_is_waited_for(world: World) -> None:
    heard = threading.Semaphore(0)
    line = json.dumps({"next": f"{world.api.url}/v2/y"}).encode() + b"\n"
    expected = line.replace(f"{world.api.url}/v2".encode(), b"http://localhost:80/api")

    def answer(_request: Message, wire: Wire) -> bytes:
        wire.send(f"HTTP/1.1 200 OK\r\n{JSON}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        for _ in range(3):
            wire.send(chunked(line, end=b""))
            assert heard.acquire(timeout=GUARD), "the client must hear each line before the next is sent"
        return b"0\r\n\r\n"

    world.api.answer = answer
    with connect(world.url) as wire:
        wire.send(request("GET", "/api/x", host="localhost:80")).head()
        for _ in range(3):
            assert wire.chunk() == expected
            heard.release()
        assert wire.chunk() == b""


def test_a_url_may_come_in_two_pieces_and_what_is_before_it_does_not_wait(world: World) -> None:
    heard = threading.Event()
    body, expected = document_of(world)
    head = f"HTTP/1.1 200 OK\r\n{JSON}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    before, cut = body.index(b'"http'), body.index(b"/v2")

    def answer(_request: Message, wire: Wire) -> bytes:
        wire.send(head + body[:cut])
        assert heard.wait(GUARD), "the client must hear what is before the URL"
        return body[cut:]

    world.api.answer = answer
    with connect(world.url) as wire:
        wire.send(request("GET", "/api/x", host="localhost:80")).head()
        assert wire.chunk() == body[:before]
        heard.set()
        assert wire.chunk() == expected[before:]
        assert wire.chunk() == b""


def test_a_url_may_come_in_pieces_of_a_byte(world: World) -> None:
    body, expected = document_of(world)
    head = f"HTTP/1.1 200 OK\r\n{JSON}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()

    def answer(_request: Message, wire: Wire) -> None:
        wire.send(head)
        for each in body:
            wire.send(chunked(bytes([each]), end=b""))
        wire.send(b"0\r\n\r\n")

    world.api.answer = answer
    assert get(world.url, "/api/x", host="localhost:80").body == expected


def test_one_that_ends_inside_a_url_loses_nothing(world: World) -> None:
    body = f'{{"next": "{world.api.url}/v'.encode()
    assert said_of(world, JSON, body=body).body == body


def test_one_that_is_broken_off_is_broken_off(world: World) -> None:
    head = f"HTTP/1.1 200 OK\r\n{JSON}\r\nContent-Length: 100\r\n\r\n".encode()
    world.api.says(head + b'{"a": 1}', then_close=True)
    with connect(world.url) as wire:
        wire.send(request("GET", "/api/x")).head()
        assert wire.chunk() == b'{"a": 1}'
        assert wire.is_closed()


@needs_proc
def test_a_hundred_mebibytes_leave_the_proxy_no_larger(world: World) -> None:
    """No larger than the same as it is: what streaming itself takes, it has taken by then."""
    item = {"href": f"{world.api.url}/v2/items/1", "text": "lorem ipsum " * 20, "n": [1, 2]}
    piece = (json.dumps(item).encode() + b",") * 400
    changed = piece.replace(f"{world.api.url}/v2".encode(), b"http://localhost:80/api")

    def answer(_request: Message, wire: Wire) -> None:
        wire.send(f"HTTP/1.1 200 OK\r\n{JSON}\r\n\r\n[".encode())
        for _ in range(100 * MIB // len(piece) + 1):
            wire.send(piece)

    def read(target: str, expected: bytes) -> None:
        with connect(world.url) as wire:
            wire.send(request("GET", target, host="localhost:80")).head()
            text, seen = wire.chunk(), 0
            while data := wire.chunk():
                text += data
                while len(text) > len(expected):
                    assert text.startswith(expected, 1)
                    text, seen = text[:1] + text[len(expected) + 1 :], seen + len(piece)
        assert (text, seen > 100 * MIB) == (b"[", True)

    said_of(world, JSON)  # so that all is loaded
    world.api.answer = answer
    for _ in range(2):
        read("/left-alone/x", piece)
    before = memory(world.proxy.pid, "VmRSS")
    read("/api/x", changed)
    assert memory(world.proxy.pid, "VmRSS") - before < 5 * MIB


# ── what is told of it ───────────────────────────────────────────────────────────────────────────


def test_the_inspector_shows_what_the_client_got(world: World) -> None:
    said_of(world, JSON, 'ETag: "abc"')
    [kept] = [each for each in _requests(world) if each["path"] == "/api/x"][:1]
    shown = get(world.proxy.admin_url, f"/api/requests/{kept['id']}").json
    text = json.dumps(shown)
    assert "http://localhost:80/api/y" in text
    assert f"{world.api.url}/v2/y" not in text
    assert 'W/\\"abc\\"' in text


def test_the_inspector_says_why_one_passed_untouched(world: World) -> None:
    said_of(world, JSON, "Content-Encoding: br")
    shown = get(world.proxy.admin_url, f"/api/requests/{_requests(world)[0]['id']}").json
    assert "the body passes untouched: encoded" in json.dumps(shown)


def _requests(world: World) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    def known() -> bool:
        found[:] = get(world.proxy.admin_url, "/api/requests").json["requests"]
        return bool(found) and found[0]["path"] == "/api/x"

    wait_until(known)
    return found


# ── the rest of the proxy ────────────────────────────────────────────────────────────────────────


def test_who_is_refused_is_asked_again_and_what_comes_then_is_rewritten() -> None:
    def answer(came: Message, _wire: Wire) -> bytes:
        if len(upstream.requests) == 1:
            return json_reply({"see": f"{upstream.url}/login"}, 401)
        return json_reply({"next": f"{upstream.url}/y", "was": came.one("Authorization")})

    with Upstream(answer) as upstream:
        auth = {"grant": "command", "command": ["date", "+%s%N"]}
        route = {
            "name": "a",
            "path": "/a",
            "upstream": upstream.url,
            "auth": auth,
            "rewrite": {"bodies": TYPES},
        }
        with running_proxy({"routes": [route]}) as proxy:
            assert get(proxy.url, "/a/x", host="localhost:80").json["next"] == "http://localhost:80/a/y"
    assert len(upstream.requests) == 2


WRITES = r"routes\[0\]\.rewrite\.bodies:?(?: warning:)? is on where requests may write"


def test_a_route_that_may_write_is_warned_of_and_one_that_may_not_is_not() -> None:
    keys = {"upstream": "http://127.0.0.1:9", "auth": {"grant": "none"}, "rewrite": {"bodies": TYPES}}
    reads = {"allow": {"methods": ["GET", "HEAD"]}}
    made = [{"name": "writes", "path": "/a", **keys}, {"name": "reads", "path": "/b", **keys, **reads}]
    with running_proxy({"routes": made}) as proxy:
        proxy.stop()
        [line] = [line for line in proxy.log().splitlines() if "may write" in line]
    assert re.search(WRITES, line)
    assert "warn" in line.lower()
    checked = authproxy("check", config={"routes": made})
    assert checked.returncode == 0
    [line] = [line for line in checked.stdout.splitlines() if "may write" in line]
    assert re.search(rf"yaml:\d+:\d+: {WRITES}", line)


@pytest.mark.parametrize("args", [(), ("--forward",)])
def test_a_program_beside_the_proxy_is_not_told_of_that_at_each_run(args: tuple[str, ...]) -> None:
    keys = {"upstream": "http://127.0.0.1:9", "auth": {"grant": "none"}, "rewrite": {"bodies": TYPES}}
    done = run_beside({"routes": [{"name": "a", **keys}]}, python("print('done')"), *args)
    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_port_that_a_listener_got_is_known_in_every_process_and_after_a_reload(workers: int) -> None:
    with API() as api, API() as other:
        made = [
            {"name": "a", "path": "/a", "upstream": api.url, "auth": AUTH, "rewrite": {"bodies": TYPES}},
            {"name": "b", "listen": "127.0.0.1:0", "upstream": other.url, "auth": AUTH},
        ]
        api.says_of("/x", [f"{other.url}/y"])
        with running_proxy({"routes": made, "workers": workers}) as proxy:
            for _ in range(4):
                assert get(proxy.url, "/a/x").json == [f"{proxy.own['b']}/y"]
            config_of(
                proxy, {"routes": [*made, {"name": "c", "path": "/c", "upstream": api.url, "auth": AUTH}]}
            )
            proxy.signal(signal.SIGHUP)
            proxy.wait_for_log("configuration reloaded")
            for _ in range(4):
                assert get(proxy.url, "/a/x").json == [f"{proxy.own['b']}/y"]


def config_of(proxy: RunningProxy, config: dict[str, Any]) -> None:
    """Write another configuration where the proxy reads its own."""
    assert proxy.config_file is not None
    kept = yaml.safe_load(proxy.config_file.read_text())
    proxy.config_file.write_text(yaml.safe_dump({**kept, **config}, sort_keys=False))


def test_with_tls_it_comes_back_as_https(tmp_path: Path) -> None:
    authority = trustme.CA()
    cert = authority.issue_cert("localhost")
    cert.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    cert.private_key_pem.write_to_path(tmp_path / "key.pem")
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with API() as api:
        api.says_of("/x", [f"{api.url}/y"])
        tls = {"cert_file": str(tmp_path / "cert.pem"), "key_file": str(tmp_path / "key.pem")}
        route = {"name": "a", "path": "/a", "upstream": api.url, "auth": AUTH, "rewrite": {"bodies": TYPES}}
        with running_proxy({"tls": tls, "routes": [route]}) as proxy:
            sent = request("GET", "/a/x", host="localhost:80")
            assert ask(proxy.url, sent, tls=trusting).json == ["https://localhost:80/a/y"]


def test_to_who_uses_us_as_a_proxy_names_are_real(tmp_path: Path) -> None:
    with Named(tmp_path) as secure:
        body = json.dumps([f"https://{secure.authority}/x"]).encode()
        secure.says(reply(200, JSON, 'ETag: "abc"', "Content-Digest: sha-256=:x:", body=body))
        made = route(secure, rewrite={"bodies": TYPES})
        with (
            running_proxy(forwarding(made)) as proxy,
            inside(proxy, "localhost", secure.port) as wire,
        ):
            lines = ("Accept-Encoding: gzip", 'If-None-Match: W/"abc"')
            answer = wire.send(request("GET", "/x", *lines, host=secure.authority)).answer()
    assert (answer.body, answer.one("ETag"), answer.one("Content-Length")) == (body, '"abc"', str(len(body)))
    assert secure.last.one("Accept-Encoding") == "gzip"
    assert secure.last.one("If-None-Match") == 'W/"abc"'
