"""Which addresses a name is listened on, and on which port."""

import socket

import pytest

from authproxy.app.sockets import ListenError, another_socket, listening_sockets, listens

V4, V6 = socket.AF_INET, socket.AF_INET6


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
