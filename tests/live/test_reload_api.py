"""The admin API and reloads: one that is asked for there, and what it tells after any."""

import contextlib
import socket
import ssl
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.support.admin_api import watching
from tests.support.command import wait_until
from tests.support.edited import Edited, edited
from tests.support.ports import free_port
from tests.support.wire import BrokenOff, Message, Upstream, ask, connect, get, request

PROCESSES = pytest.mark.parametrize("workers", [1, 2])
KEY = "the-key-of-the-callers"
SECRET = "s3cr3t-of-the-configuration"


def route(upstream: Upstream, name: str = "api", path: str = "/", **more: Any) -> dict[str, Any]:
    return {"name": name, "path": path, "upstream": upstream.url, "auth": {"grant": "none"}, **more}


def post(proxy: Edited, *lines: str) -> Message:
    """Ask for a reload."""
    return ask(proxy.proxy.admin_url, request("POST", "/api/reload", *lines, body=b""))


def must_post(proxy: Edited, *lines: str, **changes: Any) -> None:
    """Change the file, and have it loaded."""
    proxy.write(**changes)
    answer = post(proxy, *lines)
    assert (answer.status, answer.json) == (200, {"reloaded": True})


def status(proxy: Edited) -> dict[str, Any]:
    return dict(get(proxy.proxy.admin_url, "/api/status").json)


def metric(proxy: Edited, name: str) -> float:
    lines = get(proxy.proxy.admin_url, "/metrics").body.decode().splitlines()
    [line] = [each for each in lines if each.startswith(f"authproxy_config_reload_{name} ")]
    return float(line.split()[1])


def loaded_at(proxy: Edited) -> float:
    """Return when, in seconds since 1970; the status and the metrics agree, to a millisecond."""
    told = datetime.fromisoformat(status(proxy)["config"]["loaded_at"]).timestamp()
    assert abs(metric(proxy, "timestamp_seconds") - told) <= 0.001
    return told


def paths(proxy: Edited, query: str = "") -> list[str]:
    """Return the paths of the requests that are remembered."""
    told = get(proxy.proxy.admin_url, f"/api/requests{query}").json["requests"]
    return [each["path"] for each in told]


def is_remembered(proxy: Edited, *wanted: str) -> bool:
    return set(paths(proxy)) >= set(wanted)


# ── the answer ───────────────────────────────────────────────────────────────────────────────────


@PROCESSES
def test_once_it_is_answered_the_new_file_holds_in_all_processes(workers: int) -> None:
    with Upstream() as upstream, edited({"workers": workers, "routes": [route(upstream)]}) as proxy:
        began = loaded_at(proxy)
        must_post(proxy, routes=[route(upstream, name="new", path="/new")])
        assert {get(proxy.proxy.url, "/new").status for _ in range(20)} == {200}
        assert {get(proxy.proxy.url, "/old").status for _ in range(20)} == {404}
        now = status(proxy)
        assert [each["name"] for each in now["routes"]] == ["new"]
        assert now["config"]["fault"] is None
        assert loaded_at(proxy) > began
        assert metric(proxy, "failed") == 0


@PROCESSES
def test_what_is_wrong_is_answered_with_its_place_and_nothing_changes(workers: int) -> None:
    with Upstream() as upstream, edited({"workers": workers, "routes": [route(upstream)]}) as proxy:
        began = loaded_at(proxy)
        auth = f"  auth: {{grant: static, token: {SECRET}, headr: X-Key}}"
        proxy.write_text(
            "listen: 127.0.0.1:0\n"
            "routes:\n"
            "- name: api\n"
            "  upstreem: http://x\n"
            "  upstream: https://up.example\n"
            f"{auth}\n"
        )
        answer = post(proxy)
        assert (answer.status, answer.one("Content-Type")) == (422, "application/json")
        file = str(proxy.proxy.config_file)
        faults = answer.json["faults"]
        assert [(each["file"], each["line"], each["column"], each["key"]) for each in faults] == [
            (file, 4, 3, "routes[0].upstreem"),
            (file, 6, auth.index("headr") + 1, "routes[0].auth.headr"),
        ]
        assert all(each.keys() == {"file", "line", "column", "key", "message"} for each in faults)
        assert "upstream" in faults[0]["message"]
        assert "header" in faults[1]["message"]
        assert status(proxy)["config"]["fault"] == faults[0]
        assert SECRET.encode() not in answer.body
        assert loaded_at(proxy) == began
        assert metric(proxy, "failed") == 1
        assert {get(proxy.proxy.url).status for _ in range(10)} == {200}
        must_post(proxy)
        assert status(proxy)["config"]["fault"] is None
        assert metric(proxy, "failed") == 0
        assert loaded_at(proxy) > began


@PROCESSES
def test_what_only_shows_when_it_is_put_to_work_is_answered_too(workers: int) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        Upstream() as upstream,
        edited({"workers": workers, "routes": [route(upstream)]}) as proxy,
    ):
        port, listening = taken.getsockname()[1], status(proxy)["listeners"]
        proxy.write(listen=["127.0.0.1:0", f"127.0.0.1:{port}"], routes=[route(upstream, name="new")])
        answer = post(proxy)
        assert answer.status == 422
        [fault] = answer.json["faults"]
        assert proxy.proxy.config_file is not None
        lines = proxy.proxy.config_file.read_text().splitlines()
        assert (fault["key"], fault["line"]) == ("listen", lines.index("listen:") + 2)
        assert str(port) in fault["message"]
        now = status(proxy)
        assert (now["listeners"], [each["name"] for each in now["routes"]]) == (listening, ["api"])
        assert now["config"]["fault"] == fault


@PROCESSES
def test_a_fault_of_a_reload_that_was_asked_for_otherwise_is_told_as_well(workers: int) -> None:
    with Upstream() as upstream, edited({"workers": workers, "routes": [route(upstream)]}) as proxy:
        proxy.reload(routes=[])
        wait_until(lambda: status(proxy)["config"]["fault"])
        fault = status(proxy)["config"]["fault"]
        assert (fault["key"], fault["file"]) == ("routes", str(proxy.proxy.config_file))
        assert metric(proxy, "failed") == 1
        proxy.must_reload(routes=[route(upstream)])
        wait_until(lambda: status(proxy)["config"]["fault"] is None)
        assert metric(proxy, "failed") == 0


# ── what is told afterwards ──────────────────────────────────────────────────────────────────────


@PROCESSES
def test_listeners_are_told_as_they_are_then(workers: int, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    tls = {"cert_file": str(tmp_path / "cert.pem"), "key_file": str(tmp_path / "key.pem")}
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with Upstream() as upstream, edited({"workers": workers, "routes": [route(upstream)]}) as proxy:
        stays = proxy.proxy.url
        moved, path = f"127.0.0.1:{free_port()}", tmp_path / "s"
        must_post(proxy, listen=[moved, "127.0.0.1:0", f"unix:{path}"])
        assert status(proxy)["listeners"] == [f"http://{moved}", stays, f"unix:{path}"]
        must_post(proxy, listen=[moved, "127.0.0.1:0"], tls=tls)
        secure = [f"https://{moved}", stays.replace("http:", "https:")]
        assert status(proxy)["listeners"] == secure
        assert {ask(each, request(), tls=trusting).status for each in secure} == {200}
        del proxy.config["tls"]
        must_post(proxy, listen=[moved])
        assert status(proxy)["listeners"] == [f"http://{moved}"]
        must_post(proxy, listen=["127.0.0.1:0"])  # anew: a port of its own
        [fresh] = status(proxy)["listeners"]
        assert get(fresh).status == 200


@PROCESSES
def test_requests_are_remembered_over_a_reload_as_many_as_the_new_file_says(workers: int) -> None:
    config = {"workers": workers, "admin": {"listen": "127.0.0.1:0", "keep": 50}}
    with Upstream() as upstream, edited({**config, "routes": [route(upstream)]}) as proxy:
        for number in range(6):
            get(proxy.proxy.url, f"/before/{number}")
        wait_until(lambda: len(paths(proxy)) == 6)
        before = get(proxy.proxy.admin_url, "/api/requests").json["requests"]
        must_post(proxy, routes=[route(upstream, name="new", path="/new")])
        assert get(proxy.proxy.admin_url, "/api/requests").json["requests"] == before
        [oldest] = [each["id"] for each in before if each["path"] == "/before/0"]
        assert get(proxy.proxy.admin_url, f"/api/requests/{oldest}").json["route"] == "api"
        for number in range(4):
            get(proxy.proxy.url, f"/new/{number}")
        wait_until(lambda: len(paths(proxy)) == 10)
        assert paths(proxy, "?route=new") == [f"/new/{number}" for number in (3, 2, 1, 0)]
        must_post(proxy, admin={"listen": "127.0.0.1:0", "keep": 3})
        assert paths(proxy) == ["/new/3", "/new/2", "/new/1"]
        for number in range(9):
            get(proxy.proxy.url, f"/new/after/{number}")
        wait_until(lambda: is_remembered(proxy, "/new/after/8"))
        assert len(paths(proxy)) == 3
        must_post(proxy, admin={"listen": "127.0.0.1:0", "keep": 0})
        assert paths(proxy) == []
        must_post(proxy, admin={"listen": "127.0.0.1:0", "keep": 5})
        get(proxy.proxy.url, "/new/last")
        wait_until(lambda: paths(proxy) == ["/new/last"])


@PROCESSES
def test_an_admin_listener_that_a_reload_brings_tells_all_that_came_since(workers: int) -> None:
    admin = f"127.0.0.1:{free_port()}"
    config = {"workers": workers, "admin": False}
    with Upstream() as upstream, edited({**config, "routes": [route(upstream)]}) as proxy:
        proxy.must_reload(admin={"listen": admin})
        proxy.proxy.admin_url = f"http://{admin}"
        get(proxy.proxy.url, "/since")
        wait_until(lambda: paths(proxy) == ["/since"])
        assert status(proxy)["listeners"] == [proxy.proxy.url]
        must_post(proxy)
        with watching(proxy.proxy.admin_url) as watcher:
            get(proxy.proxy.url, "/watched")
            assert watcher.wait_for("request")[0]["path"] == "/watched"


# ── who is there already ─────────────────────────────────────────────────────────────────────────


@PROCESSES
def test_who_watches_goes_on_over_reloads(workers: int) -> None:
    with Upstream() as upstream, edited({"workers": workers, "routes": [route(upstream)]}) as proxy:
        with watching(proxy.proxy.admin_url) as watcher:
            get(proxy.proxy.url, "/first")
            watcher.wait_for("request", 1)
            must_post(proxy, routes=[route(upstream, name="new")], log={"access": True})
            get(proxy.proxy.url, "/second")
            watcher.wait_for("request", 2)
            proxy.write_text("routes: 3")
            assert post(proxy).status == 422
            must_post(proxy, admin={"listen": f"127.0.0.1:{free_port()}"}, listen=["127.0.0.1:0"])
            get(proxy.proxy.url, "/third")
            told = watcher.wait_for("request", 3)
            assert [(each["path"], each["route"]) for each in told] == [
                ("/first", "api"), ("/second", "new"), ("/third", "new"),
            ]  # fmt: skip
            assert watcher.of("lost") == []
            assert not watcher.ended
        assert "/second" in proxy.proxy.wait_for_log("/second"), "the log of requests began meanwhile"


@PROCESSES
def test_an_admin_listener_that_is_turned_off_is_off_for_who_is_connected_too(workers: int) -> None:
    with Upstream() as upstream, edited({"workers": workers, "routes": [route(upstream)]}) as proxy:
        url = proxy.proxy.admin_url
        with connect(url) as kept, watching(url) as watcher:
            kept.send(request("GET", "/api/status"))
            assert kept.answer().status == 200
            proxy.write(admin=False)
            answer = post(proxy)
            assert (answer.status, answer.one("Connection")) == (200, "close")
            proxy.wait()
            wait_until(lambda: watcher.ended)
            with pytest.raises((BrokenOff, OSError)):
                kept.send(request("GET", "/api/status")).answer()
        assert get(proxy.proxy.url, "/x").status == 200
        again = f"127.0.0.1:{free_port()}"
        proxy.must_reload(admin={"listen": again})
        with watching(f"http://{again}") as watcher:
            get(proxy.proxy.url, "/y")
            assert watcher.wait_for("request")[0]["path"] == "/y"


@PROCESSES
def test_the_admin_listener_goes_by_the_new_limits_too(workers: int) -> None:
    with Upstream() as upstream, edited({"workers": workers, "routes": [route(upstream)]}) as proxy:
        url, long = proxy.proxy.admin_url, "X-Long: " + "x" * 3000
        assert get(url, "/healthz", long).status == 200
        must_post(proxy, limits={"header_bytes": 2048, "connections": 8, "drain": "1s"})
        assert get(url, "/healthz", long).status == 431
        with contextlib.ExitStack() as stack:
            for _ in range(4):
                stack.enter_context(watching(url))
            assert get(url, "/api/requests/stream").status == 503
        must_post(proxy, limits={"header_bytes": 8192, "drain": "1s"})
        assert get(url, "/healthz", long).status == 200


@PROCESSES
def test_a_credential_of_a_reload_is_watched_too(workers: int) -> None:
    static = {"grant": "static", "token": SECRET}
    with (
        Upstream() as upstream,
        edited({"workers": workers, "routes": [route(upstream)]}) as proxy,
        watching(proxy.proxy.admin_url) as watcher,
    ):
        must_post(proxy, routes=[route(upstream), route(upstream, "new", "/new", auth=static)])
        get(proxy.proxy.url, "/new")
        wait_until(lambda: [each["state"] for each in watcher.of("status")][-1:] == ["valid"])
        assert {each["name"] for each in watcher.of("status")} == {"new"}
        assert SECRET not in str(watcher.events)


@PROCESSES
def test_a_key_that_a_reload_brings_is_wanted_at_once(workers: int) -> None:
    with Upstream() as upstream, edited({"workers": workers, "routes": [route(upstream)]}) as proxy:
        url, key = proxy.proxy.admin_url, f"X-Authproxy-Key: {KEY}"
        with connect(url) as kept:
            assert kept.send(request("GET", "/api/status")).answer().status == 200
            must_post(proxy, access={"tokens": [KEY]})
            assert kept.send(request("GET", "/api/status")).answer().status == 401
        for target in ("/api/status", "/api/requests", "/api/requests/stream"):
            assert get(url, target).status == 401
        assert post(proxy).status == 401
        assert get(url, "/api/status", key).status == 200
        must_post(proxy, key, access={"tokens": [KEY[::-1]]})
        assert get(url, "/api/status", key).status == 401
        assert get(url, "/api/status", f"X-Authproxy-Key: {KEY[::-1]}").status == 200


@PROCESSES
def test_who_has_a_key_that_a_reload_takes_back_watches_no_longer(workers: int) -> None:
    old, new = f"X-Authproxy-Key: {KEY}", f"X-Authproxy-Key: {KEY[::-1]}"
    settings = {"workers": workers, "access": {"tokens": [KEY, KEY[::-1]]}}
    with Upstream() as upstream, edited({**settings, "routes": [route(upstream)]}) as proxy:
        url = proxy.proxy.admin_url
        with watching(url, old) as former, watching(url, new) as watcher:
            must_post(proxy, new, access={"tokens": [KEY[::-1]]})
            get(proxy.proxy.url, "/after", new)
            watcher.wait_for("request")
            wait_until(lambda: former.ended)
            assert not former.of("request")
            assert not watcher.ended
