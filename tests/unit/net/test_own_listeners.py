"""Which address leads back to ourselves, once the listeners are open."""

import socket

import pytest

from authproxy.net.own_listeners import OwnListeners
from tests.support.systems import needs_unix_sockets


def listening(host, family=socket.AF_INET):
    sock = socket.socket(family)
    sock.bind((host, 0))
    sock.listen()
    return sock


@pytest.fixture
def own():
    """Return a maker: the host that is listened on becomes what is reached, by host, at its port."""
    sockets = []

    def make(host, family=socket.AF_INET):
        sockets.append(listening(host, family))
        port = sockets[-1].getsockname()[1]
        listeners = OwnListeners(sockets=[sockets[-1]])
        assert listeners.listens_at(port)
        return lambda there, at=port: listeners.reached_by((there, at))

    yield make
    for sock in sockets:
        sock.close()


@pytest.mark.parametrize("there", ["127.0.0.1", "0.0.0.0", "::ffff:127.0.0.1"])
def test_a_listener_is_reached_by_its_address(own, there):
    reached = own("127.0.0.1")
    assert reached(there)
    assert not reached(there, at=1)


@pytest.mark.parametrize("there", ["127.0.0.2", "192.0.2.1", "::1", "::ffff:127.0.0.2", "2001:db8::1"])
def test_another_address_is_another_server(own, there):
    assert not own("127.0.0.1")(there)


@pytest.mark.parametrize("there", ["127.0.0.1", "127.9.9.9", "0.0.0.0", "::ffff:127.0.0.1"])
def test_a_listener_on_all_addresses_is_reached_by_each_of_this_machine(own, there):
    reached = own("0.0.0.0")
    assert reached(there)
    assert not reached("192.0.2.1")


@pytest.mark.parametrize("there", ["::1", "::", "127.0.0.1", "::ffff:127.0.0.1", "0.0.0.0"])
def test_so_is_one_that_takes_both_families(own, there):
    assert own("::", socket.AF_INET6)(there)


def test_an_interfaces_address_is_told_by_where_one_goes_there_from(own, monkeypatch):
    class Interface:
        def __init__(self, *_):
            self.there = ""

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def connect(self, address):
            self.there = address[0]

        def getsockname(self):
            return ("10.1.2.3", 40000)  # from there one goes everywhere

    reached = own("0.0.0.0")
    monkeypatch.setattr("authproxy.net.own_listeners.socket.socket", Interface)
    assert reached("10.1.2.3")
    assert not reached("10.1.2.4")


@needs_unix_sockets
def test_a_unix_socket_has_no_address_to_be_reached_by(tmp_path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket"))
        listeners = OwnListeners(["unix:/a"], [sock])
    assert not listeners.listens_at(0)
    assert repr(listeners) == "<OwnListeners []>"


def test_a_listeners_url_has_the_port_that_it_really_got():
    own = OwnListeners(ports={"a": 4711})
    assert own.url_of("a", "0.0.0.0:0") == "http://127.0.0.1:4711"
    assert own.url_of("b", "[::1]:80") == "http://[::1]:80"
    assert own.url_of("c", "unix:/run/c") == "unix:/run/c"


def test_a_port_that_was_left_open_is_known_once_it_is_bound():
    with listening("127.0.0.1") as sock:
        port = sock.getsockname()[1]
        assert not OwnListeners(["127.0.0.1:0"]).named("127.1", port)
        assert OwnListeners(["127.0.0.1:0"], [sock]).named("127.1", port)


# ── another configuration ────────────────────────────────────────────────────────────────────────


def test_what_is_listened_on_still_is_known_still_and_the_rest_is_not():
    with listening("127.0.0.1") as stays, listening("127.0.0.1") as goes, listening("127.0.0.1") as comes:
        ports = [sock.getsockname()[1] for sock in (stays, goes, comes)]
        addresses = [f"127.0.0.1:{port}" for port in ports]
        before = OwnListeners(addresses[:2], [stays, goes])
        after = OwnListeners([addresses[0], addresses[2]], [comes])
        after.keep(before, [addresses[0]])
        assert [after.reached_by(("127.0.0.1", port)) for port in ports] == [True, False, True]
        assert [after.named("localhost", port) for port in ports] == [True, False, True]


def test_one_whose_port_was_left_open_is_known_still():
    with listening("127.0.0.1") as sock:
        before, after = OwnListeners(["127.0.0.1:0"], [sock]), OwnListeners(["127.0.0.1:0"])
        after.keep(before, ["127.0.0.1:0"])
        assert after.listens_at(sock.getsockname()[1])


def test_who_holds_it_goes_by_what_it_becomes():
    held = OwnListeners(["127.0.0.1:1"])
    held.become(OwnListeners(["127.0.0.1:2"]))
    assert [held.named("127.0.0.1", port) for port in (1, 2)] == [False, True]


def test_the_ports_of_listeners_are_those_that_they_got_last():
    before = OwnListeners(ports={"127.0.0.1:0": 1, "127.0.0.1:0 for a": 2})
    after = OwnListeners(ports={"127.0.0.1:0 for a": 3})
    after.keep(before, ["127.0.0.1:0"])
    held = OwnListeners()
    assert held.ports == {}
    held.become(after)
    assert held.ports == {"127.0.0.1:0": 1, "127.0.0.1:0 for a": 3}
