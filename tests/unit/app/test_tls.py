"""Every `SSLContext` of the data path; the handshakes happen in memory."""

import ssl

import pytest
import trustme

from authproxy.app import local_authority
from authproxy.app.tls import tls_contexts
from authproxy.config.read import parse
from authproxy.errors import ConfigError
from authproxy.net.key_pair import ANOTHER_KEY, NO_CERTIFICATE, NO_KEY


@pytest.fixture
def here(tmp_path):
    """Return a directory with an authority, a certificate of it, another authority's, and garbage."""
    for name in ("", "other-"):
        authority = trustme.CA()
        authority.cert_pem.write_to_path(tmp_path / f"{name}ca.pem")
        certificate = authority.issue_cert("up.example")
        certificate.cert_chain_pems[0].write_to_path(tmp_path / f"{name}cert.pem")
        certificate.private_key_pem.write_to_path(tmp_path / f"{name}key.pem")
    (tmp_path / "garbage.pem").write_text("garbage")
    return tmp_path


@pytest.fixture
def contexts(here):
    """Return a maker of the contexts of a configuration with a route for each of its arguments."""

    def make(*routes, top="", before=None):
        lines = [
            f"- {{name: r{number}, path: /{number}, auth: {{grant: none}}, {keys}}}"
            for number, keys in enumerate(routes)
        ]
        config = parse("\n".join([top, "routes:", *lines]), str(here / "proxy.yaml"), environ={})
        return tls_contexts(config, before)

    return make


def shake_hands(client_context, server_context, name="up.example"):
    """Return the client's and the server's side once they agree; raise what stands in the way."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=name)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(5):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return client, server


def server(here, name="", *, asks_for=None):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=asks_for)
    context.load_cert_chain(here / f"{name}cert.pem", here / f"{name}key.pem")
    context.set_alpn_protocols(["h2", "http/1.1"])
    if asks_for is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.maximum_version = ssl.TLSVersion.TLSv1_2  # in which the client hears of it at once
    return context


UP = "upstream: https://up.example"


def test_only_what_speaks_tls_gets_a_context(contexts):
    made = contexts(UP, "upstream: http://localhost:1", "upstream: https://other.example")
    assert set(made.upstreams) == {"r0", "r2"}
    assert made.listener is None


def test_http_1_1_is_spoken_to_an_upstream_whose_certificate_is_of_a_known_authority(contexts, here):
    made = contexts(f"{UP}, tls: {{ca_file: ca.pem}}")
    client, _ = shake_hands(made.upstreams["r0"], server(here))
    assert client.selected_alpn_protocol() == "http/1.1"


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        ("", "up.example"),
        (", tls: {ca_file: other-ca.pem}", "up.example"),
        (", tls: {ca_file: ca.pem}", "else.example"),
    ],
)
def test_an_upstream_that_cannot_prove_who_it_is_is_not_spoken_to(contexts, here, keys, name):
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(contexts(UP + keys).upstreams["r0"], server(here), name)


def test_unless_the_route_says_that_it_does_not_matter(contexts, here):
    made = contexts(f"{UP}, tls: {{verify: false}}", UP)
    shake_hands(made.upstreams["r0"], server(here), "else.example")
    with pytest.raises(ssl.SSLCertVerificationError):  # which holds for that route alone
        shake_hands(made.upstreams["r1"], server(here))


def test_a_client_certificate_is_shown_to_an_upstream_that_asks_for_it(contexts, here):
    asks = server(here, asks_for=here / "other-ca.pem")
    made = contexts(
        f"{UP}, tls: {{ca_file: ca.pem, cert_file: other-cert.pem, key_file: other-key.pem}}",
        f"{UP}, tls: {{ca_file: ca.pem}}",
    )
    _, upstream = shake_hands(made.upstreams["r0"], asks)
    assert upstream.getpeercert() is not None
    with pytest.raises(ssl.SSLError):
        shake_hands(made.upstreams["r1"], asks)


def test_the_listener_speaks_http_1_1_with_its_certificate_and_asks_clients_for_none(contexts, here):
    made = contexts(UP, top="tls: {cert_file: cert.pem, key_file: key.pem}")
    client = ssl.create_default_context(cafile=here / "ca.pem")
    client.set_alpn_protocols(["h2", "http/1.1"])
    agreed, _ = shake_hands(client, made.listener)
    assert agreed.selected_alpn_protocol() == "http/1.1"
    assert agreed.version() in {"TLSv1.2", "TLSv1.3"}


def test_every_certificate_that_cannot_be_used_is_told_at_once(contexts):
    with pytest.raises(ConfigError) as caught:
        contexts(
            f"{UP}, tls: {{ca_file: garbage.pem}}",
            f"{UP}, tls: {{ca_file: ca.pem}}",
            f"{UP}, tls: {{cert_file: cert.pem, key_file: other-key.pem}}",
            top="tls: {cert_file: cert.pem, key_file: garbage.pem}",
        )
    assert [(fault.line, fault.column, fault.key, fault.message) for fault in caught.value.faults] == [
        (1, 38, "tls.key_file", NO_KEY),
        (3, 90, "routes[0].tls.ca_file", NO_CERTIFICATE),
        (5, 112, "routes[2].tls.key_file", ANOTHER_KEY),
    ]


# ── once more ────────────────────────────────────────────────────────────────────────────────────

KEYS = "tls: {cert_file: cert.pem, key_file: key.pem}"
ROUTE = f"{UP}, tls: {{ca_file: ca.pem}}"


def test_what_is_made_from_the_same_is_the_same(contexts):
    before = contexts(ROUTE, top=KEYS)
    after = contexts(ROUTE, f"{UP}, tls: {{ca_file: other-ca.pem}}", top=KEYS, before=before)
    assert after.listener is before.listener
    assert after.upstreams["r0"] is before.upstreams["r0"]
    assert contexts(ROUTE, top=KEYS, before=after).listener is before.listener


def test_routes_with_the_same_settings_share_one(contexts):
    """To trust what the system trusts takes 30 ms and a megabyte, each time; and there may be many routes."""
    made = contexts(UP, UP, ROUTE, f"{UP}, tls: {{verify: false}}", ROUTE).upstreams
    assert made["r0"] is made["r1"]
    assert made["r2"] is made["r4"]
    assert len({made["r0"], made["r2"], made["r3"]}) == 3


@pytest.mark.parametrize("file", ["cert.pem", "key.pem"])
def test_a_file_that_holds_something_else_makes_another_listener(contexts, here, file):
    before = contexts(ROUTE, top=KEYS)
    with (here / file).open("a") as stream:
        stream.write("\n")
    after = contexts(ROUTE, top=KEYS, before=before)
    assert after.listener is not before.listener
    assert after.upstreams["r0"] is before.upstreams["r0"]


@pytest.mark.parametrize(
    "then", [f"{UP}, tls: {{ca_file: other-ca.pem}}", f"{UP}, tls: {{ca_file: ca.pem, verify: false}}", UP]
)
def test_other_settings_make_another_one(contexts, then):
    before = contexts(ROUTE)
    assert contexts(then, before=before).upstreams["r0"] is not before.upstreams["r0"]


def test_a_file_that_holds_something_else_makes_another_one_for_the_upstream(contexts, here):
    before = contexts(ROUTE)
    (here / "ca.pem").write_text((here / "other-ca.pem").read_text())
    after = contexts(ROUTE, before=before)
    assert after.upstreams["r0"] is not before.upstreams["r0"]
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(after.upstreams["r0"], server(here))


def test_tls_that_has_gone_is_gone(contexts):
    assert contexts(UP, before=contexts(UP, top=KEYS)).listener is None


def test_what_it_was_made_from_is_not_shown(contexts):
    made = contexts(ROUTE)
    assert made.made
    assert not [digest for digest in made.made if digest in repr(made)]


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(local_authority, "state_directory", lambda: tmp_path / "state")
    return tmp_path / "state"


AUTO = "tls: auto"
HTTP = "upstream: 'http://localhost:1'"


def test_auto_serves_with_a_certificate_of_the_local_authority(contexts, home):
    made = contexts(HTTP + ", host: x.localhost", top=AUTO)
    trusts = ssl.create_default_context(cafile=home / "authority" / "ca.pem")
    trusts.set_alpn_protocols(["h2", "http/1.1"])
    for name in ("localhost", "127.0.0.1", "::1", "x.localhost"):
        client, _ = shake_hands(trusts, made.listener, name)
        assert client.selected_alpn_protocol() == "http/1.1"
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(trusts, made.listener, "y.localhost")


def test_auto_is_taken_over_as_long_as_its_names_are_the_same(contexts, home):
    before = contexts(HTTP, top=AUTO)
    same = contexts(HTTP, HTTP, top=AUTO, before=before)
    assert (same.listener, same.local) == (before.listener, before.local)
    other = contexts(HTTP + ", host: x.localhost", top=AUTO, before=same)
    assert other.listener is not before.listener
    assert other.local.authority.root == before.local.authority.root


def test_from_files_to_auto_and_back(contexts, home):
    files = contexts(UP, top=KEYS)
    auto = contexts(UP, top=AUTO, before=files)
    assert (files.local, auto.local.context) == (None, auto.listener)
    again = contexts(UP, top=KEYS, before=auto)
    assert again.local is None
    assert again.listener not in {auto.listener, None}
    assert contexts(UP, before=auto).listener is None


def test_where_nothing_is_to_be_made_it_is_only_seen_whether_it_could(here, home, monkeypatch):
    config = parse(f"{AUTO}\nroutes: [{{name: a, auth: {{grant: none}}, {HTTP}}}]", "proxy.yaml", environ={})
    assert tls_contexts(config, makes=False).listener is None
    assert not home.exists()
    home.write_text("a file")
    with pytest.raises(
        ConfigError, match=r"tls: cannot be served: the local authority: .* set XDG_STATE_HOME"
    ):
        tls_contexts(config, makes=False)
    assert home.read_text() == "a file"
    monkeypatch.setattr(local_authority, "state_directory", lambda: None)
    with pytest.raises(
        ConfigError, match=r"tls: cannot be served: .* there is no home directory.*; set HOME"
    ):
        tls_contexts(config, makes=False)


def test_an_authority_that_cannot_be_kept_is_a_fault_at_its_place(contexts, home):
    home.write_text("a file")
    with pytest.raises(ConfigError) as caught:
        contexts(HTTP, top=AUTO)
    [fault] = caught.value.faults
    assert (fault.line, fault.column, fault.key) == (1, 6, "tls")
    assert fault.message.startswith("cannot be served: the local authority: ")
    assert "XDG_STATE_HOME" in fault.message


# ── forward mode ─────────────────────────────────────────────────────────────────────────────────

FORWARD = "forward: true"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return the directory for files that last as long as we do."""
    made = tmp_path / "run"
    made.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(made))
    return made


def test_forward_has_an_authority_for_the_routes_hosts_which_is_not_that_of_auto(contexts, home, run):
    made = contexts(UP, top=f"{FORWARD}\n{AUTO}")
    assert made.forward.root_pem != made.local.authority.root_pem
    trusts = ssl.create_default_context(cadata=made.forward.root_pem.decode())
    shake_hands(trusts, made.forward.leaves.context("up.example"))
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(trusts, made.listener, "localhost")
    assert list(run.iterdir()) == [], "until somebody serves"


def test_what_clients_read_is_there_from_the_begin_to_the_end(contexts, run):
    made = contexts(UP, top=FORWARD)
    made.begin()
    [directory] = run.iterdir()
    assert (directory / "ca.pem").read_bytes() == made.forward.root_pem
    made.end()
    assert list(run.iterdir()) == []


def test_a_configuration_without_forward_has_what_clients_read_removed(contexts, run):
    before = contexts(UP, top=FORWARD)
    before.begin()
    after = contexts(UP, before=before)
    assert after.forward is None
    after.stage()
    assert len(list(run.iterdir())) == 1
    after.publish()
    assert list(run.iterdir()) == []
    again = contexts(UP, top=FORWARD, before=after)
    again.begin()
    assert again.files is before.files
    contexts(UP, top=FORWARD, before=again).end()
    assert list(run.iterdir()) == []


def test_what_another_process_has_made_is_taken_as_it_is(contexts, here, run):
    made = contexts(UP, top=FORWARD)
    config = parse(f"{FORWARD}\nroutes: [{{name: r0, auth: {{grant: none}}, {UP}}}]", "a.yaml", environ={})
    there = tls_contexts(config, None, made.forward.exported())
    assert there.forward.root_pem == made.forward.root_pem


def test_where_nothing_is_to_be_made_forward_has_no_authority_but_ones_own_is_looked_at(here, run):
    def told(keys):
        text = f"forward: {keys}\nroutes: [{{name: a, auth: {{grant: none}}, {UP}}}]"
        return tls_contexts(parse(text, str(here / "proxy.yaml"), environ={}), makes=False)

    assert told("true").forward is None
    with pytest.raises(ConfigError, match=r"proxy.yaml:1:45: forward.ca.key_file: holds no private key"):
        told("{ca: {cert_file: ca.pem, key_file: garbage.pem}}")


def test_all_that_is_wrong_is_told_at_once_with_what_is_wrong_with_ones_own_authority(contexts):
    with pytest.raises(ConfigError) as caught:
        contexts(
            f"{UP}, tls: {{ca_file: garbage.pem}}",
            top="tls: {cert_file: cert.pem, key_file: garbage.pem}\n"
            "forward: {ca: {cert_file: garbage.pem, key_file: key.pem}}",
        )
    keys = [fault.key for fault in caught.value.faults]
    assert sorted(keys) == ["forward.ca.cert_file", "routes[0].tls.ca_file", "tls.key_file"]
