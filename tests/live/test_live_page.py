"""The live page over the wire: who gets it, and what comes with it."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import RunningProxy, running_proxy
from tests.support.systems import needs_unix_sockets
from tests.support.wire import Upstream, ask, connect, get, request

KEY = "k3y-of-the-caller"
POLICY = {
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'",
    "img-src 'self' data:", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
}  # fmt: skip
PAGES = ["/", "/page/main.js", "/page/page.css", "/page/icon.svg"]


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as made:
        yield made


def config(upstream: Upstream, **more: object) -> dict[str, object]:
    return {"routes": [{"name": "api", "upstream": upstream.url, "auth": {"grant": "none"}}], **more}


@pytest.fixture(scope="module")
def proxy(upstream: Upstream) -> Iterator[RunningProxy]:
    with running_proxy(config(upstream)) as made:
        yield made


@pytest.fixture(scope="module")
def locked(upstream: Upstream) -> Iterator[RunningProxy]:
    with running_proxy(config(upstream, access={"tokens": [KEY], "header": "X-Its-Own"})) as made:
        yield made


@pytest.mark.parametrize(
    ("target", "kind"),
    list(zip(PAGES, ["text/html", "text/javascript", "text/css", "image/svg+xml"], strict=True)),
)
def test_the_page_and_its_files_come_with_their_type_and_a_strict_policy(
    proxy: RunningProxy, target: str, kind: str
) -> None:
    answer = get(proxy.admin_url, target)
    assert (answer.status, answer.one("Content-Type")) == (200, f"{kind}; charset=utf-8")
    assert set(str(answer.one("Content-Security-Policy")).split("; ")) >= POLICY
    assert "unsafe" not in str(answer.one("Content-Security-Policy"))
    assert answer.one("X-Content-Type-Options") == "nosniff"
    assert answer.one("Referrer-Policy") == "no-referrer"
    assert answer.one("Cache-Control") == "no-cache"
    assert answer.one("Set-Cookie") is None


def test_everything_that_the_page_refers_to_is_there_and_ours(proxy: RunningProxy) -> None:
    seen, left = set[str](), ["/"]
    while left:
        target = left.pop()
        seen.add(target)
        answer = get(proxy.admin_url, target)
        assert answer.status == 200, target
        text = answer.body.decode()
        found = re.findall(r'(?:src|href)="([^"#]+)"', text) if target == "/" else []
        found += [f"/page/{each}" for each in re.findall(r'from "\./([^"]+)"', text)]
        assert all(each.startswith("/") and not each.startswith("//") for each in found)
        left += [each for each in found if each not in seen]
    assert len([each for each in seen if each.endswith(".js")]) > 5


@pytest.mark.parametrize("target", PAGES)
def test_a_head_tells_what_a_get_would_and_a_known_file_is_304(proxy: RunningProxy, target: str) -> None:
    answer = get(proxy.admin_url, target)
    with connect(proxy.admin_url) as wire:
        head = wire.send(request("HEAD", target)).answer(to_head=True)
        assert head.status == 200
        assert head.one("Content-Length") == str(len(answer.body))
        assert wire.send(request("GET", target)).answer().body == answer.body
        again = wire.send(request("GET", target, f"If-None-Match: {answer.one('ETag')}")).answer()
        assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize(
    "target",
    ["/page", "/page/", "/page/x.js", "/page/index.html", "/page/../api.py", "/page/..%2fapi.py", "/x"],
)
def test_there_is_no_other_page(proxy: RunningProxy, target: str) -> None:
    answer = get(proxy.admin_url, target)
    assert (answer.status, answer.one("Content-Type")) == (404, "application/problem+json")


@pytest.mark.parametrize("target", PAGES)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_a_page_is_only_got(proxy: RunningProxy, target: str, method: str) -> None:
    answer = ask(proxy.admin_url, request(method, target))
    assert (answer.status, answer.one("Allow")) == (405, "GET,HEAD")


@pytest.mark.parametrize("target", PAGES)
@pytest.mark.parametrize("which", ["proxy", "locked"])
def test_no_other_site_and_no_rebound_name_gets_the_page(
    request: pytest.FixtureRequest, target: str, which: str
) -> None:
    admin = request.getfixturevalue(which).admin_url
    assert get(admin, target, host="evil.example").status == 403
    for line in ("Origin: https://evil.example", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site"):
        assert get(admin, target, line).status == 403
    assert get(admin, target, "Sec-Fetch-Site: same-origin").status == 200


@pytest.mark.parametrize("target", PAGES)
def test_where_a_key_is_wanted_the_page_is_open_and_nothing_that_it_shows(
    locked: RunningProxy, target: str
) -> None:
    answer = get(locked.admin_url, target)
    assert answer.status == 200
    assert KEY.encode() not in answer.head + answer.body
    for what in ("/api/status", "/api/requests", "/api/requests/stream", "/metrics", "/pages", "/page"):
        assert get(locked.admin_url, what).status == 401
        assert get(locked.admin_url, f"{what}?X-Its-Own={KEY}", f"Cookie: X-Its-Own={KEY}").status == 401
    assert get(locked.admin_url, "/api/status", f"X-Its-Own: {KEY}").status == 200


def test_the_page_says_in_which_header_the_key_goes(proxy: RunningProxy, locked: RunningProxy) -> None:
    assert b'<meta name="key-header" content="X-Its-Own">' in get(locked.admin_url, "/").body
    assert b'<meta name="key-header" content="">' in get(proxy.admin_url, "/").body


@needs_unix_sockets
def test_where_others_could_reach_the_api_the_page_is_not_served_either(
    upstream: Upstream, tmp_path: Path
) -> None:
    listen = f"unix:{tmp_path}/proxy.sock"
    with running_proxy(config(upstream, listen=listen)) as proxy:
        for target in PAGES:
            answer = get(proxy.admin_url, target)
            assert answer.status == 404
            assert answer.json == get(proxy.admin_url, "/api/status").json | {"id": answer.json["id"]}
        assert get(proxy.admin_url, "/healthz").status == 200
    with running_proxy(config(upstream, listen=listen, access={"tokens": [KEY]})) as proxy:
        assert get(proxy.admin_url, "/").status == 200
