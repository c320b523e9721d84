"""What travels between the processes of a reload."""

import asyncio

import pytest

from authproxy.app.sockets import ListenError
from authproxy.app.tls import tls_contexts
from authproxy.config.read import parse
from authproxy.net.own_listeners import OwnListeners
from authproxy.workers import reload as module
from authproxy.workers.reload import (
    packed,
    shared_out,
    unpacked,
    with_addresses,
    without_sources,
)
from tests.unit.workers.reloads import NEW, OLD, ROUTE, TLS, listener, said


def test_a_configuration_arrives_as_it_is_with_what_reads_its_secrets_again(tmp_path):
    (tmp_path / "secret").write_text("first")
    text = (
        "routes: [{name: a, upstream: 'https://a.example', auth: {grant: static, token: '${file:secret}'}}]"
    )
    config = parse(text, str(tmp_path / "proxy.yaml"))
    own = OwnListeners(["127.0.0.1:7"])
    found, there, authority = unpacked(packed(config, own, TLS))
    assert (found, found.files, found.places) == (config, config.files, config.places)
    assert there.named("127.0.0.1", 7)
    assert authority is None
    (tmp_path / "secret").write_text("second")
    grant = asyncio.run(found.routes[0].reread())
    assert grant.token.get_secret_value() == "second"


def test_workers_have_nothing_that_reads_secrets(tmp_path):
    (tmp_path / "secret").write_text("first")
    text = (
        "routes: [{name: a, upstream: 'https://a.example', auth: {grant: static, token: '${file:secret}'}}]"
    )
    config = parse(text, str(tmp_path / "proxy.yaml"))
    assert without_sources(config).routes[0].reread is None
    assert config.routes[0].reread is not None


def test_each_worker_gets_tcp_sockets_of_its_own_and_unix_ones_in_common(open_socket):
    tcp, unix = open_socket(), object()
    shares = shared_out([(OLD, tcp), ("unix:/run/x", unix)], 3)
    assert [[address for address, _ in share] for share in shares] == [[OLD, "unix:/run/x"]] * 3
    assert [share[1][1] for share in shares] == [unix] * 3
    sockets = [share[0][1] for share in shares]
    assert sockets[0] is tcp
    assert len({sock.fileno() for sock in sockets}) == 3
    assert len({sock.getsockname() for sock in sockets}) == 1
    for sock in sockets:
        sock.close()


def test_if_one_cannot_be_opened_the_others_are_closed(open_socket, monkeypatch):
    made = []

    def another(_sock):
        if len(made) == 3:
            raise ListenError("no more")
        made.append(listener())
        return made[-1]

    monkeypatch.setattr(module, "another_socket", another)
    first = [open_socket(), open_socket()]
    with pytest.raises(ListenError):
        shared_out([(OLD, sock) for sock in first], 3)
    assert [sock.fileno() for sock in made] == [-1, -1, -1]
    assert all(sock.fileno() >= 0 for sock in first)


def test_sockets_come_with_their_addresses(open_socket):
    sock = open_socket()
    message = said("sockets", sockets=[sock, sock], addresses=[OLD, NEW])
    share = with_addresses(message)
    assert [address for address, _ in share] == [OLD, NEW]
    for _, each in share:
        each.close()


def test_the_forward_proxys_authority_travels_too():
    config = parse(f"forward: true{ROUTE}", "proxy.yaml")
    tls = tls_contexts(config)
    _, _, authority = unpacked(packed(config, OwnListeners(), tls))
    assert tls_contexts(config, None, authority).forward.root_pem == tls.forward.root_pem
