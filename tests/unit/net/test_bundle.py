"""What a bundle is made of. Nothing in it has to be a certificate that anybody would take."""

import base64
import os
import ssl
import sys
from types import SimpleNamespace

import pytest
import trustme

from authproxy.net import bundle as module
from authproxy.net.bundle import composed, configured_places, configured_roots


def block(text, label="CERTIFICATE"):
    body = base64.encodebytes(text.encode()).decode()
    return f"-----BEGIN {label}-----\n{body}-----END {label}-----\n".encode()


def test_ours_come_first_and_each_certificate_once(tmp_path):
    (tmp_path / "a.pem").write_bytes(b"# a comment\n" + block("one") + block("two") + block("ours"))
    (tmp_path / "b.pem").write_bytes(block("two") + b"\n\nwords\n" + block("three"))
    made = composed(block("ours"), tmp_path / "a.pem", str(tmp_path / "b.pem"))
    assert made == block("ours") + block("one") + block("two") + block("three")


def test_the_same_certificate_in_other_lines_is_the_same(tmp_path):
    text = "a certificate long enough to be broken into lines " * 3
    body = base64.b64encode(text.encode()).decode()
    (tmp_path / "a.pem").write_text(f"-----BEGIN CERTIFICATE-----\r\n{body}\r\n-----END CERTIFICATE-----\r\n")
    assert composed(block(text), tmp_path / "a.pem") == block(text)


def test_a_directory_has_what_its_files_have(tmp_path):
    (tmp_path / "certs" / "deeper").mkdir(parents=True)
    (tmp_path / "certs" / "b.pem").write_bytes(block("b"))
    (tmp_path / "certs" / "a.pem").write_bytes(block("a"))
    (tmp_path / "certs" / "0123abcd.0").symlink_to("a.pem")
    (tmp_path / "certs" / "deeper" / "c.pem").write_bytes(block("c"))
    (tmp_path / "certs" / "dangling").symlink_to("nowhere")
    assert composed(b"", tmp_path / "certs") == block("a") + block("b")


def test_what_is_no_certificate_is_left_out(tmp_path):
    spoiled = b"-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n"
    key = block("a key", "PRIVATE KEY")
    cut = block("cut")[:-20]
    (tmp_path / "a.pem").write_bytes(key + spoiled + block("one") + block("old", "TRUSTED CERTIFICATE") + cut)
    (tmp_path / "binary").write_bytes(os.urandom(1000))
    made = composed(b"", tmp_path / "a.pem", tmp_path / "binary")
    assert made == block("one") + block("old", "TRUSTED CERTIFICATE")


def test_a_place_that_is_not_there_has_none(tmp_path):
    assert composed(block("ours"), tmp_path / "no", "", "/dev/null") == block("ours")


def test_what_waits_for_a_writer_is_not_read(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("there are no such files here")
    os.mkfifo(tmp_path / "pipe")
    assert composed(block("ours"), tmp_path / "pipe", tmp_path) == block("ours")


def test_roots_are_looked_for_where_the_environment_says(tmp_path):
    file, one, other = tmp_path / "file.pem", tmp_path / "one", tmp_path / "other"
    environ = {"SSL_CERT_FILE": str(file), "SSL_CERT_DIR": f"{one}{os.pathsep}{other}"}
    assert configured_places(environ) == [str(file), str(one), str(other)]
    paths = ssl.get_default_verify_paths()
    assert configured_places({}) == [paths.openssl_cafile, paths.openssl_capath]
    file.write_bytes(block("f"))
    one.mkdir()
    (one / "1.pem").write_bytes(block("d"))
    assert configured_roots(environ) == block("f") + block("d")


def test_where_no_file_has_any_the_systems_own_store_is_asked(tmp_path, monkeypatch):
    root = trustme.CA()
    der = ssl.PEM_cert_to_DER_cert(root.cert_pem.bytes().decode())
    context = SimpleNamespace(load_default_certs=lambda: None, get_ca_certs=lambda *, binary_form: [der])
    monkeypatch.setattr(module.ssl, "SSLContext", lambda _: context)
    found = configured_roots({"SSL_CERT_FILE": str(tmp_path / "no"), "SSL_CERT_DIR": str(tmp_path)})
    assert ssl.PEM_cert_to_DER_cert(found.decode()) == der


@pytest.mark.parametrize("installed", [True, False])
def test_where_there_is_no_store_either_certifi_has_some_if_it_is_installed(tmp_path, monkeypatch, installed):
    context = SimpleNamespace(load_default_certs=lambda: None, get_ca_certs=lambda *, binary_form: [])
    monkeypatch.setattr(module.ssl, "SSLContext", lambda _: context)
    (tmp_path / "cacert.pem").write_bytes(block("mozilla"))
    certifi = SimpleNamespace(where=lambda: str(tmp_path / "cacert.pem"))
    monkeypatch.setitem(sys.modules, "certifi", certifi if installed else None)
    found = configured_roots({"SSL_CERT_FILE": str(tmp_path / "no"), "SSL_CERT_DIR": str(tmp_path / "none")})
    assert found == (block("mozilla") if installed else b"")


def test_clients_read_what_it_makes(tmp_path):
    roots = [trustme.CA() for _ in range(3)]
    for number, root in enumerate(roots):
        root.cert_pem.write_to_path(tmp_path / f"{number}.pem")
    bundle = tmp_path / "bundle"
    bundle.write_bytes(composed(roots[0].cert_pem.bytes(), tmp_path / "1.pem", tmp_path / "2.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(bundle)
    assert len(context.get_ca_certs()) == 3
