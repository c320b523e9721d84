"""Another configuration takes the place of the one at work: whole, or not at all, and nobody notices."""

import contextlib
import os
import pty
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from tests.support.command import RunningProxy, running_proxy, wait_until
from tests.support.edited import DONE, NOT_DONE, Edited, edited
from tests.support.launch import ANY_PORT, COMMAND, GUARD, write_config
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
from tests.support.workers import children

PROCESSES = pytest.mark.parametrize("workers", [1, 2])


def route(upstream: Upstream, auth: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"name": "api", "upstream": upstream.url, "auth": auth or {"grant": "none"}, **more}


def client_of(tokens: Tokens, client_id: str = "me") -> dict[str, Any]:
    return {
        "grant": "client_credentials",
        "client_id": client_id,
        "client_secret": "the-clients-secret",
        "token_url": f"{tokens.url}/token",
    }


def is_replaced(pid: int, proxy: RunningProxy) -> bool:
    now = children(proxy.pid)
    return pid not in now and len(now) == 3


def goes_to(upstream: Upstream, proxy: Edited) -> bool:
    """Whether all of many requests, on a connection each, go to `upstream`: every worker gets some."""
    before = len(upstream.requests)
    assert {get(proxy.proxy.url).status for _ in range(20)} == {200}
    return len(upstream.requests) == before + 20


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Have a process stand still, as if it were not given any time, until the end of the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def has_pending(pid: int, number: int) -> bool:
    """Whether a signal waits for a process."""
    lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd", "ShdPnd"))]
    return any(mask >> (number - 1) & 1 for mask in masks)


def processes(proxy: RunningProxy) -> list[int]:
    return [proxy.pid, *children(proxy.pid)]


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


INVALID_CLIENT = json_reply({"error": "invalid_client"}, 401)


def is_refused(url: str) -> bool:
    try:
        connect(url).close()
    except OSError:
        return True
    return False


# ── what is swapped ──────────────────────────────────────────────────────────────────────────────


@PROCESSES
def test_requests_go_by_the_new_file_and_each_worker_has_it(workers: int) -> None:
    with (
        Upstream() as old,
        Upstream() as new,
        edited({"workers": workers, "routes": [route(old)]}) as proxy,
    ):
        assert get(proxy.proxy.url).status == 200
        proxy.must_reload(
            routes=[route(new), route(new, name="more", path="/more", headers={"set": {"X-Of": "more"}})]
        )
        assert {get(proxy.proxy.url, "/more").status for _ in range(20)} == {200}
        assert {came.one("X-Of") for came in new.requests} == {"more"}
        assert len(old.requests) == 1
        proxy.must_reload(routes=[route(new, path="/only")])
        assert {get(proxy.proxy.url, "/more").status for _ in range(20)} == {404}


@PROCESSES
def test_the_guard_is_the_new_one(workers: int) -> None:
    with Upstream() as upstream:
        config = {"workers": workers, "routes": [route(upstream)]}
        with edited(config) as proxy:
            url = proxy.proxy.url
            proxy.must_reload(allowed_hosts=["sidecar.example"])
            assert get(url, host="sidecar.example").status == 200
            proxy.must_reload(access={"tokens": ["the-key-of-the-callers"]})
            assert {get(url).status for _ in range(10)} == {401}
            assert get(url, "/", "X-Authproxy-Key: the-key-of-the-callers").status == 200
            proxy.must_reload(access=None, limits={"body_bytes": "1KiB"})
            assert ask(url, request("POST", body=b"x" * 2000)).status == 413


@PROCESSES
def test_the_admin_listeners_guard_is_the_new_one_too(workers: int) -> None:
    with Upstream() as upstream, edited({"workers": workers, "routes": [route(upstream)]}) as proxy:
        url = proxy.proxy.admin_url
        assert get(url, "/metrics").status == 200
        proxy.must_reload(access={"tokens": ["the-key-of-the-callers"]}, allowed_hosts=["sidecar.example"])
        assert get(url, "/metrics").status == 401
        key = "X-Authproxy-Key: the-key-of-the-callers"
        assert get(url, "/metrics", key, host="sidecar.example").status == 200


@PROCESSES
def test_the_log_is_kept_as_the_new_file_says(workers: int) -> None:
    with Upstream() as upstream, edited({"workers": workers, "routes": [route(upstream)]}) as proxy:
        proxy.must_reload(log={"access": True, "format": "json"})
        get(proxy.proxy.url, "/seen")
        proxy.proxy.wait_for_log('"path": "/seen"')
        proxy.must_reload(log={"access": False})
        get(proxy.proxy.url, "/unseen")
        assert proxy.proxy.stop() == 0
        assert "/unseen" not in proxy.proxy.log()


# ── what is kept ─────────────────────────────────────────────────────────────────────────────────


@PROCESSES
def test_the_token_of_an_unchanged_credential_is_kept_whatever_its_route_is_called(workers: int) -> None:
    with Tokens() as tokens, API(tokens.issued) as api:
        auth = client_of(tokens)
        with edited({"workers": workers, "routes": [route(api, auth)]}) as proxy:
            assert get(proxy.proxy.url).status == 200
            proxy.must_reload(
                routes=[route(api, auth, name="renamed", path="/api", timeouts={"response": "9s"})]
            )
            assert {get(proxy.proxy.url, "/api").status for _ in range(20)} == {200}
            assert len(tokens.requests) == 1
            tokens.revoke()
            assert get(proxy.proxy.url, "/api").status == 200
            assert "route=renamed" in proxy.proxy.wait_for_log("token renewed")


@PROCESSES
def test_a_changed_credential_gets_a_token_of_its_own(workers: int) -> None:
    with (
        Tokens() as tokens,
        API(tokens.issued) as api,
        edited({"workers": workers, "routes": [route(api, client_of(tokens))]}) as proxy,
    ):
        get(proxy.proxy.url)
        proxy.must_reload(routes=[route(api, client_of(tokens, "another"))])
        assert get(proxy.proxy.url).status == 200
        assert [came.basic.partition(":")[0] for came in tokens.requests] == ["me", "another"]


def test_a_token_goes_where_tokens_are_kept_from_now_on(tmp_path: Path) -> None:
    with Tokens() as tokens, API(tokens.issued) as api:
        routes = [route(api, client_of(tokens))]
        store = {"type": "file", "path": str(tmp_path / "tokens"), "key": "a passphrase of some length"}
        with edited({"routes": routes}) as proxy:
            get(proxy.proxy.url)
            proxy.must_reload(token_store=store)
            assert get(proxy.proxy.url).status == 200
            wait_until((tmp_path / "tokens").exists, lambda: "the token is not stored")
        with running_proxy({"routes": routes, "token_store": store}) as proxy:
            assert get(proxy.url).status == 200
        assert len(tokens.requests) == 1


@PROCESSES
def test_connections_to_an_unchanged_upstream_are_kept_and_others_are_closed(workers: int) -> None:
    with Upstream() as kept, Upstream() as left:
        routes = [route(kept), route(left, name="left", path="/left")]
        with (
            edited({"workers": workers, "routes": routes}) as proxy,
            connect(proxy.proxy.url) as wire,
        ):
            for target in ("/", "/left"):
                assert wire.send(request("GET", target)).answer().status == 200
            for number in range(3):
                proxy.must_reload(routes=[route(kept), route(kept, name=f"n{number}", path="/new")])
                assert wire.send(request()).answer().status == 200
            assert kept.connections == 1


def test_counts_go_on() -> None:
    with Upstream() as upstream, edited({"routes": [route(upstream)]}) as proxy:
        get(proxy.proxy.url)
        proxy.must_reload(routes=[route(upstream, timeouts={"response": "9s"})])
        get(proxy.proxy.url)
        metrics = get(proxy.proxy.admin_url, "/metrics").body.decode()
        assert 'authproxy_requests_total{method="GET",route="api",status="200"} 2.0' in metrics


@PROCESSES
def test_the_secrets_of_a_kept_credential_are_still_read_again_whoever_has_the_tokens_then(
    workers: int, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the-first-secret")
    with Tokens() as tokens, API(tokens.issued) as api:
        auth = client_of(tokens) | {"client_secret": f"${{file:{secret}}}"}
        tokens.answer = lambda came, wire: (
            tokens.first_answer(came, wire) if came.basic == f"me:{secret.read_text()}" else INVALID_CLIENT
        )
        with edited({"workers": workers, "routes": [route(api, auth)]}) as proxy:
            proxy.must_reload(routes=[route(api, auth, timeouts={"response": "9s"})])
            if workers > 1:
                broker = children(proxy.proxy.pid)[0]
                os.kill(broker, signal.SIGKILL)
                wait_until(lambda: is_replaced(broker, proxy.proxy), "nobody took its place")
            secret.write_text("the-second-secret")
            assert get(proxy.proxy.url).status == 200


@PROCESSES
def test_a_renewal_of_a_credential_that_is_gone_holds_up_nothing(workers: int) -> None:
    with Tokens() as tokens, API(tokens.issued) as api, Upstream() as plain:
        tokens.held.clear()
        with (
            edited({"workers": workers, "routes": [route(api, client_of(tokens))]}) as proxy,
            connect(proxy.proxy.url) as waiting,
        ):
            waiting.send(request())
            tokens.wait_for(1)
            proxy.must_reload(routes=[route(plain)])
            assert get(proxy.proxy.url).status == 200
            tokens.held.set()
            assert waiting.answer().status == 200


# ── what is under way ────────────────────────────────────────────────────────────────────────────


@PROCESSES
def test_a_request_under_way_ends_under_the_configuration_it_began_with(workers: int) -> None:
    go = threading.Event()

    def slow(came: Message, _wire: Wire) -> bytes:
        assert go.wait(GUARD)
        return reply(200, "Location: " + upstream.url + "/x")

    with (
        Upstream(slow) as upstream,
        Upstream() as other,
        edited({"workers": workers, "routes": [route(upstream, path="/old")]}) as proxy,
        connect(proxy.proxy.url) as wire,
    ):
        wire.send(request("GET", "/old/x"))
        upstream.wait_for(1)
        proxy.must_reload(routes=[route(other, path="/new")])
        go.set()
        answer = wire.answer()
        assert (answer.status, answer.one("Location")) == (200, "http://localhost/old/x")
        assert wire.send(request("GET", "/new")).answer().status == 200
        assert wire.send(request("GET", "/old")).answer().status == 404


@PROCESSES
def test_a_stream_and_a_tunnel_outlive_many_reloads(workers: int) -> None:
    def upgrade(came: Message, wire: Wire) -> bytes | None:
        if came.one("Upgrade") is not None:
            wire.send(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        else:
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        while piece := wire.read():
            wire.send(piece)
            if piece == b"end":
                return None
        return None

    with (
        Upstream(upgrade) as upstream,
        Upstream() as other,
        edited({"workers": workers, "routes": [route(upstream)]}) as proxy,
        connect(proxy.proxy.url) as tunnel,
    ):
        tunnel.send(request("GET", "/ws", "Connection: Upgrade", "Upgrade: echo"))
        assert tunnel.head().status == 101
        for number in range(5):
            proxy.must_reload(routes=[route(other, path=f"/{number}")])
            assert tunnel.send(b"ping").exactly(4) == b"ping"
        tunnel.send(b"end")
        assert tunnel.exactly(3) == b"end"
        assert tunnel.is_closed()


# ── listeners ────────────────────────────────────────────────────────────────────────────────────


@PROCESSES
def test_only_listeners_that_changed_are_opened_or_closed(workers: int, tmp_path: Path) -> None:
    with Upstream() as upstream:
        one, two, admin = (f"127.0.0.1:{free_port()}" for _ in range(3))
        path = tmp_path / "s"
        config = {"workers": workers, "routes": [route(upstream)], "listen": [one]}
        with edited(config) as proxy, connect(f"http://{one}") as kept:
            assert kept.send(request()).answer().status == 200
            proxy.must_reload(listen=[one, two, f"unix:{path}"], admin={"listen": admin})
            assert kept.send(request()).answer().status == 200
            assert [get(f"http://{each}").status for each in (one, two) * 10] == [200] * 20
            assert get(f"unix:{path}").status == 200
            assert get(f"http://{admin}", "/healthz").status == 200
            assert is_refused(proxy.proxy.admin_url)
            proxy.must_reload(listen=[two], admin=False)
            assert is_refused(f"http://{one}")
            assert is_refused(f"http://{admin}")
            assert not path.exists()
            assert get(f"http://{two}").status == 200
            assert kept.send(request()).answer().status == 200, "who is connected stays so"


@PROCESSES
def test_a_listener_may_grow_from_loopback_to_all_addresses(workers: int) -> None:
    with Upstream() as upstream:
        port = free_port()
        config = {"workers": workers, "routes": [route(upstream)], "listen": f"127.0.0.1:{port}"}
        with edited(config) as proxy:
            proxy.must_reload(listen=f"0.0.0.0:{port}", allow_remote=True)
            assert {get(f"http://127.0.0.1:{port}").status for _ in range(10)} == {200}
            proxy.must_reload(listen=f"127.0.0.1:{port}", allow_remote=False)
            assert {get(f"http://127.0.0.1:{port}").status for _ in range(10)} == {200}


def test_one_that_shrinks_takes_no_connection_before_all_are_ready() -> None:
    """The supervisor is stopped, so that the broker waits for it once the workers are prepared."""
    with Upstream() as upstream:
        port = free_port()
        config = {
            "workers": 2,
            "routes": [route(upstream)],
            "listen": f"0.0.0.0:{port}",
            "allow_remote": True,
        }
        with edited(config) as proxy:
            url = f"http://127.0.0.1:{port}"
            proxy.write(listen=f"127.0.0.1:{port}", allow_remote=False)
            with stopped(proxy.proxy.pid):
                os.kill(children(proxy.proxy.pid)[0], signal.SIGHUP)
                wait_until(lambda: has_pending(proxy.proxy.pid, signal.SIGUSR1), "nothing is prepared")
                assert {get(url).status for _ in range(20)} == {200}
            proxy.wait()
            assert {get(url).status for _ in range(20)} == {200}


@PROCESSES
def test_if_a_listener_cannot_be_opened_nothing_changes(workers: int, tmp_path: Path) -> None:
    with Upstream() as old, Upstream() as new, socket.create_server(("127.0.0.1", 0)) as taken:
        other, port = free_port(), taken.getsockname()[1]
        listen = f"127.0.0.1:{free_port()}"
        with edited({"workers": workers, "routes": [route(old)], "listen": listen}) as proxy:
            path = tmp_path / "s"
            proxy.reload(
                routes=[route(new)], listen=[f"unix:{path}", f"127.0.0.1:{other}", f"127.0.0.1:{port}"]
            )
            log = proxy.proxy.log()
            assert NOT_DONE in log
            assert f"cannot listen on 127.0.0.1:{port}" in log
            assert proxy.proxy.config_file is not None
            lines = proxy.proxy.config_file.read_text().splitlines()
            assert f"authproxy-test.yaml:{lines.index('listen:') + 2}:1" in log
            assert get(proxy.proxy.url).status == 200
            assert (len(old.requests), len(new.requests)) == (1, 0)
            assert is_refused(f"http://127.0.0.1:{other}")
            assert not path.exists()


@PROCESSES
def test_a_new_certificate_is_shown_to_who_connects_then(workers: int, tmp_path: Path) -> None:
    def issue(authority: trustme.CA) -> dict[str, str]:
        certificate = authority.issue_cert("localhost", "127.0.0.1")
        certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
        certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
        return {"cert_file": str(tmp_path / "cert.pem"), "key_file": str(tmp_path / "key.pem")}

    def trusting(authority: trustme.CA) -> Any:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        return context

    first, second = trustme.CA(), trustme.CA()
    with Upstream() as upstream:
        tls = issue(first)
        with edited({"workers": workers, "routes": [route(upstream)], "tls": tls}) as proxy:
            url = proxy.proxy.url
            with connect(url, tls=trusting(first)) as kept:
                assert kept.send(request()).answer().status == 200
                issue(second)
                proxy.must_reload()
                for _ in range(10):
                    assert ask(url, request(), tls=trusting(second)).status == 200
                assert kept.send(request()).answer().status == 200


# ── faulty files ─────────────────────────────────────────────────────────────────────────────────


@PROCESSES
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("routes: [", "authproxy-test.yaml:1:10"),
        ("listen: 127.0.0.1:0\nroutes:\n- name: api\n  upstreem: http://x\n", "authproxy-test.yaml:4:3"),
        ("", "is empty"),
        ("token_store: {type: redis, url: 'redis://x', key: 'k', prefix: 1}\nroutes: 3\n", "routes"),
    ],
)
def test_a_faulty_file_is_refused_with_its_place_and_the_old_one_goes_on(
    workers: int, text: str, told: str
) -> None:
    with Upstream() as upstream, edited({"workers": workers, "routes": [route(upstream)]}) as proxy:
        proxy.write_text(text)
        proxy.hang_up()
        log = proxy.proxy.log()
        assert NOT_DONE in log
        assert told in log
        assert get(proxy.proxy.url).status == 200
        proxy.must_reload()


def test_a_file_that_is_gone_is_a_fault_too() -> None:
    with Upstream() as upstream, edited({"routes": [route(upstream)]}) as proxy:
        assert proxy.proxy.config_file is not None
        proxy.proxy.config_file.unlink()
        proxy.hang_up()
        assert "cannot be read" in proxy.proxy.log()
        assert get(proxy.proxy.url).status == 200


@PROCESSES
def test_a_certificate_that_cannot_be_used_is_a_fault(workers: int, tmp_path: Path) -> None:
    (tmp_path / "garbage.pem").write_text("garbage")
    files = {"cert_file": str(tmp_path / "garbage.pem"), "key_file": str(tmp_path / "garbage.pem")}
    with Upstream() as upstream, edited({"workers": workers, "routes": [route(upstream)]}) as proxy:
        proxy.reload(tls=files)
        assert "tls.cert_file: holds no certificate that can be read" in proxy.proxy.log()
        assert get(proxy.proxy.url).status == 200


@PROCESSES
def test_nothing_stays_open_of_what_was_given_up_or_replaced(workers: int, tmp_path: Path) -> None:
    (tmp_path / "garbage.pem").write_text("garbage")
    garbage = {"cert_file": str(tmp_path / "garbage.pem"), "key_file": str(tmp_path / "garbage.pem")}
    with Upstream() as upstream, socket.create_server(("127.0.0.1", 0)) as taken:
        one, two, admin = (f"127.0.0.1:{free_port()}" for _ in range(3))
        config = {"workers": workers, "routes": [route(upstream)], "listen": [one]}
        with edited(config) as proxy:

            def turn() -> list[int]:
                other = route(upstream, name="other", path="/other")
                proxy.must_reload(listen=[one, two, f"unix:{tmp_path}/s"], admin={"listen": admin})
                proxy.reload(routes=[route(upstream), other], listen=[f"127.0.0.1:{taken.getsockname()[1]}"])
                proxy.reload(tls=garbage)
                proxy.must_reload(
                    listen=[one], admin={"listen": ANY_PORT}, tls=None, routes=[route(upstream)]
                )
                assert {get(f"http://{one}").status for _ in range(10)} == {200}
                return [open_files(pid) for pid in processes(proxy.proxy)]

            turn()
            before = turn()
            for _ in range(3):
                turn()
            wait_until(
                lambda: all(
                    open_files(pid) <= count
                    for pid, count in zip(processes(proxy.proxy), before, strict=True)
                ),
                lambda: f"{before} became {[open_files(pid) for pid in processes(proxy.proxy)]}",
            )


def test_no_secret_is_in_the_log_whatever_is_wrong(tmp_path: Path) -> None:
    with Upstream() as upstream:
        secret = "the-secret-that-nobody-prints"
        (tmp_path / "secret").write_text(secret + "\x00")
        auth = {"grant": "static", "token": f"${{file:{tmp_path / 'secret'}}}"}
        config = {"log": {"level": "debug"}, "routes": [route(upstream)]}
        with edited(config) as proxy:
            for wrong in (
                {"routes": [route(upstream, auth)]},
                {"routes": [route(upstream, {"grant": "static", "token": [secret]})]},
                {"routes": [route(upstream, {"grant": secret})]},
                {"access": {"tokens": [secret, 1]}},
                {"token_store": {"type": "redis", "url": f"http://:{secret}@x", "key": secret}},
            ):
                proxy.reload(**wrong)
            assert proxy.proxy.log().count(NOT_DONE) == 5
            assert secret not in proxy.proxy.log()


# ── --watch ──────────────────────────────────────────────────────────────────────────────────────


@PROCESSES
def test_a_file_that_is_replaced_is_noticed(workers: int) -> None:
    with (
        Upstream() as old,
        Upstream() as new,
        edited({"workers": workers, "routes": [route(old)]}, "--watch") as proxy,
    ):
        proxy.write(routes=[route(new)])
        proxy.wait()
        assert get(proxy.proxy.url).status == 200
        assert len(new.requests) == 1


def test_a_link_that_is_swapped_is_noticed(tmp_path: Path) -> None:
    """Kubernetes: config.yaml → ..data/config.yaml, and ..data → ..DIRECTORY is replaced."""
    with Upstream() as old, Upstream() as new:
        for name, upstream in (("..1", old), ("..2", new)):
            (tmp_path / name).mkdir()
            config = {"listen": ANY_PORT, "admin": False, "routes": [route(upstream)]}
            (tmp_path / name / "config.yaml").write_text(yaml.safe_dump(config))
        (tmp_path / "..data").symlink_to("..1")
        (tmp_path / "config.yaml").symlink_to("..data/config.yaml")
        args = ("-c", str(tmp_path / "config.yaml"), "--watch", "--admin", ANY_PORT)
        with running_proxy(None, *args) as proxy:
            (tmp_path / "..new").symlink_to("..2")
            (tmp_path / "..new").replace(tmp_path / "..data")
            proxy.wait_for_log(DONE)
            assert get(proxy.url).status == 200
            assert (len(old.requests), len(new.requests)) == (0, 1)


@PROCESSES
def test_a_secret_in_a_file_of_its_own_is_watched_too(workers: int, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("the-first-token-there-is")
    with Upstream() as upstream:
        auth = {"grant": "static", "token": f"${{file:{secret}}}"}
        with edited({"workers": workers, "routes": [route(upstream, auth)]}, "--watch") as proxy:
            get(proxy.proxy.url)
            fresh = tmp_path / "fresh"
            fresh.write_text("the-second-token-there-is")
            fresh.replace(secret)
            proxy.wait()
            get(proxy.proxy.url)
            told = [came.one("Authorization") for came in upstream.requests]
            assert told == ["Bearer the-first-token-there-is", "Bearer the-second-token-there-is"]


@PROCESSES
def test_what_a_faulty_file_names_is_watched_so_that_it_is_read_once_it_can_be(
    workers: int, tmp_path: Path
) -> None:
    """Kubernetes brings a ConfigMap and a Secret when it likes, one after the other."""
    secret = tmp_path / "token"
    with Upstream() as upstream:
        config = {"workers": workers, "routes": [route(upstream)]}
        with edited(config, "--watch") as proxy:
            auth = {"grant": "static", "token": f"${{file:{secret}}}"}
            proxy.write(routes=[route(upstream, auth)])
            proxy.wait()
            assert NOT_DONE in proxy.proxy.log()
            secret.write_text("the-token-that-came-later")
            proxy.wait()
            get(proxy.proxy.url)
            assert upstream.last.one("Authorization") == "Bearer the-token-that-came-later"


def test_a_file_that_is_written_piece_by_piece_is_read_once_it_is_whole() -> None:
    with Upstream() as old, Upstream() as new, edited({"routes": [route(old)]}, "--watch") as proxy:
        assert proxy.proxy.config_file is not None
        text = yaml.safe_dump({**proxy.config, "routes": [route(new)]})
        with proxy.proxy.config_file.open("w") as stream:
            for start in range(0, len(text), 40):
                stream.write(text[start : start + 40])
                stream.flush()
                threading.Event().wait(0.1)
        proxy.wait()
        assert NOT_DONE not in proxy.proxy.log()
        assert get(proxy.proxy.url).status == 200
        assert len(new.requests) == 1


# ── processes ────────────────────────────────────────────────────────────────────────────────────


def test_who_takes_a_dead_workers_place_or_the_brokers_begins_with_the_new_configuration() -> None:
    with Upstream() as old, Upstream() as new:
        one, two = (f"127.0.0.1:{free_port()}" for _ in range(2))
        with edited({"workers": 2, "routes": [route(old)], "listen": one}) as proxy:
            proxy.must_reload(routes=[route(new)], listen=[two])
            before = children(proxy.proxy.pid)
            for pid in before:
                os.kill(pid, signal.SIGKILL)
                wait_until(
                    lambda pid=pid: (
                        pid not in children(proxy.proxy.pid) and len(children(proxy.proxy.pid)) == 3
                    ),
                    lambda: "nobody took its place",
                )
            assert {get(f"http://{two}").status for _ in range(20)} == {200}
            assert old.requests == []
            assert is_refused(f"http://{one}")
            proxy.must_reload(routes=[route(old)])
            assert {get(f"http://{two}").status for _ in range(20)} == {200}
            assert len(old.requests) == 20
        assert proxy.proxy.stop() == 0


def test_a_broker_that_dies_over_a_reload_is_followed_by_one_that_ends_it() -> None:
    """It dies after the supervisor was told, and before the workers were."""
    with Upstream() as old, Upstream() as new, edited({"workers": 2, "routes": [route(old)]}) as proxy:
        broker = children(proxy.proxy.pid)[0]
        proxy.write(routes=[route(new)])
        with stopped(proxy.proxy.pid):
            os.kill(broker, signal.SIGHUP)
            wait_until(lambda: has_pending(proxy.proxy.pid, signal.SIGUSR1), "nothing is prepared")
            os.kill(broker, signal.SIGKILL)
        wait_until(lambda: is_replaced(broker, proxy.proxy), "nobody took its place")
        wait_until(lambda: goes_to(new, proxy), "the workers were never told")
        proxy.must_reload(routes=[route(old)])
        assert goes_to(old, proxy)


def test_a_broker_that_dies_before_anything_is_settled_leaves_all_as_it_was() -> None:
    with Upstream() as old, Upstream() as new:
        one, two = (f"127.0.0.1:{free_port()}" for _ in range(2))
        with edited({"workers": 2, "routes": [route(old)], "listen": [one]}) as proxy:
            broker, worker, other = children(proxy.proxy.pid)
            proxy.write(routes=[route(new)], listen=[one, two])
            with stopped(worker):
                before = open_files(other)
                os.kill(broker, signal.SIGHUP)
                wait_until(lambda: open_files(other) > before, "the other worker does not prepare")
                os.kill(broker, signal.SIGKILL)
                wait_until(lambda: is_replaced(broker, proxy.proxy), "nobody took its place")
            wait_until(lambda: is_refused(f"http://{two}"), "what was prepared stays open")
            assert goes_to(old, proxy)
            proxy.must_reload()
            assert goes_to(new, proxy)
            assert get(f"http://{two}").status == 200


def test_a_worker_that_dies_over_a_reload_is_followed_by_one_that_takes_part() -> None:
    with Upstream() as old, Upstream() as new, edited({"workers": 2, "routes": [route(old)]}) as proxy:
        _, worker, other = children(proxy.proxy.pid)
        proxy.write(routes=[route(new)])
        with stopped(worker):
            proxy.proxy.signal(signal.SIGHUP)
            os.kill(worker, signal.SIGKILL)
        proxy.wait()
        assert NOT_DONE not in proxy.proxy.log()
        wait_until(lambda: goes_to(new, proxy), "a worker was left behind")
        assert other in children(proxy.proxy.pid)


def test_who_takes_anothers_place_logs_as_the_new_file_says() -> None:
    with Upstream() as upstream, edited({"workers": 2, "routes": [route(upstream)]}) as proxy:
        proxy.must_reload(log={"access": True, "format": "json"})
        for pid in children(proxy.proxy.pid):
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda pid=pid: is_replaced(pid, proxy.proxy), "nobody took its place")
        assert '"event": "process died"' in proxy.proxy.log()
        for number in range(20):
            get(proxy.proxy.url, f"/{number}")
        proxy.proxy.wait_for_log('"path": "/', times=20)


@PROCESSES
def test_the_end_goes_before_a_reload_that_has_begun(workers: int, tmp_path: Path) -> None:
    go = threading.Event()

    def slow(_came: Message, _wire: Wire) -> bytes:
        assert go.wait(GUARD)
        return reply(200)

    with Upstream(slow) as old, Upstream() as new:
        other = f"127.0.0.1:{free_port()}"
        with (
            edited({"workers": workers, "routes": [route(old)]}) as proxy,
            connect(proxy.proxy.url) as wire,
        ):
            wire.send(request())
            old.wait_for(1)
            command = f"touch {tmp_path}/begun; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; echo token"
            (tmp_path / "wait").write_text(command)
            auth = {"grant": "static", "token": f"${{command:sh {tmp_path}/wait}}"}
            proxy.write(routes=[route(new, auth)], listen=[other])
            proxy.proxy.signal(signal.SIGHUP)
            wait_until((tmp_path / "begun").exists, "nothing is read")
            proxy.proxy.signal(signal.SIGTERM)
            wait_until(lambda: is_refused(proxy.proxy.url), "it does not end")
            (tmp_path / "go").touch()
            proxy.wait()
            assert "authproxy is stopping" in proxy.proxy.log()
            go.set()
            assert wire.answer().status == 200
            assert proxy.proxy.wait() == 0
            assert new.requests == []
            assert is_refused(f"http://{other}")


def test_a_signal_too_many_does_no_harm() -> None:
    with Upstream() as upstream, edited({"routes": [route(upstream)]}) as proxy:
        for _ in range(50):
            proxy.proxy.signal(signal.SIGHUP)
        proxy.wait()
        assert get(proxy.proxy.url).status == 200
        assert proxy.proxy.stop() == 0


def test_the_number_of_workers_changes_with_a_restart() -> None:
    with Upstream() as upstream, edited({"routes": [route(upstream)]}) as proxy:
        proxy.must_reload(workers=2)
        assert "`workers` takes effect when authproxy is started again" in proxy.proxy.log()


# ── a terminal ───────────────────────────────────────────────────────────────────────────────────


@PROCESSES
def test_a_terminal_that_is_closed_ends_what_was_started_from_it(workers: int, tmp_path: Path) -> None:
    """The system says both by SIGHUP: that the terminal has gone, and "read your configuration again"."""
    with Upstream() as upstream:
        config = {"listen": ANY_PORT, "admin": False, "workers": workers, "routes": [route(upstream)]}
        file = write_config(tmp_path, config)
        log = tmp_path / "log"
        pid, terminal = pty.fork()
        if pid == 0:
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may have it ignored
            os.execv("/bin/sh", ["sh", "-c", f"exec {COMMAND[0]} run -c {file} 2>{log}"])
        said = b""
        while b"listening on" not in said:
            said += os.read(terminal, 4096)
        os.kill(pid, signal.SIGHUP)
        wait_until(lambda: DONE in log.read_text(), lambda: f"not reloaded: {log.read_text()}")
        os.close(terminal)
        assert exit_code(pid) == 0


def exit_code(pid: int) -> int:
    """Wait for the end of a child that no `Popen` knows of."""
    statuses: list[int] = []

    def has_ended() -> bool:
        found, status = os.waitpid(pid, os.WNOHANG)
        statuses.append(status)
        return found == pid

    wait_until(has_ended, "it does not end")
    return os.waitstatus_to_exitcode(statuses[-1])
