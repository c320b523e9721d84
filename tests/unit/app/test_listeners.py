"""Which listeners are opened for a configuration, after another one or as the first."""

import errno
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from authproxy.app.listeners import (
    Before,
    Listeners,
    close_sockets,
    configured_addresses,
    each_at_a_free_port,
    forward_url,
    listening_urls,
    open_listeners,
    own_urls,
    ports_of,
    url_of,
)
from authproxy.app.sockets import ListenError, listening_sockets
from authproxy.capabilities import UNIX_SOCKETS
from authproxy.config.document import NO_FILES
from authproxy.config.read import parse
from authproxy.net.own_listeners import OwnListeners

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
        (
            errno.EACCES,
            "ports below 1024 need root or CAP_NET_BIND_SERVICE: choose another address",
        ),
        (errno.EADDRNOTAVAIL, "this machine has no such address: choose another address"),
        (errno.EIO, "choose another address: --listen ADDR"),
    ],
)
def test_each_reason_of_the_system_has_its_way_out(monkeypatch, number, way_out):
    def refuse(*_args, **_options):
        raise OSError(number, "no")

    monkeypatch.setattr("authproxy.app.sockets._tcp_sockets", refuse)
    config = parse(TAKEN.format(port=80, admin="false"), "proxy.yaml", environ={})
    with pytest.raises(ListenError) as raised:
        open_listeners(config)
    assert raised.value.hint.startswith(way_out)


@pytest.mark.parametrize(
    ("number", "way_out"),
    [
        (errno.EACCES, "let the user that authproxy runs as write to the directory of the socket, or choose"),
        (
            errno.EADDRINUSE,
            "stop the process that listens on it, or choose another address",
        ),
        (errno.ENOENT, "make the directory of the socket first, or choose another address"),
        (errno.EIO, "choose another address: --listen ADDR"),
    ],
)
def test_a_unix_socket_has_ways_out_of_its_own(monkeypatch, number, way_out):
    def refuse(*_args):
        raise OSError(number, "no")

    monkeypatch.setattr("authproxy.app.sockets._unix_socket", refuse)
    text = TAKEN.replace("127.0.0.1:{port}", "unix:/run/x.sock").format(port=0, admin="false")
    with pytest.raises(ListenError) as raised:
        open_listeners(parse(text, "proxy.yaml", environ={}))
    assert raised.value.hint.startswith(way_out)
    assert "port" not in raised.value.hint


@pytest.mark.skipif(not UNIX_SOCKETS, reason="there are no Unix sockets")
@pytest.mark.parametrize("make", [Path.touch, Path.mkdir])
def test_what_is_no_socket_is_not_taken_for_one_that_somebody_listens_on(tmp_path, make):
    make(tmp_path / "s")
    text = TAKEN.replace("127.0.0.1:{port}", f"unix:{tmp_path}/s").format(port=0, admin="false")
    with pytest.raises(ListenError, match="something else of that name, which is no socket") as raised:
        open_listeners(parse(text, "proxy.yaml", environ={}))
    assert raised.value.hint.startswith("move that away, or choose another address")
    assert (tmp_path / "s").exists()


@pytest.mark.parametrize("file", NO_FILES)
def test_where_there_is_no_file_only_the_option_is_named(monkeypatch, file):
    def refuse(*_args, **_options):
        raise OSError(errno.EADDRNOTAVAIL, "no")

    monkeypatch.setattr("authproxy.app.sockets._tcp_sockets", refuse)
    with pytest.raises(ListenError) as raised:
        open_listeners(parse(TAKEN.format(port=80, admin="false"), file, environ={}))
    assert raised.value.hint.endswith("choose another address: --listen ADDR")


# ── routes' own ──────────────────────────────────────────────────────────────────────────────────

OWN = """
{top}
admin: false
routes:
- {{name: a, path: /a, upstream: "https://a.example", auth: {{grant: none}}, listen: "{a}"}}
- {{name: b, upstream: "https://b.example", auth: {{grant: none}}, listen: "{b}"}}
"""


def own(a="127.0.0.1:0", b="127.0.0.1:0", top=""):
    return parse(OWN.format(a=a, b=b, top=top), "proxy.yaml", environ={})


def test_each_route_gets_a_socket_and_a_url_of_its_own(system):
    config = own(b="localhost:0", top="listen: ['127.0.0.1:0', '127.0.0.1:0']")
    made = open_listeners(config).proxy
    assert [name for name, _ in made] == [
        "127.0.0.1:0",
        "127.0.0.1:0",
        "127.0.0.1:0 for a",
        "localhost:0 for b",
        "localhost:0 for b",
    ]
    ports = [sock.place[1] for _, sock in made]
    assert listening_urls(config, made) == [f"http://127.0.0.1:{port}" for port in ports[:2]]
    assert own_urls(config, made) == {
        "a": f"http://127.0.0.1:{ports[2]}",
        "b": f"http://localhost:{ports[3]}",
    }
    assert ports_of(Listeners(made)) == {name: sock.place[1] for name, sock in made}


def test_a_routes_free_port_stays_with_it(system):
    config = own()
    first = open_listeners(config)
    before = Before(frozenset(config.listeners), first, OwnListeners())
    assert open_listeners(config, before=before).proxy == []
    moved = own(b="127.0.0.1:7")
    assert [name for name, _ in open_listeners(moved, before=before).proxy] == ["127.0.0.1:7"]


def test_an_address_that_becomes_another_routes_is_not_opened_again(system):
    config = own(a="127.0.0.1:7", b="127.0.0.1:8")
    before = Before(frozenset(config.listeners), open_listeners(config), OwnListeners())
    assert open_listeners(own(a="127.0.0.1:8", b="127.0.0.1:7"), before=before).proxy == []


def test_one_that_cannot_be_opened_is_told_by_the_routes_key(system):
    system.taken = {("127.0.0.1", 9)}
    with pytest.raises(ListenError) as caught:
        open_listeners(own(b="127.0.0.1:9"))
    assert caught.value.key == "routes[1].listen"
    assert "choose another address: `routes[1].listen` in proxy.yaml:6:" in caught.value.hint
    assert "--" not in caught.value.hint
    assert [sock.closed for sock in system.opened] == [True, True]


def test_routes_alone_have_a_free_port_each_and_nothing_else_is_opened(system):
    config = own(top="access: {tokens: [a-key-of-callers-1]}\nworkers: 2")
    alone = each_at_a_free_port(config, ["b"])
    assert [route.name for route in alone.routes] == ["b"]
    assert (alone.access, alone.workers, alone.admin) == (None, 1, None)
    made = open_listeners(alone)
    assert made.admin is None
    assert own_urls(alone, made.proxy) == {"b": f"http://127.0.0.1:{made.proxy[0][1].place[1]}"}
    assert len(system.opened) == 1
    assert configured_addresses(alone) == ["127.0.0.1:0"]


def test_routes_that_are_mounted_where_all_are_have_one_in_common_as_well(system):
    config = parse(
        "routes:\n"
        "  - {name: a, path: /a, upstream: 'https://a.example', auth: {grant: none}}\n"
        "  - {name: b, listen: '127.0.0.1:1', upstream: 'https://b.example', auth: {grant: none}}\n",
        "proxy.yaml",
        environ={},
    )
    alone = each_at_a_free_port(config, ["a", "b"])
    made = open_listeners(alone).proxy
    assert [address for address, _ in made] == ["127.0.0.1:0", "127.0.0.1:0 for a", "127.0.0.1:0 for b"]
    assert listening_urls(alone, made) == [f"http://127.0.0.1:{made[0][1].place[1]}"]
    assert each_at_a_free_port(config, ["b"]).listen == ()


def test_the_forward_proxy_has_a_socket_and_no_route_is_called_there(system):
    config = own(top="listen: 127.0.0.1:0\ntls: auto\nforward: {listen: '127.0.0.1:0'}")
    made = open_listeners(config).proxy
    *_, (listener, sock) = made
    assert listener == config.forward_listener
    url = f"http://127.0.0.1:{sock.place[1]}"
    assert forward_url(config, made) == url
    assert url_of(config, listener, url) == url
    assert url_of(config, "127.0.0.1:0", url) == url.replace("http", "https")
    assert url not in listening_urls(config, made)
    assert forward_url(replace(config, forward=None), made) is None
    assert each_at_a_free_port(config, ["a"]).forward is None


def test_an_address_of_the_forward_proxy_that_is_taken_is_told_with_its_key(system):
    system.taken = {("127.0.0.1", 9)}
    with pytest.raises(ListenError) as caught:
        open_listeners(own(top="forward: {listen: '127.0.0.1:9'}"))
    assert caught.value.key == "forward.listen"
    assert "choose another address: `forward.listen` in proxy.yaml:2:" in caught.value.hint
