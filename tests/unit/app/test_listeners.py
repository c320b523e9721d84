"""Which addresses a name is listened on, and on which port."""

import errno
import os
import socket

import pytest

from authproxy.app import listeners as listening
from authproxy.app.listeners import (
    Before,
    ListenError,
    Listeners,
    another_socket,
    close_sockets,
    listening_sockets,
    listens,
    open_listeners,
)
from authproxy.config.read import parse
from authproxy.net.own_listeners import OwnListeners

V4, V6 = socket.AF_INET, socket.AF_INET6


class System:
    """What `bind` would say: a port of its own for port 0, unless `taken` or `lacking` speaks against it."""

    def __init__(self):
        self.taken = set()
        self.lacking = set()
        self.opened = []
        self.next_port = 1000

    def socket(self, family, place, *, share, alone, listens):
        host, port, *_ = place
        if family in self.lacking:
            raise OSError(errno.EADDRNOTAVAIL, "no such address")
        if port == 0:
            self.next_port += 1
            port = self.next_port
        if (host, port) in self.taken:
            raise OSError(errno.EADDRINUSE, "in use")
        sock = Socket(family, host, port, alone, share=share, listens=listens)
        self.opened.append(sock)
        return sock


class Socket:
    def __init__(self, family, host, port, alone, *, share, listens):
        self.family, self.share, self.listens = family, share, listens
        self.shared_since = []
        self.place = (host, port)
        self.alone = alone
        self.closed = False

    def getsockname(self):
        return self.place

    def setsockopt(self, *option):
        self.shared_since.append(option)

    def close(self):
        self.closed = True


@pytest.fixture
def system(monkeypatch):
    system = System()
    monkeypatch.setattr(listening, "_tcp_socket", system.socket)
    return system


def places(sockets):
    return [sock.place for sock in sockets]


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST", "localhost.", "api.localhost"])
def test_localhost_is_both_loopback_addresses(system, name):
    assert places(listening_sockets(f"{name}:80")) == [("127.0.0.1", 80), ("::1", 80)]
    assert all(sock.alone for sock in system.opened)


def test_no_host_is_every_address_of_both_families(system):
    assert places(listening_sockets(":80")) == [("0.0.0.0", 80), ("::", 80)]


@pytest.mark.parametrize(("address", "place"), [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::]:80", ("::", 80))])
def test_an_address_is_itself_alone_and_of_ipv6_as_the_system_has_it(system, address, place):
    assert places(listening_sockets(address)) == [place]
    assert not system.opened[0].alone


def test_port_0_is_tried_until_it_is_free_in_both_families(system):
    system.taken = {("::1", 1001), ("::1", 1002)}
    assert places(listening_sockets("localhost:0")) == [("127.0.0.1", 1003), ("::1", 1003)]
    assert [sock.place for sock in system.opened if sock.closed] == [("127.0.0.1", 1001), ("127.0.0.1", 1002)]


def test_port_0_is_not_tried_for_ever(system):
    system.taken = {("::1", port) for port in range(1000, 3000)}
    with pytest.raises(ListenError, match="localhost:0: Address already in use"):
        listening_sockets("localhost:0")
    assert all(sock.closed for sock in system.opened)


@pytest.mark.parametrize("family", [V4, V6])
def test_a_family_that_the_machine_lacks_is_left_out(system, family):
    system.lacking = {family}
    (sock,) = listening_sockets("localhost:80")
    assert sock.place[0] == {V4: "::1", V6: "127.0.0.1"}[family]


def test_a_machine_without_either_says_so(system):
    system.lacking = {V4, V6}
    with pytest.raises(ListenError, match="localhost:80: Cannot assign requested address"):
        listening_sockets("localhost:80")


def test_a_port_that_is_taken_in_one_family_is_not_half_listened_on(system):
    system.taken = {("::1", 80)}
    with pytest.raises(ListenError, match="localhost:80: Address already in use"):
        listening_sockets("localhost:80")
    assert all(sock.closed for sock in system.opened)


# ── another configuration ────────────────────────────────────────────────────────────────────────

ROUTE = "\nroutes: [{name: a, upstream: 'https://a.example', auth: {grant: none}}]"


@pytest.fixture
def reopened(system):
    """Return a maker of what is opened for a configuration after another one, which is open already."""

    def make(now, then, *, share=False):
        system.before = open_listeners(parse(now + ROUTE, "proxy.yaml"), share=share)
        config = parse(then + ROUTE, "proxy.yaml")
        own = OwnListeners()
        own._bound = {sock.place[1]: [None] for sock in system.before.sockets}
        addresses = frozenset(address for address, _ in system.before.proxy)
        return open_listeners(config, share=share, before=Before(addresses, system.before, own))

    return make


def test_only_what_is_new_is_opened(reopened):
    made = reopened("listen: ['127.0.0.1:1', '127.0.0.1:2']", "listen: ['127.0.0.1:2', '127.0.0.1:3']")
    assert made.addresses == ["127.0.0.1:3"]


@pytest.mark.parametrize(
    ("admin", "opened"), [("127.0.0.1:8", []), ("127.0.0.1:9", ["127.0.0.1:9"]), (None, [])]
)
def test_an_admin_listener_stays_moves_or_ends(reopened, admin, opened):
    then = f"admin: {{listen: '{admin}'}}" if admin else "admin: false"
    assert reopened("admin: {listen: '127.0.0.1:8'}", then).addresses == opened


@pytest.mark.parametrize("share", [False, True])
def test_one_that_overlaps_one_of_ours_is_bound_beside_it_and_takes_no_connections_yet(
    system, reopened, share
):
    made = reopened("listen: '127.0.0.1:1'", "listen: '0.0.0.0:1'\nallow_remote: true", share=share)
    [(_, sock)], [(_, old)] = made.proxy, system.before.proxy
    assert (sock.share, sock.listens) == (True, False)
    assert old.shared_since == [(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)]


def test_one_that_overlaps_nobody_listens_at_once_and_shares_with_nobody(reopened):
    [(_, sock)] = reopened("listen: '127.0.0.1:1'", "listen: '127.0.0.1:2'").proxy
    assert (sock.share, sock.listens) == (False, True)


def test_what_cannot_be_opened_leaves_nothing_open_and_no_name(system, reopened, tmp_path):
    system.taken = {("127.0.0.1", 3)}
    then = f"listen: ['unix:{tmp_path}/s', '127.0.0.1:2', '127.0.0.1:3']"
    with pytest.raises(ListenError, match=r"127\.0\.0\.1:3") as caught:
        reopened("listen: '127.0.0.1:1'", then)
    assert caught.value.key == "listen"
    assert [sock.place for sock in system.opened if sock.closed] == [("127.0.0.1", 2)]
    assert list(tmp_path.iterdir()) == []


def test_an_admin_listener_that_cannot_be_opened_is_told_by_its_key_and_the_others_are_closed(
    system, reopened
):
    system.taken = {("127.0.0.1", 9)}
    with pytest.raises(ListenError) as caught:
        reopened("listen: '127.0.0.1:1'", "listen: '127.0.0.1:2'\nadmin: {listen: '127.0.0.1:9'}")
    assert caught.value.key == "admin"
    assert [sock.place for sock in system.opened if sock.closed] == [("127.0.0.1", 2)]


def test_another_worker_listens_beside_it_when_it_does():
    for takes in (True, False):
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(("127.0.0.1", 0))
            if takes:
                sock.listen()
            with another_socket(sock) as other:
                assert other.getsockname() == sock.getsockname()
                assert listens(other) is takes


def test_closed_listeners_leave_no_names(tmp_path):
    (sock,) = listening_sockets(f"unix:{tmp_path}/s")
    close_sockets(Listeners([(f"unix:{tmp_path}/s", sock)]))
    assert sock.fileno() == -1
    assert list(tmp_path.iterdir()) == []


# ── what cannot be listened on ───────────────────────────────────────────────────────────────────

TAKEN = """
listen: 127.0.0.1:{port}
admin: {admin}
routes: [{{name: a, upstream: "https://a.example", auth: {{grant: none}}}}]
"""


@pytest.mark.parametrize(
    ("text", "overrides", "hint"),
    [
        ({"admin": "false"}, {}, "--listen ADDR, or `listen` in proxy.yaml:2:9; port 0 picks a free one"),
        (
            {"admin": "false"},
            {"listen": ["127.0.0.1:{port}"]},
            "--listen ADDR, or `listen` in proxy.yaml; port",
        ),
        (
            {"port": 0, "admin": "{{listen: '127.0.0.1:{port}'}}"},
            {},
            "--admin ADDR, or `admin` in proxy.yaml:3:8;",
        ),
    ],
)
def test_a_port_that_is_taken_is_told_with_who_has_it_and_where_another_is_chosen(
    monkeypatch, text, overrides, hint
):
    monkeypatch.setattr("authproxy.app.port_owner.owner_of", lambda places: f"somebody at {places[0][1][0]}")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        filled = {"port": port} | {key: str(value).format(port=port) for key, value in text.items()}
        over = {key: [each.format(port=port) for each in value] for key, value in overrides.items()}
        config = parse(TAKEN.format(**filled), "proxy.yaml", environ={}, overrides=over)
        with pytest.raises(ListenError) as raised:
            open_listeners(config)
    in_use = os.strerror(errno.EADDRINUSE)
    assert raised.value.detail == f"cannot listen on 127.0.0.1:{port}: {in_use} by somebody at 127.0.0.1"
    assert raised.value.hint.startswith(f"stop that one, or choose another address: {hint}")


@pytest.mark.parametrize(
    ("number", "way_out"),
    [
        (errno.EACCES, "ports below 1024 are the administrator's: choose another address: --listen ADDR"),
        (errno.EADDRNOTAVAIL, "this machine has no such address: choose another address"),
        (errno.ENOENT, "make the directory of the socket first, or choose another address"),
        (errno.EIO, "choose another address: --listen ADDR"),
    ],
)
def test_each_reason_of_the_system_has_its_way_out(monkeypatch, number, way_out):
    def refuse(*_args, **_options):
        raise OSError(number, "no")

    monkeypatch.setattr(listening, "_tcp_sockets", refuse)
    config = parse(TAKEN.format(port=80, admin="false"), "proxy.yaml", environ={})
    with pytest.raises(ListenError) as raised:
        open_listeners(config)
    assert raised.value.hint.startswith(way_out)
