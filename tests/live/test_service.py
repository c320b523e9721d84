"""As a service: what a service manager hears, and the sockets that it opens for us."""

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import running_proxy, wait_until
from tests.support.installed import need
from tests.support.launch import COMMAND, GUARD, NotStarted, environment, write_config
from tests.support.ports import free_port
from tests.support.service_manager import NotifySocket, passing
from tests.support.wire import Upstream, connect, get, request
from tests.support.workers import children

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="wants Linux")

PLAIN = {"grant": "none"}
each_number_of_workers = pytest.mark.parametrize("workers", [1, 2])


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as made:
        yield made


def settings(upstream: Upstream, **more: Any) -> dict[str, Any]:
    return {"routes": [{"name": "api", "upstream": upstream.url, "auth": PLAIN}], **more}


# ── what the service manager hears ───────────────────────────────────────────────────────────────


@each_number_of_workers
@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_hears_when_it_serves_and_when_it_stops(
    upstream: Upstream, workers: int, *, abstract: bool
) -> None:
    with NotifySocket(abstract=abstract) as manager:
        config = settings(upstream, workers=workers, listen=["127.0.0.1:0", "127.0.0.1:0"])
        with running_proxy(config, env=manager.env()) as proxy:
            ready = manager.hears("READY=1")
            assert ready["STATUS"] == f"serving 1 route on {', '.join(proxy.urls)}"
            assert get(proxy.url).status == 200
            assert proxy.stop() == 0
        assert manager.next(0) == {"STOPPING": "1", "STATUS": "stopping: finishing what is in flight"}
        assert manager.next(0) is None
        assert len(manager.messages) == 2


@each_number_of_workers
def test_the_service_manager_hears_of_a_reload_and_how_it_went(upstream: Upstream, workers: int) -> None:
    with NotifySocket() as manager:
        config = settings(upstream, workers=workers)
        with running_proxy(config, env=manager.env()) as proxy:
            manager.hears("READY=1")
            began = time.monotonic_ns() // 1000
            proxy.signal(signal.SIGHUP)
            reloading = manager.hears("RELOADING=1")
            assert began <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
            serving = f"serving 1 route on {proxy.url}"
            assert manager.hears("READY=1")["STATUS"] == serving
            assert proxy.config_file is not None
            proxy.config_file.write_text("routes: 3")
            proxy.signal(signal.SIGHUP)
            manager.hears("RELOADING=1")
            status = manager.hears("READY=1")["STATUS"]
            assert status.startswith(f"{serving}; not reloaded: {proxy.config_file}:1:9: routes: ")
            assert get(proxy.url).status == 200


@each_number_of_workers
def test_sockets_that_were_passed_stay_over_reloads(upstream: Upstream, workers: int, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as passed, Upstream() as other:
        passed.bind(str(path))
        passed.listen()
        config = settings(upstream, workers=workers)
        with running_proxy(config, **passing(passed)) as proxy:
            assert proxy.config_file is not None
            for name in ("one", "two"):
                routes = [{"name": name, "path": f"/{name}", "upstream": other.url, "auth": PLAIN}]
                write_config(proxy.directory, {**settings(upstream, workers=workers), "routes": routes})
                proxy.signal(signal.SIGHUP)
                proxy.wait_for_log("configuration reloaded", times=1 if name == "one" else 2)
                assert get(f"unix:{path}", f"/{name}").status == 200
            assert proxy.stop() == 0
        assert path.exists()
        assert len(other.requests) == 2


# The last child does not begin before there is a file.
SLOW_CHILD = """
import os, sys, time
forks, fork, go, sys.argv = 0, os.fork, sys.argv[1], sys.argv[2:]
def slow():
    global forks
    forks += 1
    pid = fork()
    while not pid and forks == 4 and not os.path.exists(go):
        time.sleep(0.01)
    return pid
os.fork = slow
from authproxy.cli import main
main()
"""


def test_with_workers_it_is_ready_once_every_one_serves(upstream: Upstream, tmp_path: Path) -> None:
    before = (sys.executable, "-c", SLOW_CHILD, str(tmp_path / "go"))
    with (
        NotifySocket() as manager,
        running_proxy(settings(upstream, workers=3), env=manager.env(), before=before) as proxy,
    ):
        assert manager.next(1) is None, "the listeners are announced, but one does not serve yet"
        (tmp_path / "go").touch()
        manager.hears("READY=1")
        assert get(proxy.url).status == 200
        assert proxy.stop() == 0


@each_number_of_workers
def test_the_watchdog_hears_that_it_lives(upstream: Upstream, workers: int) -> None:
    with NotifySocket() as manager:
        env = manager.env(watchdog=0.2)
        with running_proxy(settings(upstream, workers=workers), env=env) as proxy:
            for _ in range(5):
                manager.hears("WATCHDOG=1")
            assert proxy.stop() == 0


@pytest.mark.parametrize("which", [0, 1, 2])
def test_the_watchdog_hears_nothing_while_a_child_hangs(upstream: Upstream, which: int) -> None:
    watchdog = 0.5
    with NotifySocket() as manager:
        env = manager.env(watchdog=watchdog)
        with running_proxy(settings(upstream, workers=2), env=env) as proxy:
            manager.hears("WATCHDOG=1")
            hanging = children(proxy.pid)[which]
            os.kill(hanging, signal.SIGSTOP)
            wait_until(lambda: manager.next(2 * watchdog) is None, "it lives, says who should not")
            os.kill(hanging, signal.SIGCONT)
            manager.hears("WATCHDOG=1")
            assert proxy.stop() == 0


def test_a_child_that_dies_is_waited_for_and_then_it_lives_again(upstream: Upstream) -> None:
    with NotifySocket() as manager:
        env = manager.env(watchdog=0.4)
        with running_proxy(settings(upstream, workers=2), env=env) as proxy:
            manager.hears("WATCHDOG=1")
            os.kill(children(proxy.pid)[1], signal.SIGKILL)
            proxy.wait_for_log("process died")
            wait_until(lambda: len(children(proxy.pid)) == 3)
            while manager.next(0) is not None:
                pass
            manager.hears("WATCHDOG=1")
            assert proxy.stop() == 0


def test_a_watchdog_for_another_process_is_none_of_ours(upstream: Upstream) -> None:
    with NotifySocket() as manager:
        env = {**manager.env(watchdog=0.02), "WATCHDOG_PID": "1"}
        with running_proxy(settings(upstream), env=env) as proxy:
            manager.hears("READY=1")
            assert get(proxy.url).status == 200
            assert proxy.stop() == 0
        manager.hears("STOPPING=1")
        assert not [message for message in manager.messages if "WATCHDOG" in message]


@each_number_of_workers
def test_a_service_manager_that_cannot_be_reached_is_one_warning(
    upstream: Upstream, workers: int, tmp_path: Path
) -> None:
    env = {"NOTIFY_SOCKET": f"{tmp_path}/nobody", "WATCHDOG_USEC": "20000"}
    with running_proxy(settings(upstream, workers=workers), env=env) as proxy:
        proxy.wait_for_log("cannot notify the service manager")
        for _ in range(10):
            assert get(proxy.url).status == 200
        assert proxy.stop() == 0
        told = [line for line in proxy.log().splitlines() if "service manager" in line]
    assert len(told) == 1
    assert f"socket={tmp_path}/nobody" in told[0]


def test_a_service_manager_that_does_not_read_holds_nobody_up(upstream: Upstream) -> None:
    with (
        NotifySocket() as manager,
        running_proxy(settings(upstream), env=manager.env(watchdog=0.02)) as proxy,
    ):
        proxy.wait_for_log("cannot notify the service manager")  # its queue is full
        for _ in range(10):
            assert get(proxy.url).status == 200
        assert proxy.stop() == 0


def test_what_it_starts_cannot_speak_for_it(upstream: Upstream, tmp_path: Path) -> None:
    script = tmp_path / "program"
    script.write_text(f"#!/bin/sh\nenv >> {tmp_path}/seen\necho a-token\n")
    script.chmod(0o700)
    auths = [{"grant": "command", "command": [str(script)]},
             {"grant": "static", "token": f"${{command:{script}}}"}]  # fmt: skip
    routes = [
        {"name": f"r{number}", "path": f"/{number}", "upstream": upstream.url, "auth": auth}
        for number, auth in enumerate(auths)
    ]
    with NotifySocket() as manager, socket.create_server(("127.0.0.1", 0)) as sock:
        env = {**manager.env(watchdog=10), "WATCHDOG_PID": "1"}
        with running_proxy({"routes": routes}, env=env, **passing(sock)) as proxy:
            assert [get(proxy.url, f"/{number}").status for number in range(2)] == [200, 200]
    seen = (tmp_path / "seen").read_text()
    assert seen.count("HOME=") == 2
    for name in ("NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_"):
        assert name not in seen


# ── the sockets that it opens ────────────────────────────────────────────────────────────────────


def listener(host: str = "127.0.0.1", family: int = socket.AF_INET) -> socket.socket:
    return socket.create_server((host, 0), family=family)


def has_ipv6() -> bool:
    try:
        listener("::1", socket.AF_INET6).close()
    except OSError:
        return False
    return True


class Load:
    """Clients that ask, one request a connection, until the end; `failures` is what befell them."""

    def __init__(self, url: str, count: int = 4) -> None:
        self.answered = 0
        self.failures: list[str] = []
        self._url = url
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(count)]

    def _ask(self) -> None:
        while not self._over.is_set():
            try:
                answer = get(self._url)
            except Exception as error:  # noqa: BLE001 - whatever it is, no client should have met it
                self.failures.append(repr(error))
            else:
                if answer.status != 200:
                    self.failures.append(str(answer.start))
                self.answered += 1

    def more(self, count: int = 50) -> None:
        """Wait until so many more are answered."""
        until = self.answered + count
        wait_until(lambda: self.answered >= until, lambda: f"only {self.answered}: {self.failures[:3]}")

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(GUARD)


@each_number_of_workers
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_nobody_is_refused_while_it_restarts_under_load(
    upstream: Upstream, workers: int, kind: str, tmp_path: Path
) -> None:
    if kind == "tcp":
        sock = listener()
        address = f"127.0.0.1:{sock.getsockname()[1]}"
        url = f"http://{address}"
    else:
        sock = socket.socket(socket.AF_UNIX)
        address = url = f"unix:{tmp_path}/proxy.sock"
        sock.bind(url.removeprefix("unix:"))
    sock.listen(128)
    config, load = settings(upstream, workers=workers, listen=address), Load(url)
    with sock:
        for time in ("first", "second", "third", "last"):
            with running_proxy(config, **passing(sock)) as proxy:
                assert proxy.urls == [url]
                if time == "first":
                    load.start()
                load.more()
                if time == "last":
                    load.end()
                assert proxy.stop() == 0
    assert load.failures == []


def test_a_unix_socket_that_was_passed_keeps_its_name_and_its_mode(
    upstream: Upstream, tmp_path: Path
) -> None:
    path = tmp_path / "proxy.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
        path.chmod(0o660)
        inode = path.stat().st_ino
        with running_proxy(settings(upstream, listen=f"unix:{path}"), **passing(sock)) as proxy:
            assert get(proxy.url).status == 200
            assert proxy.stop() == 0
        assert path.stat().st_ino == inode
        assert stat.S_IMODE(path.stat().st_mode) == 0o660


@each_number_of_workers
def test_a_socket_called_admin_is_the_admin_listeners(upstream: Upstream, workers: int) -> None:
    with listener() as proxy_sock, listener() as admin_sock:
        port, admin_port = (sock.getsockname()[1] for sock in (proxy_sock, admin_sock))
        config = settings(upstream, workers=workers, listen=f"127.0.0.1:{port}")
        options = passing(admin_sock, proxy_sock, names=("admin", "authproxy.socket"))
        with running_proxy(config, **options) as proxy:
            assert proxy.output().splitlines() == [
                f"listening on http://127.0.0.1:{port}", f"admin on http://127.0.0.1:{admin_port}",
            ]  # fmt: skip
            assert get(proxy.admin_url, "/healthz").status == 200
            assert get(proxy.url).status == 200


@each_number_of_workers
def test_the_admin_listeners_socket_is_not_the_proxys_where_both_want_a_free_port(
    upstream: Upstream, workers: int
) -> None:
    free = "127.0.0.1:0"
    config = settings(upstream, workers=workers, listen=free, admin={"listen": free})
    with listener() as sock, running_proxy(config, **passing(sock, names=("admin",))) as proxy:
        assert proxy.admin_url == f"http://127.0.0.1:{sock.getsockname()[1]}"
        assert proxy.url != proxy.admin_url
        assert get(proxy.admin_url, "/healthz").status == 200
        assert get(proxy.url).status == 200


def test_an_admin_socket_is_known_by_its_address_too(upstream: Upstream) -> None:
    with listener() as sock:
        address = f"127.0.0.1:{sock.getsockname()[1]}"
        with running_proxy(settings(upstream, admin={"listen": address}), **passing(sock)) as proxy:
            assert get(proxy.admin_url, "/healthz").status == 200
            assert proxy.admin_url == f"http://{address}"
            assert get(proxy.url).status == 200
            assert proxy.url != proxy.admin_url


@each_number_of_workers
def test_other_sockets_take_the_place_of_the_addresses_that_are_configured(
    upstream: Upstream, workers: int
) -> None:
    with listener() as one, listener() as other, listener() as configured:
        ports = [sock.getsockname()[1] for sock in (one, other)]
        # Taken: who tries to listen there fails.
        listen = [f"127.0.0.1:{configured.getsockname()[1]}", f"127.0.0.1:{free_port()}"]
        config = settings(upstream, workers=workers, listen=listen)
        with running_proxy(config, **passing(one, other, names=("", "web"))) as proxy:
            assert proxy.urls == [f"http://127.0.0.1:{port}" for port in ports]
            assert [get(url).status for url in proxy.urls] == [200, 200]
            passed = ", ".join(f"127.0.0.1:{port}" for port in ports)
            told = f'listening on sockets that were passed, instead of `listen` passed="{passed}"'
            assert proxy.log().count(told) == 1


def test_what_is_configured_and_was_not_passed_is_opened_beside_it(upstream: Upstream) -> None:
    with listener() as sock:
        listen = ["127.0.0.1:0", f"127.0.0.1:{sock.getsockname()[1]}"]
        with running_proxy(settings(upstream, listen=listen), **passing(sock)) as proxy:
            assert len(set(proxy.urls)) == 2
            assert [get(url).status for url in proxy.urls] == [200, 200]
            assert "that were passed" not in proxy.log()


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6")
def test_the_two_sockets_of_localhost_are_one_listener(upstream: Upstream) -> None:
    port = free_port()
    with (
        socket.create_server(("127.0.0.1", port)) as v4,
        socket.create_server(("::1", port), family=socket.AF_INET6) as v6,
        running_proxy(settings(upstream, listen=f"localhost:{port}"), **passing(v6, v4)) as proxy,
    ):
        assert proxy.urls == [f"http://localhost:{port}"]
        for host in ("127.0.0.1", "[::1]"):
            assert get(f"http://{host}:{port}", host=f"{host}:{port}").status == 200


def refused(config: dict[str, Any], **options: Any) -> str:
    """Return why it does not start."""
    with pytest.raises(NotStarted) as raised, running_proxy(config, **options):
        pass
    return str(raised.value)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_socket_that_others_reach_needs_what_a_listener_there_would_need(
    upstream: Upstream, family: socket.AddressFamily
) -> None:
    if family == socket.AF_INET6 and not has_ipv6():
        pytest.skip("no IPv6")
    every = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}[family]
    with socket.create_server((every, 0), family=family, dualstack_ipv6=family == socket.AF_INET6) as sock:
        port = sock.getsockname()[1]
        # ListenStream=8080 is [::]:8080, and whoever means 127.0.0.1:8080 gets that.
        config = settings(upstream, listen=f"127.0.0.1:{port}")
        why = refused(config, **passing(sock))
        assert why.startswith("it ended with 2: ")
        assert "lets other machines use the credentials" in why
        with running_proxy({**config, "allow_remote": True}, **passing(sock)) as proxy:
            assert get(f"http://127.0.0.1:{port}").status == 200
            assert proxy.url.endswith(f":{port}")


def test_sockets_that_were_passed_to_another_process_are_not_taken(upstream: Upstream) -> None:
    with listener() as sock, running_proxy(
        settings(upstream), env={"LISTEN_PID": "1"}, **passing(sock)
    ) as proxy:  # fmt: skip
        assert proxy.url != f"http://127.0.0.1:{sock.getsockname()[1]}"
        assert get(proxy.url).status == 200


@pytest.mark.parametrize("kind", ["datagram", "connected", "abstract", "file"])
def test_what_cannot_be_listened_on_is_said_plainly(upstream: Upstream, kind: str, tmp_path: Path) -> None:
    with listener() as server, socket.socket(socket.AF_UNIX) as abstract, (tmp_path / "x").open("w") as file:
        abstract.bind(f"\0authproxy-test-{os.getpid()}")
        abstract.listen()
        with (
            socket.socket(type=socket.SOCK_DGRAM) as datagram,
            socket.create_connection(server.getsockname()) as connected,
        ):
            things = {"datagram": datagram, "connected": connected, "abstract": abstract, "file": file}
            why = refused(settings(upstream), **passing(things[kind], names=("web",)))
    assert why.startswith("it ended with 1: authproxy: descriptor 3 (web), which LISTEN_FDS announces,")
    assert "ListenStream=" in why
    assert "Traceback" not in why


def test_systemds_own_emulation_starts_it_with_its_first_client(upstream: Upstream, tmp_path: Path) -> None:
    need("systemd-socket-activate")
    port, admin = free_port(), free_port()
    file = write_config(tmp_path, settings(upstream, listen="127.0.0.1:1"))
    process = subprocess.Popen(
        ["systemd-socket-activate", "-E", "PYTHONPATH", "-l", f"127.0.0.1:{port}", "-l", f"127.0.0.1:{admin}",
         "--fdname=authproxy.socket:admin", *COMMAND, "run", "-c", str(file)],
        cwd=tmp_path, env=environment(tmp_path), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    with process:
        try:

            def listens() -> bool:
                try:
                    connect(f"http://127.0.0.1:{admin}").close()
                except ConnectionRefusedError:
                    return False
                return True

            wait_until(listens, "systemd-socket-activate does not listen")
            with connect(f"http://127.0.0.1:{port}") as wire:
                assert wire.send(request()).answer().status == 200
            assert get(f"http://127.0.0.1:{admin}", "/healthz").status == 200
            process.terminate()
            assert process.wait(GUARD) == 0
            assert process.stdout is not None
            assert process.stdout.read().splitlines() == [
                f"listening on http://127.0.0.1:{port}", f"admin on http://127.0.0.1:{admin}",
            ]  # fmt: skip
        finally:
            process.kill()
