"""Forward mode over time: reloads, the drain, clients that do not trust us, and tunnels that end."""

import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import running_proxy, wait_until
from tests.support.edited import edited
from tests.support.forward import (
    TOKEN,
    Named,
    basic,
    connect_request,
    connecting,
    forward_url,
    forwarding,
    inside,
    route,
    told,
    tunnel,
)
from tests.support.launch import ANY_PORT, GUARD
from tests.support.ports import free_port
from tests.support.wire import Message, Upstream, Wire, connect, get, listening, reply, request

PROCESSES = pytest.mark.parametrize("workers", [1, 2])
UNIX_SIGNALS = pytest.mark.skipif(sys.platform == "win32", reason="SIGHUP is POSIX's")


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[Named]:
    with Named(tmp_path) as made:
        yield made


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Named]:
    with Named(tmp_path) as made:
        yield made


@pytest.fixture
def plain() -> Iterator[Upstream]:
    with Upstream() as made:
        yield made


def untrusting() -> ssl.SSLContext:
    """Return a client that trusts whoever answers: the admin listener wants a key here too."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def at(upstream: Upstream) -> str:
    return f"127.0.0.1:{upstream.port}"


def at_a_known_port(*routes: dict[str, object], **more: object) -> tuple[dict[str, object], str]:
    """Return a configuration whose forward proxy stays where it is, and that place."""
    listen = f"127.0.0.1:{free_port()}"
    return forwarding(*routes, forward={"listen": listen}, **more), f"http://{listen}"


# ── another configuration ────────────────────────────────────────────────────────────────────────


@UNIX_SIGNALS
@PROCESSES
def test_a_host_that_a_reload_adds_is_intercepted_and_clients_trust_an_authority_for_it(
    secure: Named, other: Named, workers: int
) -> None:
    with edited(forwarding(route(secure), workers=workers)) as file:
        proxy = file.proxy
        with inside(proxy, "localhost", other.port, tls=other.client()) as blind:
            added = route(other, name="added", path="/added", auth={"grant": "static", "token": "another"})
            file.must_reload(routes=[route(secure), added])
            assert blind.send(request(host=other.authority)).answer().status == 200  # it goes on
        with inside(proxy, "localhost", other.port) as wire:
            assert wire.send(request(host=other.authority)).answer().status == 200
        with inside(proxy, "localhost", secure.port) as wire:
            assert wire.send(request(host=secure.authority)).answer().status == 200
    assert [each.one("Authorization") for each in other.requests] == [None, "Bearer another"]


@UNIX_SIGNALS
@PROCESSES
def test_who_is_connected_to_a_host_that_is_gone_gets_421_and_no_second_answer(
    secure: Named, other: Named, workers: int
) -> None:
    config = forwarding(route(secure), route(other, name="other", path="/other"), workers=workers)
    with edited(config) as file:
        with (
            inside(file.proxy, "localhost", secure.port) as gone,
            inside(file.proxy, "localhost", other.port) as stays,
        ):
            for wire, upstream in ((gone, secure), (stays, other)):
                assert wire.send(request(host=upstream.authority)).answer().status == 200
            file.must_reload(routes=[route(other, name="other", path="/other")])
            answer = gone.send(request(host=secure.authority)).answer()
            assert (answer.status, answer.one("Connection")) == (421, "close")
            assert gone.is_closed()
            assert stays.send(request(host=other.authority)).answer().status == 200
        with inside(file.proxy, "localhost", secure.port, tls=secure.client()) as blind:
            assert blind.send(request(host=secure.authority)).answer().status == 200
    assert [each.one("Authorization") for each in secure.requests] == [f"Bearer {TOKEN}", None]


@UNIX_SIGNALS
@PROCESSES
@pytest.mark.parametrize(
    ("before", "after", "status"),
    [(["old"], ["old", "new"], 200), (["old"], ["new"], 421), (None, ["new"], 421), (["old"], None, 200)],
    ids=["one more", "another", "the first", "none"],
)
def test_who_came_in_by_a_key_that_is_gone_is_not_answered_any_more(
    secure: Named, workers: int, before: list[str] | None, after: list[str] | None, status: int
) -> None:
    def access(keys: list[str] | None) -> dict[str, object] | None:
        return {"tokens": keys} if keys is not None else None

    lines = [basic("old")] if before is not None else []
    with (
        edited(forwarding(route(secure), workers=workers, access=access(before))) as file,
        inside(file.proxy, "localhost", secure.port, *lines, tls=untrusting()) as within,
    ):
        assert within.send(request(host=secure.authority)).answer().status == 200
        file.must_reload(access=access(after))
        answer = within.send(request(host=secure.authority)).answer()
        assert (answer.status, within.is_closed() if status == 421 else False) == (status, status == 421)


@UNIX_SIGNALS
def test_a_request_under_way_ends_by_the_configuration_it_began_with(secure: Named, plain: Upstream) -> None:
    came, goes_on = threading.Event(), threading.Event()

    def answer(_came: Message, _wire: Wire) -> bytes:
        came.set()
        assert goes_on.wait(GUARD)
        return reply(body=b"in the end")

    secure.answer = answer
    with edited(forwarding(route(secure))) as file, inside(file.proxy, "localhost", secure.port) as wire:
        wire.send(request(host=secure.authority))
        assert came.wait(GUARD)
        file.must_reload(routes=[route(plain)])
        goes_on.set()
        assert wire.answer().body == b"in the end"
        assert wire.is_closed()


@UNIX_SIGNALS
@PROCESSES
def test_it_is_switched_on_and_off_by_a_reload(secure: Named, plain: Upstream, workers: int) -> None:
    config, url = at_a_known_port(route(secure), workers=workers)
    with edited({**config, "forward": None}) as file:
        proxy = file.proxy
        with pytest.raises(ConnectionRefusedError):
            connect(url)
        file.must_reload(forward=config["forward"])
        proxy.wait_for_log(f"forwarding url={url}")
        with connect(url) as idle, connect(url) as blind:
            assert blind.send(connect_request(at(plain))).head().status == 200
            assert idle.send(request("GET", f"{plain.url}/", host=at(plain))).answer().status == 200
            file.must_reload(forward=None)
            proxy.wait_for_log("forwarding no more")
            assert blind.send(request()).answer().status == 200  # a tunnel goes on
            answer = idle.send(request("GET", f"{plain.url}/", host=at(plain))).answer()
            assert (answer.status, answer.one("Connection")) == (403, "close")
        with pytest.raises(ConnectionRefusedError):
            connect(url)
        assert get(proxy.url).status == 200
        file.must_reload(forward=config["forward"])
        with connect(url) as wire:
            assert wire.send(connect_request(at(plain))).head().status == 200


@UNIX_SIGNALS
def test_a_listener_becomes_the_forward_proxys_and_back(secure: Named) -> None:
    place = f"127.0.0.1:{free_port()}"
    as_one = {"listen": [ANY_PORT, place], "forward": None}
    as_other = {"listen": [ANY_PORT], "forward": {"listen": place}}
    with edited({"routes": [route(secure)], **as_one}) as file:
        for _ in range(2):
            assert get(f"http://{place}", "/x").status == 200
            file.must_reload(**as_other)
            assert get(f"http://{place}", "/x").status == 400
            file.must_reload(**as_one)
    assert len(secure.requests) == 2


@UNIX_SIGNALS
def test_other_hosts_are_refused_from_a_reload_on_and_keys_wanted(secure: Named, plain: Upstream) -> None:
    config, url = at_a_known_port(route(secure))
    sent = request("GET", f"{plain.url}/", host=at(plain))
    with edited(config) as file, connect(url) as wire:
        assert wire.send(sent).answer().status == 200
        file.must_reload(forward=config["forward"] | {"unmatched": "refuse"})  # type: ignore[operator]
        assert wire.send(sent).answer().status == 403
        file.must_reload(access={"tokens": ["a-key-for-callers"]})
        assert wire.send(sent).answer().status == 407
    assert len(plain.requests) == 1


# ── the end ──────────────────────────────────────────────────────────────────────────────────────


@UNIX_SIGNALS
@PROCESSES
def test_a_drain_lets_requests_and_tunnels_finish(secure: Named, plain: Upstream, workers: int) -> None:
    came, goes_on = threading.Event(), threading.Event()

    def answer(_came: Message, _wire: Wire) -> bytes:
        came.set()
        assert goes_on.wait(GUARD)
        return reply(body=b"in the end")

    secure.answer = answer
    with running_proxy(forwarding(route(secure), workers=workers)) as proxy:
        with (
            inside(proxy, "localhost", secure.port) as wire,
            inside(proxy, "localhost", secure.port) as idle,
            tunnel(proxy, at(plain)) as blind,
        ):
            idle.send(request("HEAD", "/", host="elsewhere")).answer(to_head=True)
            wire.send(request(host=secure.authority))
            assert came.wait(GUARD)
            proxy.signal()
            assert idle.is_closed()
            assert blind.send(request()).answer().status == 200
            goes_on.set()
            assert wire.answer().body == b"in the end"
            assert wire.is_closed()
            blind.close()
        assert proxy.wait() == 0


def test_a_drain_does_not_wait_for_who_has_asked_nothing_in_a_tunnel(secure: Named) -> None:
    """Their clients read nothing either, so they never answer a goodbye of TLS."""
    config = forwarding(route(secure), limits={"drain": "5m", "header_timeout": "5m"})
    with (
        running_proxy(config) as proxy,
        inside(proxy, "localhost", secure.port),
        tunnel(proxy, secure.authority),
    ):
        proxy.signal()
        assert proxy.wait() == 0
        assert "drain ran out" not in proxy.log()


def test_a_drain_that_runs_out_ends_tunnels(secure: Named, plain: Upstream) -> None:
    config = forwarding(route(secure), limits={"drain": "100ms"})
    with running_proxy(config) as proxy, tunnel(proxy, at(plain)) as blind:
        proxy.signal()
        assert blind.is_closed()
        assert proxy.wait() == 0


# ── who does not trust us ────────────────────────────────────────────────────────────────────────


def test_a_client_that_does_not_trust_us_is_told_of_in_the_log_once(secure: Named) -> None:
    with running_proxy(forwarding(route(secure))) as proxy:
        for _ in range(3):
            with tunnel(proxy, secure.authority) as wire, pytest.raises(ssl.SSLCertVerificationError):
                secure.client().wrap_socket(wire.sock, server_hostname="localhost")
        wait_until(lambda: len(told(proxy)) == 3, lambda: str(told(proxy)))
        causes = {each["error"]["detail"] for each in told(proxy)}
        assert causes == {"no TLS with the client: unknown ca"}
        for each in told(proxy):
            assert "bundle.pem" in each["error"]["hint"]
            assert [(step["what"], step["detail"]) for step in each["steps"]] == [
                ("refused", "no TLS with the client: unknown ca")
            ]
        with inside(proxy, "localhost", secure.port) as within:
            assert within.send(request(host=secure.authority)).answer().status == 200
        log = proxy.log()
    assert log.count("the client refused our certificate: unknown ca") == 1
    (line,) = (each for each in log.splitlines() if "refused our certificate" in each)
    assert " warning " in line
    assert "host=localhost" in line
    assert "bundle.pem" in line
    assert "exec --forward" in line


def test_a_client_that_says_nothing_when_it_does_not_trust_us_is_told_of_too(secure: Named) -> None:
    """Node looks at a certificate once the handshake is done, and then just goes."""
    said = "the client went away right after the TLS handshake, without a request"
    with running_proxy(forwarding(route(secure))) as proxy:
        with inside(proxy, "localhost", secure.port) as within:
            assert within.send(request(host=secure.authority)).answer().status == 200
        for _ in range(2):
            with inside(proxy, "localhost", secure.port):
                pass
        wait_until(lambda: len(told(proxy)) == 3, lambda: str(told(proxy)))
        for each in told(proxy)[:2]:
            assert (each["method"], each["path"]) == ("CONNECT", secure.authority)
            assert each["error"]["detail"] == said
            assert "bundle.pem" in each["error"]["hint"]
        log = proxy.log()
    (line,) = (each for each in log.splitlines() if "it may not trust our certificate" in each)
    assert said in line
    assert " info " in line
    assert "host=localhost" in line
    assert "bundle.pem" in line


def test_a_client_that_just_goes_away_in_the_handshake_is_no_warning(secure: Named) -> None:
    with running_proxy(forwarding(route(secure))) as proxy:
        with tunnel(proxy, secure.authority) as wire:
            wire.send(b"\x16\x03\x01\x02\x00\x01")
        with tunnel(proxy, secure.authority) as wire:
            wire.send(b"\x16\x03\x01\x00\x05hello")
            wire.rest()
        with tunnel(proxy, secure.authority):
            pass
        wait_until(lambda: len(told(proxy)) == 3, lambda: str(told(proxy)))
        assert " warning " not in proxy.log()


# ── tunnels ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [3, 100_000])
def test_what_a_client_sends_before_it_ends_its_half_arrives_however_soon_that_is(
    secure: Named, size: int
) -> None:
    with (
        listening() as server,
        running_proxy(forwarding(route(secure))) as proxy,
        connect(forward_url(proxy)) as wire,
    ):
        wire.send(connect_request(f"127.0.0.1:{server.getsockname()[1]}") + b"x" * size)
        wire.sock.shutdown(socket.SHUT_WR)
        far, _ = server.accept()
        with far:
            far.settimeout(GUARD)
            assert len(b"".join(iter(lambda: far.recv(65536), b""))) == size
            far.sendall(b"and back")
        assert wire.head().status == 200
        assert wire.rest() == b"and back"


def test_a_tunnel_whose_far_end_is_reset_or_gone_ends(secure: Named) -> None:
    with (
        listening() as server,
        running_proxy(forwarding(route(secure))) as proxy,
    ):
        place = f"127.0.0.1:{server.getsockname()[1]}"
        for ending in ("reset", "close"):
            with tunnel(proxy, place) as wire:
                far = Wire(server.accept()[0])
                far.send(b"some")
                assert wire.exactly(4) == b"some"
                getattr(far, ending)()
                assert wire.is_closed()
        wire = tunnel(proxy, place)
        far = Wire(server.accept()[0])
        wire.reset()
        assert far.is_closed()
        far.close()
        assert connecting(proxy, "localhost:0").status == 400
