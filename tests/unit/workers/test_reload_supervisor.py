"""The supervisor takes the new state whole, or goes on as before."""

from dataclasses import replace

import pytest

from authproxy.app.tls import tls_contexts
from authproxy.config.read import parse
from authproxy.errors import AuthproxyError, StoreError
from authproxy.net.own_listeners import OwnListeners
from authproxy.workers import reload_supervisor as module
from authproxy.workers.reload import State, packed
from authproxy.workers.reload_supervisor import Taker
from tests.unit.workers.reloads import BEFORE, NEW, OLD, ROUTE, TLS, said


@pytest.fixture
def state(open_socket):
    """Return what two workers were started with: a listener that goes, and one that stays."""
    config = replace(BEFORE, listen=(OLD, NEW))
    shares = [[(OLD, open_socket()), (NEW, open_socket())] for _ in range(2)]
    return State(config, TLS, shares, ("127.0.0.1:8", [open_socket()]), OwnListeners(), 7)


AFTER_ALL = parse(
    f"listen: ['{NEW}', '[::1]:0']\nadmin: {{listen: '127.0.0.1:9'}}\nlog: {{level: error, format: json}}"
    f"\nlimits: {{connections: 50}}{ROUTE}",
    "proxy.yaml",
)


def test_the_supervisor_takes_what_is_new_and_closes_what_is_gone(state, open_socket, killed):
    taker, new, admin = Taker(state), [open_socket(), open_socket()], open_socket()
    gone, kept = ([share[at][1] for share in state.shares] for at in (0, 1))
    old_admin = state.admin[1][0]
    for number, sock in enumerate(new):
        message = said("sockets", worker=number, sockets=[sock], addresses=["[::1]:0"])
        assert taker.hear(message) is None
    assert (state.config.listen, state.number) == ((OLD, NEW), 7)
    answer = taker.hear(said("state", config=AFTER_ALL, sockets=[admin], addresses=["127.0.0.1:9"]))
    assert answer == {"reload": "taken", "number": 8}
    assert [[address for address, _ in share] for share in state.shares] == [[NEW, "[::1]:0"]] * 2
    assert [share[0][1] for share in state.shares] == kept
    assert [share[1][1].getsockname() for share in state.shares] == [sock.getsockname() for sock in new]
    assert [sock.fileno() for sock in (*gone, old_admin)] == [-1] * 3
    assert state.admin[1][0].getsockname() == admin.getsockname()
    assert (state.config, state.number) == (AFTER_ALL, 8)
    assert killed == [("log", "error", "json"), ("files", 50)]
    for sock in (*(share[1][1] for share in state.shares), state.admin[1][0]):
        sock.close()


@pytest.mark.parametrize(("admin", "stays"), [("{listen: '127.0.0.1:8'}", True), ("false", False)])
def test_an_admin_listener_stays_or_ends(state, killed, admin, stays):
    [sock] = state.admin[1]
    Taker(state).hear(said("state", config=parse(f"admin: {admin}{ROUTE}", "proxy.yaml")))
    assert (sock.fileno() >= 0) is (state.admin is not None) is stays


@pytest.mark.parametrize("why", ["it is stopping", "a certificate"])
def test_what_it_cannot_take_leaves_it_as_it_was_and_nothing_open(
    state, open_socket, killed, monkeypatch, files, why
):
    def unusable(_config, _before, _authority):
        raise AuthproxyError("the certificate or the key cannot be used")

    if why == "a certificate":
        monkeypatch.setattr(module, "tls_contexts", unusable)
    taker, new = Taker(state), open_socket()
    before, shares = files(), [list(share) for share in state.shares]
    taker.hear(said("sockets", worker=0, sockets=[new], addresses=["[::1]:0"]))
    answer = taker.hear(
        said("state", config=AFTER_ALL, sockets=[new], addresses=["127.0.0.1:9"]),
        stopping=why == "it is stopping",
    )
    assert answer["trouble"] in {"authproxy is stopping", "the certificate or the key cannot be used"}
    assert (state.shares, state.number, state.config.listen) == (shares, 7, (OLD, NEW))
    assert killed == []
    assert files() == before


def test_what_a_dead_broker_left_unsaid_is_not_mixed_with_what_the_next_one_says(
    state, open_socket, killed, files
):
    taker, new = Taker(state), open_socket()
    before = files()
    taker.hear(said("sockets", 8, worker=0, sockets=[new], addresses=["[::1]:0"]))
    taker.hear(said("sockets", 8, worker=1, sockets=[new], addresses=["[::1]:0"]))
    answer = taker.hear(said("state", 9, config=replace(AFTER_ALL, listen=(OLD, NEW))))
    assert answer == {"reload": "taken", "number": 9}
    assert [len(share) for share in state.shares] == [2, 2]
    assert files() == before


def test_clients_are_told_of_the_authority_that_the_state_brings_or_it_is_not_taken(
    state, killed, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    tmp_path.chmod(0o700)
    monkeypatch.setattr(module, "tls_contexts", tls_contexts)
    one, other = (parse(f"forward: true{ROUTE.replace('a.ex', f'{each}.ex')}", "proxy.yaml") for each in "ab")
    first = tls_contexts(one)
    state.tls = tls_contexts(state.config)
    answer = Taker(state).hear(said("state") | {"config": packed(one, OwnListeners(), first)})
    assert "trouble" not in answer
    file = state.tls.forward.cert_file
    assert file.read_bytes() == first.forward.root_pem
    message = said("state", 9) | {"config": packed(other, OwnListeners(), tls_contexts(other, first))}
    with monkeypatch.context() as patch:
        patch.setattr("authproxy.app.runtime_files.disk.replace_private", full)
        assert "the files for clients" in Taker(state).hear(dict(message))["trouble"]
    assert state.config == one
    assert file.read_bytes() == first.forward.root_pem
    assert "trouble" not in Taker(state).hear(dict(message))
    assert file.read_bytes() == state.tls.forward.root_pem != first.forward.root_pem
    state.tls.end()


def full(*_given):
    raise StoreError("No space left on device")
