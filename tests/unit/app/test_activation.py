"""Which listener a socket is that a service manager has opened, and which cannot be one."""

import os
import socket

import pytest

from authproxy.app import activation
from authproxy.app.activation import adopt, passed_sockets
from authproxy.app.listeners import PassedSocket, open_listeners
from authproxy.app.sockets import ListenError
from authproxy.config.read import parse
from authproxy.errors import ConfigError

ROUTES = "routes: [{name: api, upstream: 'https://a.example', auth: {grant: none}}]\n"
REMOTE = "lets other machines use the credentials"


def config(text=""):
    return parse(text + "\n" + ROUTES, "/etc/proxy.yaml")


class Passed:
    """A passed socket that says that it is bound at `place`."""

    def __init__(self, place, name="", *, v6only=False):
        self.place = place
        self.name = name
        self.family = (
            socket.AF_UNIX
            if isinstance(place, str)
            else socket.AF_INET6
            if ":" in place[0]
            else socket.AF_INET
        )
        self.takes_both = self.family == socket.AF_INET6 and not v6only

    def getsockname(self):
        return (*self.place, 0, 0) if self.family == socket.AF_INET6 else self.place

    def __repr__(self):
        return f"<{self.name} {self.place}>"


def adopted(text, *passed):
    """Return what is listened on, the admin listener's address, and which sockets are for which address."""
    made, opened = adopt(config(text), passed)
    return (
        list(made.listen),
        made.admin and made.admin.listen,
        {key: list(each) for key, each in opened.items()},
    )


# ── whose they are ───────────────────────────────────────────────────────────────────────────────


def test_without_any_nothing_changes():
    before = config("listen: 127.0.0.1:1")
    assert adopt(before, []) == (before, {})


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("'[::1]:80'", ("::1", 80)),
        ("'[0:0::1]:80'", ("::1", 80)),
        ("localhost:80", ("127.0.0.1", 80)),
        ("localhost:80", ("::1", 80)),
        ("unix:/run/x", "/run/x"),
        ("unix:/run/../run/x", "/run/x"),
    ],
)
def test_one_at_an_address_that_is_configured_is_that_listener(address, place):
    sock = Passed(place, "authproxy.socket")
    listen = ["127.0.0.1:1", address.strip("'")]
    found = adopted(f"listen: [127.0.0.1:1, {address}]", sock)
    assert found == (listen, "127.0.0.1:8081", {listen[1]: [sock]})


@pytest.mark.parametrize(
    "place", [("127.0.0.1", 81), ("127.0.0.2", 80), ("::1", 80), "/run/x", ("::", 81), ("0.0.0.0", 81)]
)
def test_any_other_takes_the_place_of_those_for_which_there_is_none(place):
    mine = Passed(("127.0.0.1", 82))
    other = Passed(place, "web")
    listen, _, found = adopted(
        "allow_remote: true\nlisten: [127.0.0.1:80, 127.0.0.1:82, 127.0.0.1:84]", other, mine
    )
    assert listen[0] == "127.0.0.1:82"
    assert found == {"127.0.0.1:82": [mine], listen[1]: [other]}
    assert len(listen) == 2


def test_that_is_said_with_where_they_are(caplog):
    caplog.set_level("INFO", "authproxy")
    adopted("", Passed(("::1", 9)), Passed("/run/x", "web"))
    (record,) = caplog.records
    assert record.getMessage() == "listening on sockets that were passed, instead of `listen`"
    assert record.facts == {"passed": "[::1]:9, unix:/run/x"}


def test_one_called_admin_is_the_admin_listener_wherever_it_is():
    one, other = Passed(("127.0.0.1", 7), "admin"), Passed(("::1", 7), "admin")
    found = adopted("listen: 127.0.0.1:80", one, other)
    assert found == (["127.0.0.1:80"], "127.0.0.1:7", {"127.0.0.1:7": [one, other]})


def test_one_at_the_admin_listeners_address_is_it_too():
    sock = Passed(("127.0.0.1", 8081))
    assert adopted("", sock) == (["127.0.0.1:8080"], "127.0.0.1:8081", {"127.0.0.1:8081": [sock]})


ALIKE = "listen: 127.0.0.1:0\nadmin: {listen: 127.0.0.1:0}"


def test_the_admin_listener_is_another_one_though_it_be_spelled_as_the_proxys_is():
    admin, other = Passed(("127.0.0.1", 7), "admin"), Passed(("127.0.0.1", 8), "foo")
    assert adopted(ALIKE, admin) == (["127.0.0.1:0"], "127.0.0.1:7", {"127.0.0.1:7": [admin]})
    both = {"127.0.0.1:7": [admin], "127.0.0.1:8": [other]}
    assert adopted(ALIKE, admin, other) == adopted(ALIKE, other, admin)
    assert adopted(ALIKE, other, admin) == (["127.0.0.1:8"], "127.0.0.1:7", both)


def test_a_route_may_be_called_admin_and_the_socket_is_still_the_admin_listeners():
    sock = Passed(("127.0.0.1", 7), "admin")
    made, _ = adopt(parse(ROUTES.replace("api", "admin"), "/etc/proxy.yaml"), [sock])
    assert (made.admin.listen, [each.listen for each in made.routes]) == ("127.0.0.1:7", [None])


def test_one_for_an_admin_listener_that_is_off_is_a_warning(caplog):
    assert adopted("admin: false", Passed(("127.0.0.1", 8081), "admin")) == (["127.0.0.1:8080"], None, {})
    assert "nobody serves it" in caplog.records[0].getMessage()


@pytest.mark.parametrize(
    ("address", "sock"),
    [
        ("127.0.0.1:80", Passed(("0.0.0.0", 80))),
        ("127.0.0.1:80", Passed(("::", 80))),
        ("'[::1]:80'", Passed(("::", 80), v6only=True)),
    ],
)
def test_one_at_every_address_is_the_listener_of_its_port_and_says_where_it_is(address, sock):
    own = activation.place_of(sock)
    found = adopted(f"allow_remote: true\nlisten: [{address}, 127.0.0.1:1]", sock)
    assert found == ([own, "127.0.0.1:1"], "127.0.0.1:8081", {own: [sock]})


def test_one_of_ipv6_alone_is_no_listener_of_ipv4():
    sock = Passed(("::", 80), v6only=True)
    assert adopted("allow_remote: true\nlisten: 127.0.0.1:80", sock)[0] == ["[::]:80"]


def test_a_name_that_does_not_resolve_is_nobodys(monkeypatch):
    def fail(_host, _port):
        raise socket.gaierror

    monkeypatch.setattr(activation, "places_of", fail)
    found = adopted("allow_remote: true\nlisten: nowhere.example:80", Passed(("0.0.0.0", 80)))
    assert found[0] == ["0.0.0.0:80"]


@pytest.mark.parametrize("place", [("0.0.0.0", 80), ("::", 80), ("192.0.2.1", 80)])
@pytest.mark.parametrize("name", ["", "admin"])
def test_one_that_others_reach_needs_to_be_allowed(place, name):
    sock = Passed(place, name)
    with pytest.raises(ConfigError, match=REMOTE) as raised:
        adopted("listen: 127.0.0.1:80", sock)
    assert str(raised.value).startswith("authproxy: /etc/proxy.yaml: listen: the socket that was passed, ")
    adopted("access: {tokens: [key]}", sock)
    adopted("allow_remote: true", sock)


# ── what was passed ──────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def environ():
    return {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "web", "PATH": "/bin"}


@pytest.fixture
def first(monkeypatch):
    """Make `sock` the first descriptor that may be passed."""
    return lambda sock: monkeypatch.setattr(activation, "FIRST", sock.fileno())


def test_a_socket_is_taken_with_its_name_and_the_variables_are_gone(environ, first):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.set_inheritable(True)
        first(sock)
        (passed,) = passed_sockets(environ)
        assert (passed.name, passed.getsockname()) == ("web", sock.getsockname())
        assert not os.get_inheritable(sock.fileno())
        assert environ == {"PATH": "/bin"}
        assert passed_sockets(environ) == []
        sock.detach()
        passed.close()


def test_names_may_be_missing(environ, first):
    del environ["LISTEN_FDNAMES"]
    with socket.create_server(("127.0.0.1", 0)) as sock:
        first(sock)
        (passed,) = passed_sockets(environ)
        assert passed.name == ""
        sock.detach()
        passed.close()


@pytest.mark.parametrize("pid", ["1", "", "x"])
def test_those_of_another_process_are_left_alone(environ, pid):
    environ["LISTEN_PID"] = pid
    assert passed_sockets(environ) == []
    assert environ == {"PATH": "/bin"}


@pytest.mark.parametrize("count", ["", "-1", "three", "²"])
def test_a_number_that_is_none_is_said(environ, count):
    environ["LISTEN_FDS"] = count
    with pytest.raises(ListenError, match="LISTEN_FDS should be a number"):
        passed_sockets(environ)


def test_what_is_no_socket_is_said(environ, monkeypatch):
    reading, writing = os.pipe()
    monkeypatch.setattr(activation, "FIRST", reading)
    with pytest.raises(ListenError, match=r"\(web\).* is no socket"):
        passed_sockets(dict(environ))
    os.close(writing)
    os.close(reading)
    with pytest.raises(ListenError, match="Bad file descriptor"):
        passed_sockets(environ)


# ── what becomes of them ─────────────────────────────────────────────────────────────────────────


def test_what_is_open_already_is_not_opened_and_its_name_stays(tmp_path):
    path, own = tmp_path / "passed", tmp_path / "own"
    with PassedSocket(socket.AF_UNIX, socket.SOCK_STREAM) as passed, PassedSocket() as admin:
        passed.bind(str(path))
        made = config(f"listen: ['unix:{path}', 'unix:{own}']\nadmin: {{listen: '127.0.0.1:1'}}")
        found = open_listeners(made, already={f"unix:{path}": [passed], "127.0.0.1:1": [admin]})
        (_, first), (_, second) = found.proxy
        assert first is passed
        assert found.admin == ("127.0.0.1:1", [admin])
        assert found.passed == {f"unix:{path}", "127.0.0.1:1"}
        found.unlink(found.addresses)
        assert [each.name for each in tmp_path.iterdir()] == ["passed"]
        second.close()


# ── a route's own ────────────────────────────────────────────────────────────────────────────────

TWO = """
{top}
routes:
- {{name: a, upstream: "https://a.example", auth: {{grant: none}}, path: /a}}
- {{name: b, upstream: "https://b.example", auth: {{grant: none}}, listen: "{b}"}}
"""


def owned(*passed, b="127.0.0.1:9", top=""):
    """Return what is listened on for all, each route's own address, and which sockets are for which."""
    made, opened = adopt(parse(TWO.format(b=b, top=top), "/etc/proxy.yaml", environ={}), passed)
    assert set(opened) <= {*made.listeners, "127.0.0.1:8081"}
    return list(made.listen), [each.listen for each in made.routes], opened


def test_one_called_as_a_route_is_that_routes_wherever_it_is():
    sock = Passed(("127.0.0.1", 7), "b")
    assert owned(sock) == (["127.0.0.1:8080"], [None, "127.0.0.1:7"], {"127.0.0.1:7": [sock]})
    assert owned(sock, b="127.0.0.1:0") == (
        ["127.0.0.1:8080"],
        [None, "127.0.0.1:7"],
        {"127.0.0.1:7": [sock]},
    )


def test_a_route_without_an_address_gets_one_like_this_unless_it_is_one_of_all():
    sock = Passed(("127.0.0.1", 7), "a")
    assert owned(sock) == (
        ["127.0.0.1:8080"], ["127.0.0.1:7", "127.0.0.1:9"], {"127.0.0.1:7": [sock]},
    )  # fmt: skip
    assert owned(sock, top="listen: 127.0.0.1:7") == (
        ["127.0.0.1:7"], [None, "127.0.0.1:9"], {"127.0.0.1:7": [sock]},
    )  # fmt: skip


def test_several_of_one_name_are_one_listener():
    one, other = Passed(("127.0.0.1", 7), "b"), Passed(("::1", 7), "b")
    assert owned(one, other)[1:] == ([None, "127.0.0.1:7"], {"127.0.0.1:7": [one, other]})


def test_one_at_a_routes_address_is_it_too_and_the_others_are_for_all():
    mine, other = Passed(("127.0.0.1", 9)), Passed("/run/x")
    assert owned(mine, other) == (
        ["unix:/run/x"], [None, "127.0.0.1:9"], {"127.0.0.1:9": [mine], "unix:/run/x": [other]},
    )  # fmt: skip


def test_one_of_a_routes_that_others_reach_needs_to_be_allowed():
    with pytest.raises(ConfigError, match=REMOTE):
        owned(Passed(("0.0.0.0", 7), "b"))


@pytest.mark.parametrize("name", ["forward", "proxy"])
def test_one_may_be_the_forward_proxys(name):
    sock = Passed(("127.0.0.1", 8888), name)
    found, opened = adopt(config("forward: true"), [sock])
    assert found.forward.listen == "127.0.0.1:8888"
    assert opened == {found.forward_listener: [sock]}
    elsewhere = Passed(("127.0.0.1", 9999), "forward")
    found, opened = adopt(config("forward: true"), [elsewhere])
    assert (found.forward.listen, list(opened)) == ("127.0.0.1:9999", ["127.0.0.1:9999"])
