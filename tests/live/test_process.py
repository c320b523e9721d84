"""The life of the process: how it starts, what it says, how it ends, and what it never says."""

import json
import re
import signal
import socket
import stat
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import RunningProxy, authproxy, running_proxy, wait_until
from tests.support.launch import GUARD
from tests.support.ports import free_port
from tests.support.wire import (
    API,
    Message,
    Tokens,
    Upstream,
    Wire,
    ask,
    connect,
    get,
    json_reply,
    reply,
    request,
)

NONE = {"grant": "none"}
PLAIN = {"grant": "static", "token": "never-changes"}


def one_route(upstream: str, auth: dict[str, Any] | None = None, **more: Any) -> list[dict[str, Any]]:
    return [{"name": "api", "upstream": upstream, "auth": auth or PLAIN, **more}]


def client_of(tokens: Tokens, secret: str = "the-clients-secret") -> dict[str, Any]:
    auth = {"grant": "client_credentials", "client_id": "me", "client_secret": secret}
    return {**auth, "token_url": f"{tokens.url}/token"}


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def takes_nobody_new(proxy: RunningProxy) -> bool:
    try:
        connect(proxy.url).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        pass  # it came in the very moment
    return False


class Held:
    """An answer that waits until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def __call__(self, came: Message, _wire: Wire) -> bytes:
        assert self.go.wait(GUARD)
        return reply(body=came.body or b"at last")


# ── how it starts ────────────────────────────────────────────────────────────────────────────────


def test_the_first_line_says_where_it_listens_and_the_next_where_its_admin_listener_is() -> None:
    with Upstream() as upstream:
        config = {"listen": ["127.0.0.1:0", "[::1]:0"] if has_ipv6() else ["127.0.0.1:0"] * 2}
        with running_proxy({**config, "routes": one_route(upstream.url)}) as proxy:
            first, second, third, *rest = proxy.output().splitlines()
            assert re.fullmatch(r"listening on http://127\.0\.0\.1:[1-9]\d*", first)
            assert re.fullmatch(r"listening on http://(\[::1\]|127\.0\.0\.1):[1-9]\d*", second)
            assert re.fullmatch(r"admin on http://127\.0\.0\.1:[1-9]\d*", third)
            assert rest == []
            assert [get(url).status for url in proxy.urls] == [200, 200]
        assert proxy.stop() == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_localhost_is_listened_on_in_both_families_on_one_port_and_said_once(workers: int) -> None:
    if not has_ipv6():
        pytest.skip("no IPv6 here")
    with Upstream() as upstream:
        config = {"listen": "localhost:0", "admin": {"listen": "localhost:0"}, "workers": workers}
        with running_proxy({**config, "routes": one_route(upstream.url)}) as proxy:
            listening, admin = proxy.output().splitlines()
            assert re.fullmatch(r"listening on http://localhost:[1-9]\d*", listening)
            assert re.fullmatch(r"admin on http://localhost:[1-9]\d*", admin)
            port, admin_port = (line.rpartition(":")[2] for line in (listening, admin))
            for host in ("127.0.0.1", "[::1]"):
                answers = [get(f"http://{host}:{port}", host=f"{host}:{port}") for _ in range(4)]
                assert {answer.status for answer in answers} == {200}
                assert get(f"http://{host}:{admin_port}", "/healthz").status == 200
        assert proxy.stop() == 0


def test_localhost_is_not_listened_on_when_one_of_its_addresses_is_taken() -> None:
    if not has_ipv6():
        pytest.skip("no IPv6 here")
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        address = f"localhost:{taken.getsockname()[1]}"
        config = {"listen": address, "admin": False, "routes": one_route("http://127.0.0.1:1")}
        ended = authproxy("run", config=config)
    assert ended.returncode == 1
    assert f"cannot listen on {address}: Address already in use" in ended.stderr
    assert ended.stdout == ""


def test_the_command_line_has_the_last_word_on_where_it_listens() -> None:
    with Upstream() as upstream, running_proxy(
        {"listen": "127.0.0.1:1", "routes": one_route(upstream.url)},
        "--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--no-admin", "--log-format", "json",
    ) as proxy:  # fmt: skip
        assert len(proxy.urls) == 2
        assert proxy.admin_url == ""
        assert [get(url, "/told").status for url in proxy.urls] == [200, 200]
        log = proxy.wait_for_log("/told", times=2)
        told = [line for line in map(json.loads, log.splitlines()) if line.get("path") == "/told"]
        assert [(line["route"], line["method"], line["status"]) for line in told] == [("api", "GET", 200)] * 2


def test_a_port_that_is_taken_is_said_plainly() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        config = {"listen": address, "admin": False, "routes": one_route("http://127.0.0.1:1")}
        ended = authproxy("run", config=config)
    assert ended.returncode == 1
    assert address in ended.stderr
    assert "in use" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("routes: [", "authproxy-test.yaml:1:"),
        ("routes:\n  - {name: a, upstream: 'https://a.b', auth: {grant: static, token: '${NOT_SET}'}}\n",
         "routes[0].auth.token"),
    ],
)  # fmt: skip
def test_a_faulty_file_ends_with_2_and_names_the_place(config: str, says: str) -> None:
    ended = authproxy("run", config=config)
    assert ended.returncode == 2
    assert says in ended.stderr
    assert ended.stdout == ""


def test_a_unix_socket_is_for_its_owner_only_and_is_gone_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "proxy.sock"
    with Upstream() as upstream:
        config = {"listen": f"unix:{path}", "routes": one_route(upstream.url)}
        with running_proxy(config) as proxy:
            assert proxy.url == f"unix:{path}"
            assert stat.S_ISSOCK(path.stat().st_mode)
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert get(proxy.url).status == 200
        assert not path.exists()
        stale = socket.socket(socket.AF_UNIX)
        stale.bind(str(path))
        stale.close()
        with running_proxy(config) as proxy:
            assert get(proxy.url).status == 200, "what a dead process left behind is no obstacle"


def test_a_token_is_fetched_when_it_is_needed_or_at_the_start_when_told_so() -> None:
    with Tokens() as tokens, Tokens() as others, API(tokens.issued) as api:
        routes = one_route(api.url, client_of(tokens), prefetch=True)
        routes += [{"name": "later", "path": "/later", "upstream": api.url, "auth": client_of(others)}]
        with running_proxy({"routes": routes}) as proxy:
            tokens.wait_for(1)
            assert get(proxy.url).status == 200
            assert get(proxy.admin_url, "/readyz").status == 200, "one that was never asked for is no trouble"
        assert len(tokens.requests) == 1
        assert others.requests == []


# ── how it ends ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_proxy_ends_with_0(number: signal.Signals) -> None:
    with Upstream() as upstream, running_proxy({"routes": one_route(upstream.url)}) as proxy:
        idle = connect(proxy.url)
        assert idle.send(request()).answer().status == 200
        proxy.signal(number)
        assert proxy.wait() == 0, "a connection on which nothing happens does not hold it up"
        idle.close()


def test_sigterm_lets_a_slow_answer_and_an_upload_finish_and_takes_nobody_new() -> None:
    held, upload = Held(), Upstream()
    with ExitStack() as stack:
        slow = stack.enter_context(Upstream(held))
        stack.enter_context(upload)
        routes = [
            {"name": "slow", "path": "/slow", "upstream": slow.url, "auth": PLAIN},
            {"name": "upload", "path": "/upload", "upstream": upload.url, "auth": PLAIN},
        ]
        proxy = stack.enter_context(running_proxy({"routes": routes, "limits": {"drain": "5m"}}))
        waiting = stack.enter_context(connect(proxy.url)).send(request("GET", "/slow"))
        slow.wait_for(1)
        sending = stack.enter_context(connect(proxy.url))
        sending.send(request("POST", "/upload", "Content-Length: 10") + b"first")
        wait_until(lambda: upload.connections == 1)

        proxy.signal()
        wait_until(lambda: takes_nobody_new(proxy), "new connections are still taken")
        sending.send(b"-last")
        assert sending.answer().status == 200
        assert upload.last.body == b"first-last"
        assert proxy.process.poll() is None, "the task is not finished yet"
        held.go.set()
        answer = waiting.answer()
        assert (answer.status, answer.body) == (200, b"at last")
        assert proxy.wait() == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_lets_a_download_finish_whole(workers: int) -> None:
    size, go = 40 << 20, threading.Event()

    def half_and_then_the_rest(_came: Message, wire: Wire) -> bytes:
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * (size // 2))
        assert go.wait(GUARD)
        return b"y" * (size // 2)

    with Upstream(half_and_then_the_rest) as upstream:
        config = {"routes": one_route(upstream.url), "limits": {"drain": "5m"}, "workers": workers}
        with running_proxy(config) as proxy, connect(proxy.url) as wire:
            assert wire.send(request()).head().status == 200
            assert wire.exactly(1 << 20) == b"x" * (1 << 20)
            proxy.signal()
            wait_until(lambda: takes_nobody_new(proxy), "new connections are still taken")
            time.sleep(0.5)  # whoever breaks off has done so by now
            go.set()
            rest = wire.rest()
            assert rest == b"x" * (size // 2 - (1 << 20)) + b"y" * (size // 2)
            assert proxy.wait() == 0


def test_what_is_answered_during_the_drain_is_the_last_on_its_connection() -> None:
    held = Held()
    with Upstream(held) as upstream, ExitStack() as stack:
        config = {"routes": one_route(upstream.url), "limits": {"drain": "5m"}}
        proxy = stack.enter_context(running_proxy(config))
        idle = stack.enter_context(connect(proxy.url))
        held.go.set()
        assert idle.send(request()).answer().one("Connection") is None
        held.go.clear()
        begun = stack.enter_context(connect(proxy.url)).send(request("GET", "/begun"))
        upstream.wait_for(2)
        half = stack.enter_context(connect(proxy.url))
        half.send(b"GET /half HTTP/1.1\r\nHost: local")
        assert get(proxy.url, "/nowhere", host="evil.example").status == 403  # by now the half head is read
        proxy.signal()
        wait_until(lambda: takes_nobody_new(proxy), "new connections are still taken")
        assert idle.read() == b"", "on this one nothing is under way"
        half.send(b"host\r\n\r\n")
        held.go.set()
        for wire in (begun, half):
            answer = wire.answer()
            assert (answer.status, answer.body) == (200, b"at last")
            assert answer.one("Connection") == "close"
            assert wire.read() == b""
        assert proxy.wait() == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_signal_ends_at_once(workers: int) -> None:
    held = Held()
    with Upstream(held) as upstream:
        config = {"routes": one_route(upstream.url), "limits": {"drain": "5m"}, "workers": workers}
        with running_proxy(config) as proxy, connect(proxy.url) as wire:
            wire.send(request())
            upstream.wait_for(1)
            proxy.signal()
            wait_until(lambda: takes_nobody_new(proxy), "the first signal did nothing")
            assert proxy.process.poll() is None
            proxy.signal()
            proxy.wait()
        held.go.set()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_fifty_requests_finish_and_closes_what_is_idle(
    number: signal.Signals, workers: int
) -> None:
    held = Held()
    with Upstream(held) as upstream, ExitStack() as stack:
        config = {"routes": one_route(upstream.url), "limits": {"drain": "5m"}, "workers": workers}
        proxy = stack.enter_context(running_proxy(config))
        held.go.set()
        idle = [stack.enter_context(connect(proxy.url)) for _ in range(10)]
        assert [wire.send(request()).answer().status for wire in idle] == [200] * 10
        held.go.clear()
        asked = [stack.enter_context(connect(proxy.url)).send(request()) for _ in range(50)]
        upstream.wait_for(60)
        proxy.signal(number)
        assert [wire.is_closed() for wire in idle] == [True] * 10
        wait_until(lambda: takes_nobody_new(proxy), "new connections are still taken")
        held.go.set()
        answers = [wire.answer() for wire in asked]
        assert {(answer.status, answer.body) for answer in answers} == {(200, b"at last")}
        assert {answer.one("Connection") for answer in answers} == {"close"}
        assert proxy.wait() == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_who_has_connected_before_the_signal_and_asks_after_it_is_answered(workers: int) -> None:
    held = Held()
    with Upstream(held) as upstream, ExitStack() as stack:
        config = {"routes": one_route(upstream.url), "limits": {"drain": "5m"}, "workers": workers}
        proxy = stack.enter_context(running_proxy(config))
        begun = [stack.enter_context(connect(proxy.url)).send(request()) for _ in range(20)]
        upstream.wait_for(20)
        new = [stack.enter_context(connect(proxy.url)) for _ in range(20)]
        for wire in [stack.enter_context(connect(proxy.url)) for _ in range(20)]:
            assert wire.send(request(host="evil.example")).answer().status == 403  # all are accepted by now
        proxy.signal()
        for wire in new:
            wire.send(request())
        held.go.set()
        assert {wire.answer().status for wire in [*begun, *new]} == {200}
        assert proxy.wait() == 0


@pytest.mark.parametrize("workers", [1, 3])
def test_a_signal_right_after_the_start_ends_it_with_0(workers: int) -> None:
    for _ in range(5):
        config = {"routes": one_route("http://127.0.0.1:1"), "workers": workers, "admin": False}
        with running_proxy(config) as proxy:
            assert proxy.stop() == 0


def test_the_drain_runs_out() -> None:
    held = Held()
    with Upstream(held) as upstream:
        config = {"routes": one_route(upstream.url), "limits": {"drain": "200ms"}}
        with running_proxy(config) as proxy, connect(proxy.url) as wire:
            wire.send(request())
            upstream.wait_for(1)
            proxy.signal()
            assert proxy.wait() == 0
            assert 'cause="authproxy ended before the answer was whole (`limits.drain`' in proxy.log()
            assert "the client went away" not in proxy.log()
        held.go.set()


# ── the admin listener ───────────────────────────────────────────────────────────────────────────


def test_readyz_tells_which_route_was_rejected_and_healthz_does_not_care() -> None:
    with ExitStack() as stack:
        tokens, api = stack.enter_context(Tokens()), stack.enter_context(Upstream())
        routes = one_route(api.url, client_of(tokens))
        routes += [{"name": "other", "path": "/other", "upstream": api.url, "auth": PLAIN}]
        proxy = stack.enter_context(running_proxy({"routes": routes}))
        admin = proxy.admin_url
        assert (get(admin, "/healthz").status, get(admin, "/readyz").status) == (200, 200)
        assert authproxy("healthcheck", admin).returncode == 0

        tokens.says(json_reply({"error": "invalid_client"}, 401))
        assert get(proxy.url).status == 502
        answer = get(admin, "/readyz")
        assert answer.status == 503
        assert b"api" in answer.body
        assert b"rejected" in answer.body
        assert b"the-clients-secret" not in answer.body
        assert get(admin, "/readyz?route=api").status == 503
        assert get(admin, "/readyz?route=other").status == 200
        assert get(admin, "/healthz").status == 200
        ended = authproxy("healthcheck", admin)
        assert ended.returncode == 1
        assert "api" in ended.stderr


def test_the_admin_listener_is_guarded_too() -> None:
    with running_proxy({"routes": one_route("http://127.0.0.1:1")}) as proxy:
        assert get(proxy.admin_url, "/readyz", host="evil.example").status == 403
        assert get(proxy.admin_url, "/readyz", "Origin: https://evil.example").status == 403
        assert get(proxy.admin_url, "/readyz", "Sec-Fetch-Site: cross-site").status == 403
        assert get(proxy.url, "/healthz").status == 502, "the API may have a /healthz of its own"


@pytest.mark.parametrize("host", ["", "0.0.0.0", "[::]", "localhost", "127.0.0.1"])
def test_healthcheck_asks_whom_the_configuration_names(host: str) -> None:
    if ":" in host and not has_ipv6():
        pytest.skip("no IPv6")
    admin = {"admin": {"listen": f"{host}:{free_port()}"}, "allow_remote": True}
    with running_proxy({"routes": one_route("http://127.0.0.1:1"), **admin}) as proxy:
        file = str(proxy.directory / "authproxy-test.yaml")
        ended = authproxy("healthcheck", "-c", file)
        assert (ended.returncode, ended.stderr) == (0, "")
        proxy.stop()
        assert authproxy("healthcheck", "-c", file).returncode == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_an_admin_listener_on_a_unix_socket(workers: int, tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    auth = {
        "grant": "authorization_code",
        "authorization_url": "http://127.0.0.1:1/authorize",
        "token_url": "http://127.0.0.1:1/token",
        "client_id": "x",
    }
    routes = one_route("http://127.0.0.1:1", auth)
    with running_proxy({"admin": {"listen": f"unix:{path}"}, "routes": routes, "workers": workers}) as proxy:
        assert proxy.admin_url == f"unix:{path}"
        wait_until(lambda: get(proxy.admin_url, "/readyz").status == 503)
        hint = get(proxy.url).json["hint"]
        assert hint.startswith("run `authproxy login api"), "there is no URL that a browser could open"
        for args in (["-c", str(proxy.directory / "authproxy-test.yaml")], [proxy.admin_url]):
            ended = authproxy("healthcheck", *args)
            assert ended.returncode == 1
            assert "api is login_required: " in ended.stderr
        assert proxy.stop() == 0
        assert not path.exists()
        assert "does not answer" in authproxy("healthcheck", proxy.admin_url).stderr


def test_a_start_that_fails_leaves_no_unix_socket_behind(tmp_path: Path) -> None:
    with Upstream() as taken:
        listen = [f"unix:{tmp_path}/s", f"127.0.0.1:{taken.port}"]
        config = {"listen": listen, "admin": False, "routes": one_route("http://127.0.0.1:1")}
        assert authproxy("run", config=config).returncode == 1
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("first", [1, 2])
def test_a_second_proxy_does_not_share_the_port_of_the_first(first: int) -> None:
    port = free_port()
    config = {"listen": f"127.0.0.1:{port}", "routes": one_route("http://127.0.0.1:1")}
    with running_proxy({**config, "workers": first}):
        ended = authproxy("run", config={**config, "admin": False, "workers": 2})
        assert ended.returncode == 1
        assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in ended.stderr


def test_healthcheck_of_nobody_fails() -> None:
    assert authproxy("healthcheck", "http://127.0.0.1:1").returncode == 1


# ── a secret changes ─────────────────────────────────────────────────────────────────────────────


def takes_only_the_right_secret(tokens: Tokens) -> None:
    issue = tokens.answer

    def judge(came: Message, wire: Wire) -> bytes | None:
        if came.basic == "me:right-secret":
            return issue(came, wire)
        return json_reply({"error": "invalid_client"}, 401)

    tokens.answer = judge


def test_a_secret_that_is_rotated_in_its_file_needs_no_restart(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("wrong-secret\n")
    with Tokens() as tokens, API(tokens.issued) as api:
        takes_only_the_right_secret(tokens)
        routes = one_route(api.url, client_of(tokens, f"${{file:{file}}}"))
        with running_proxy({"routes": routes, "log": {"level": "debug"}}) as proxy:
            assert [get(proxy.url).status for _ in range(3)] == [502, 503, 503]
            assert len(tokens.requests) == 1
            file.write_text("right-secret\n")
            assert get(proxy.url).status == 200
            assert len(tokens.requests) == 2
            assert not re.search("wrong-secret|right-secret", proxy.log())


def test_a_rotated_secret_that_is_only_half_there_never_becomes_the_credential(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("wrong-secret\n")
    with Tokens() as tokens, API(tokens.issued) as api:
        takes_only_the_right_secret(tokens)
        with running_proxy({"routes": one_route(api.url, client_of(tokens, f"${{file:{file}}}"))}) as proxy:
            assert get(proxy.url).status == 502
            for content in (b"", b"right-secret\n\n", b"\xef\xbb\xbfright-secret\n"):
                file.write_bytes(content)
                assert get(proxy.url).status == 503
            assert {request.basic for request in tokens.requests} == {"me:wrong-secret"}
            told = proxy.wait_for_log("the old one is kept", times=3)
            assert f"${{file:{file}}}" in told
            file.write_text("right-secret\n")
            assert get(proxy.url).status == 200
            assert not re.search("wrong-secret|right-secret", proxy.log())


def test_what_is_hardly_meant_is_said_when_it_starts(tmp_path: Path) -> None:
    with Upstream() as upstream:
        auth = {"grant": "basic", "username": "me", "password": "${PASSWORD}"}
        config = {"routes": one_route(upstream.url, auth, headers={"set": {"X-Key": "$OTHER_KEY"}})}
        with running_proxy(config, env={"PASSWORD": "hunter2 "}) as proxy:
            log = proxy.wait_for_log("warning", times=2)
            assert "routes[0].auth.password ends in whitespace, in the value of ${PASSWORD}" in log
            assert "routes[0].headers.set.X-Key a $ without braces is plain text" in log
            assert "hunter" not in log


# ── what it never says ───────────────────────────────────────────────────────────────────────────

SECRETS = {
    "CLIENT": "s3cr3t-of-the-client+/%",
    "PASSWORD": "p4ssw0rd-of-the-user",
    "STATIC": "st4tic-token-value",
    "KEY": "acc3ss-key-of-callers",
    "SETTING": "h3ader-value-set",
}
SENT = ["c4llers-own-token", "c00kie-value", "qu3ry-value", "pr0xy-auth", "b0dy-value", "us3rinfo"]


def everything_that_can_happen(proxy: RunningProxy, tokens: Tokens, api: API) -> None:
    """Use every route, rightly and wrongly, with a secret in every place where one could stand."""
    key = f"X-Authproxy-Key: {SECRETS['KEY']}"
    query = "?access_token=qu3ry-value&q=qu3ry-value"
    for path in ("/client", "/password", "/static", "/basic", "/nowhere", "/refused"):
        get(proxy.url, f"{path}/x{query}", key, "Cookie: s=c00kie-value", "Proxy-Authorization: pr0xy-auth")
        get(proxy.url, f"{path}/x{query}", key, "Authorization: Bearer c4llers-own-token")
        ask(proxy.url, request("POST", f"{path}/x{query}", key, body=b"b0dy-value"))
        get(proxy.url, f"{path}/x{query}")
    tokens.revoke()
    for path in ("/client", "/password"):
        assert get(proxy.url, f"{path}/again{query}", key).status == 200
    api.says(b"garbage", then_close=True)
    get(proxy.url, f"/client/garbage{query}", key, "Cookie: s=c00kie-value")
    api.says(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort", then_close=True)
    with connect(proxy.url) as wire:
        wire.send(request("GET", f"/client/short{query}", key)).rest()
    for broken in (
        b"GET /client HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer c4llers-own-token\x00\r\n\r\n",
        b"GET /client?qu3ry-value#x HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http://us3rinfo:us3rinfo@localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /client/qu3ry\x01-value HTTP/1.1\r\nHost: localhost\r\nCookie: c00kie-value\r\n\r\n",
        b"POST /client HTTP/1.1\r\nHost: localhost\r\n"
        + key.encode()
        + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"b0dy-value\r\n",
    ):
        ask(proxy.url, broken)


@pytest.mark.parametrize("style", ["text", "json"])
def test_no_secret_is_ever_said_at_debug_level_in_a_whole_session(style: str) -> None:
    with ExitStack() as stack:
        tokens = stack.enter_context(Tokens())
        api = stack.enter_context(API(tokens.issued))

        def echo_what_is_wrong(came: Message, _wire: Wire) -> bytes:
            said = came.body.decode() + (came.one("Authorization") or "") + SECRETS["CLIENT"]
            return json_reply({"error": "invalid_client", "error_description": said}, 401)

        refusing = stack.enter_context(Upstream(echo_what_is_wrong))
        user = {"username": "me", "password": "${PASSWORD}"}
        client = {
            "client_id": "me",
            "client_secret": "${CLIENT}",
            "token_url": f"{tokens.url}/?k=qu3ry-value",
        }
        auths = {
            "client": {"grant": "client_credentials", **client},
            "password": {"grant": "password", **client, **user, "client_auth": "client_secret_post"},
            "static": {"grant": "static", "token": "${STATIC}"},
            "basic": {"grant": "basic", **user},
            "refused": {"grant": "client_credentials", **client, "token_url": refusing.url},
        }
        routes = [
            {
                "name": name,
                "path": f"/{name}",
                "upstream": api.url,
                "auth": auth,
                "headers": {"set": {"X-Secret": "${SETTING}"}},
            }
            for name, auth in auths.items()
        ]
        config = {
            "routes": routes,
            "access": {"tokens": ["${KEY}"]},
            "log": {"level": "debug", "format": style},
        }
        proxy = stack.enter_context(running_proxy(config, env=SECRETS))
        everything_that_can_happen(proxy, tokens, api)
        assert proxy.stop() == 0
        said = proxy.log() + proxy.output()
        basics = re.findall(r"Basic (\S+?)\r", "".join(each.head.decode("latin-1") for each in api.requests))
        assert basics, "the Basic route was used"
        for secret in [*SECRETS.values(), *SENT, *tokens.issued.every, *basics]:
            assert secret not in said
        assert "internal error" not in said
        assert "Traceback" not in said
        if style == "json":
            assert all(isinstance(json.loads(line), dict) for line in proxy.log().splitlines())


def test_access_lines_can_be_turned_off() -> None:
    with Upstream() as upstream:
        config = {"routes": one_route(upstream.url), "log": {"access": False}}
        with running_proxy(config) as proxy:
            assert get(proxy.url, "/not-told").status == 200
            assert proxy.stop() == 0
            assert "/not-told" not in proxy.log()
