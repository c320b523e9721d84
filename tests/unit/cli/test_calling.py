"""Where a route is called. Nothing is."""

import pytest
import trustme

from authproxy.app import local_authority
from authproxy.app.trust import system
from authproxy.cli import calling
from authproxy.cli.calling import URLs, call_of, configured_urls, reachable
from authproxy.config.read import parse
from tests.support.systems import needs_unix_sockets, of_unix

ROUTE = "{{name: a, upstream: 'https://a.example', auth: {{grant: none}}, {}}}"


def config(route="path: /a", top=""):
    return parse(f"{top}\nroutes: [{ROUTE.format(route)}]", "a.yaml")


def call(route="path: /a", top="", urls=("http://127.0.0.1:8080",), own=None):
    found = config(route, top)
    return call_of(found, found.routes[0], URLs(tuple(urls), own or {}))


@pytest.mark.parametrize(
    ("route", "urls", "line"),
    [
        ("path: /a", ["http://127.0.0.1:80"], "curl http://127.0.0.1:80/a/"),
        ("path: /", ["http://[::1]:80"], "curl 'http://[::1]:80/'"),
        ("path: /a", ["http://0.0.0.0:80"], "curl http://127.0.0.1:80/a/"),
        ("path: /a", ["http://[::]:80"], "curl 'http://[::1]:80/a/'"),
        ("host: x.localhost", ["http://127.0.0.1:80"], "curl http://x.localhost:80/"),
        ("host: x.localhost, path: /a", ["http://localhost:80"], "curl http://x.localhost:80/a/"),
        ("host: x.localhost", ["http://10.0.0.1:80"], "curl --resolve x.localhost:80:10.0.0.1 http://x.localhost:80/"),
        ("host: x.corp", ["http://127.0.0.1:80"], "curl --resolve x.corp:80:127.0.0.1 http://x.corp:80/"),
        ("host: x.corp", ["http://localhost:80"], "curl --resolve x.corp:80:127.0.0.1 http://x.corp:80/"),
        ("host: x.corp", ["http://[::1]:80"], "curl --resolve x.corp:80:[::1] http://x.corp:80/"),
        ("path: /a", ["unix:/run/a b"], "curl --unix-socket '/run/a b' http://localhost/a/"),
        ("host: x.corp", ["unix:/run/a"], "curl --unix-socket /run/a http://x.corp/"),
        ("path: /a", ["unix:/run/a", "http://127.0.0.1:80"], "curl http://127.0.0.1:80/a/"),
    ],
)  # fmt: skip
def test_a_line_for_each_kind_of_route_and_listener(route, urls, line):
    assert call(route, urls=urls).curl() == line


def test_other_methods_and_paths():
    assert call().curl("/v2/x y", "HEAD") == "curl -I 'http://127.0.0.1:8080/a/v2/x y'"
    assert call().curl("/", "PURGE") == "curl -X PURGE http://127.0.0.1:8080/a/"


def test_the_key_is_a_variable():
    top = "access: {tokens: [a-key-of-twenty-characters-or-more], header: X-Key}"
    assert call(top=top).curl() == 'curl -H "X-Key: $KEY" http://127.0.0.1:8080/a/'


def test_a_socket_is_named_beside_the_url():
    assert call(urls=["unix:/run/a"]).shown == "http://localhost/a by unix:/run/a"
    assert call().shown == "http://127.0.0.1:8080/a"


@pytest.mark.parametrize(
    ("names", "allowed", "host"),
    [
        (["localhost"], "[]", "localhost"),
        (["127.0.0.1", "localhost"], "[]", "127.0.0.1"),
        (["*.example", "a.example"], "[a.example]", "a.example"),
        (["a.example"], "[]", "127.0.0.1"),
    ],
)
def test_with_tls_it_is_a_name_that_the_certificate_is_for(tmp_path, names, allowed, host):
    certificate = trustme.CA().issue_cert(*names)
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(certificate.cert_chain_pems[0].bytes())
    key.write_bytes(certificate.private_key_pem.bytes())
    top = f"tls: {{cert_file: '{chain}', key_file: '{key}'}}\nallowed_hosts: {allowed}"
    found = call(top=top, urls=["https://127.0.0.1:8443"])
    assert found.url == f"https://{host}:8443/a"
    assert f"--cacert {chain}" in found.curl()


def test_a_certificate_without_names_is_no_reason_to_fail(tmp_path):
    (tmp_path / "a.pem").write_text("nothing")
    top = f"tls: {{cert_file: '{tmp_path}/a.pem', key_file: '{tmp_path}/a.pem'}}"
    assert call(top=top, urls=["https://127.0.0.1:8443"]).url == "https://127.0.0.1:8443/a"


@pytest.mark.parametrize(
    ("top", "urls"),
    [("", ["http://127.0.0.1:8080"]), of_unix("listen: unix:/run/a", ["unix:/run/a"]),
     ("listen: ['[::1]:1']", ["http://[::1]:1"])],
)  # fmt: skip
def test_the_configuration_tells_the_urls(top, urls):
    assert configured_urls(config(top=top)) == URLs(tuple(urls))


def test_every_address_is_none_to_call():
    assert reachable("http://0.0.0.0:81") == "http://127.0.0.1:81"


@pytest.mark.parametrize(
    ("route", "urls", "own", "line"),
    [
        (
            "path: /a, listen: '127.0.0.1:9'",
            ["http://127.0.0.1:80"],
            "http://127.0.0.1:9",
            "http://127.0.0.1:9/",
        ),
        ("listen: '127.0.0.1:9'", ["http://127.0.0.1:80"], "http://127.0.0.1:9", "http://127.0.0.1:9/"),
        ("host: a.corp, listen: '127.0.0.1:9'", [], "http://127.0.0.1:9", "http://127.0.0.1:9/"),
        ("listen: 'unix:/s'", ["http://127.0.0.1:80"], "unix:/s", "--unix-socket /s http://localhost/"),
        ("path: /a, listen: 'unix:/s'", ["http://127.0.0.1:80"], "unix:/s", "http://127.0.0.1:80/a/"),
    ],
)
def test_a_route_is_called_at_its_own_address_without_a_prefix(route, urls, own, line):
    assert call(route, urls=urls, own={"a": own, "b": "http://127.0.0.1:1"}).curl() == f"curl {line}"


def test_the_configuration_tells_the_urls_of_routes_too():
    assert configured_urls(config("listen: '[::1]:7'")) == URLs((), {"a": "http://[::1]:7"})


@pytest.fixture
def home(tmp_path, monkeypatch):
    calling._local_authority.cache_clear()
    monkeypatch.setattr(local_authority, "state_directory", lambda: tmp_path)
    yield tmp_path
    calling._local_authority.cache_clear()


@pytest.mark.parametrize(
    ("route", "listens", "url"),
    [
        ("path: /a", "127.0.0.1", "https://127.0.0.1:8443/a"),
        ("path: /a", "[::1]", "https://[::1]:8443/a"),
        ("path: /a", "0.0.0.0", "https://127.0.0.1:8443/a"),
        ("path: /a", "192.0.2.1", "https://localhost:8443/a"),
        ("host: x.localhost", "127.0.0.1", "https://x.localhost:8443"),
    ],
)
def test_with_auto_the_line_names_the_authority_and_a_name_that_it_signs_for(home, route, listens, url):
    found = call(route, "tls: auto", [f"https://{listens}:8443"])
    assert found.url == url
    assert f"--cacert {home}/authority/ca.pem" in found.curl()


@needs_unix_sockets
def test_with_auto_a_unix_socket_speaks_tls_as_well(home):
    found = call(top="tls: auto", urls=["unix:/run/a"])
    assert found.curl() == f"curl --unix-socket /run/a --cacert {home}/authority/ca.pem https://localhost/a/"


def test_with_auto_it_does_not_once_curl_trusts_it_by_itself(home, monkeypatch):
    local_authority.LocalAuthority(home / "authority", keyring=lambda: None).get()
    monkeypatch.setattr(system, "is_trusted_by_curl", lambda _root: True)
    assert call(top="tls: auto", urls=["https://127.0.0.1:8443"]).curl() == "curl https://127.0.0.1:8443/a/"


def test_with_auto_and_no_home_there_is_a_line_all_the_same(home, monkeypatch):
    monkeypatch.setattr(local_authority, "state_directory", lambda: None)
    assert call(top="tls: auto", urls=["https://127.0.0.1:1"]).curl() == "curl https://127.0.0.1:1/a/"
