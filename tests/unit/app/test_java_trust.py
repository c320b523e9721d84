"""What a Java program is told: whom to trust, and which proxy to use."""

import logging
import shlex
from types import SimpleNamespace

import pytest
import trustme
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

from authproxy.app.java_trust import (
    PASSWORD,
    java_variables,
    non_proxy_hosts,
    quoted,
    trust_store,
)
from authproxy.app.runtime_files import RuntimeFiles


def options(text):
    """Return the options as a virtual machine reads them; none of them has a backslash."""
    return dict(each.removeprefix("-D").partition("=")[::2] for each in shlex.split(text))


@pytest.fixture
def authority(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    files = RuntimeFiles()
    files.stage({"bundle.pem": trustme.CA().cert_pem.bytes()})
    files.publish()
    yield SimpleNamespace(files=files, bundle_file=files.path("bundle.pem"))
    files.close()


def told(authority, environ=None, direct=("localhost", "127.0.0.1", "::1")):
    return java_variables("http://127.0.0.1:4711", authority, environ or {}, direct=direct)


def test_java_is_told_of_the_proxy_and_of_a_trust_store(authority):
    found = options(told(authority)["JAVA_TOOL_OPTIONS"])
    store = authority.bundle_file.with_name("roots.p12")
    assert found == {
        "javax.net.ssl.trustStore": str(store),
        "javax.net.ssl.trustStoreType": "PKCS12",
        "javax.net.ssl.trustStorePassword": PASSWORD,
        "https.proxyHost": "127.0.0.1",
        "https.proxyPort": "4711",
        "http.proxyHost": "127.0.0.1",
        "http.proxyPort": "4711",
        "http.nonProxyHosts": "localhost|*.localhost|127.0.0.1|[::1]",
    }
    assert load_pkcs12(store.read_bytes(), PASSWORD.encode()).additional_certs


def test_what_was_there_stays_before_it(authority):
    text = told(authority, {"JAVA_TOOL_OPTIONS": "-Xmx64m -Dhttp.proxyHost=another"})["JAVA_TOOL_OPTIONS"]
    assert text.startswith("-Xmx64m -Dhttp.proxyHost=another ")
    assert options(text)["http.proxyHost"] == "127.0.0.1"  # the last one holds


def test_a_trust_store_that_is_not_used_is_told_of(authority, caplog):
    with caplog.at_level(logging.WARNING, "authproxy"):
        told(authority, {"JAVA_TOOL_OPTIONS": "-Djavax.net.ssl.trustStore=/etc/corp.jks"})
    assert "trust store" in caplog.text


@pytest.mark.parametrize(
    ("entries", "hosts"),
    [
        (["localhost"], ["localhost", "*.localhost"]),
        ([".corp.example", "*.b.example"], ["corp.example", "*.corp.example", "b.example", "*.b.example"]),
        (["10.1.2.3", "10.0.0.0/8"], ["10.1.2.3"]),
        (["::1", "[::1]"], ["[::1]"]),
        (["*", ".", ""], []),
        (["x.example:8443", "fd00::/8", "[::1]:80"], []),
    ],
)
def test_no_proxy_is_said_in_javas_way(entries, hosts):
    assert non_proxy_hosts(entries) == hosts


@pytest.mark.parametrize("text", ["-Da=b", "-Da=b c", "-Da=it's", '-Da="b" c', "-Da=\tb'\"'\""])
def test_an_option_is_read_back_as_it_was(text):
    assert shlex.split(quoted(text)) == [text]
    assert (quoted(text) == text) == (text == "-Da=b")


@pytest.mark.filterwarnings("error")
def test_a_trust_store_has_every_certificate_that_can_be_read():
    one, other = (trustme.CA().cert_pem.bytes() for _ in range(2))
    broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    found = load_pkcs12(trust_store(one + broken + other), PASSWORD.encode()).additional_certs
    assert len(found) == 2
    assert len({each.friendly_name for each in found}) == 2
