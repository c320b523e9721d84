"""How token requests go over HTTP, without a network: bounds, TLS, HTTP proxies."""

import asyncio
import os
import ssl

import pytest
import trustme
from pydantic import SecretStr

from authproxy.errors import BadTokenReply, TokenUnavailable
from authproxy.grants.http import proxy_to, tls_context
from authproxy.grants.reply import read_up_to
from authproxy.grants.steps import Ask, ClientCertificate
from authproxy.grants.transport import USUAL
from authproxy.net.own_listeners import OwnListeners
from authproxy.net.tls_settings import TLSSettings

ASK = Ask("POST", "https://joe:s3cr3t@id.example/token?key=s3cr3t")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for name in os.environ:
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


# ── how much is read ─────────────────────────────────────────────────────────────────────────────


def stream(*pieces):
    reader = asyncio.StreamReader()
    for piece in pieces:
        reader.feed_data(piece)
    reader.feed_eof()
    return reader


async def test_an_answer_is_read_to_its_end():
    assert await read_up_to(stream(b"ab", b"c"), 3, "there") == b"abc"
    assert await read_up_to(stream(), 3, "there") == b""


async def test_an_answer_that_is_too_long_is_not_read_to_its_end():
    endless = stream(b"x" * (5 << 20))
    with pytest.raises(BadTokenReply, match="there sent more than 1 MiB") as caught:
        await read_up_to(endless, 1 << 20, "there")
    assert "is this where tokens are handed out?" in caught.value.hint
    assert not endless.at_eof()


# ── certificates ─────────────────────────────────────────────────────────────────────────────────


async def test_a_client_certificate_is_read_anew_each_time(tmp_path):
    authority = trustme.CA()
    first, second = authority.issue_cert("a.example"), authority.issue_cert("b.example")
    path = tmp_path / "client.pem"
    first.private_key_and_cert_chain_pem.write_to_path(path)
    context = await tls_context(USUAL, ClientCertificate(str(path)))
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    path.write_text("replaced by something else")
    with pytest.raises(TokenUnavailable):
        await tls_context(USUAL, ClientCertificate(str(path)))
    (tmp_path / "key.pem").write_bytes(second.private_key_pem.bytes())
    path.write_bytes(second.cert_chain_pems[0].bytes())
    await tls_context(USUAL, ClientCertificate(str(path), str(tmp_path / "key.pem")))


async def test_a_key_of_another_certificate_is_refused(tmp_path):
    authority = trustme.CA()
    authority.issue_cert("a.example").cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    authority.issue_cert("b.example").private_key_pem.write_to_path(tmp_path / "key.pem")
    with pytest.raises(TokenUnavailable, match=r"cert\.pem cannot be used") as caught:
        await tls_context(USUAL, ClientCertificate(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")))
    assert "belong together" in caught.value.hint


async def test_without_settings_every_server_is_spoken_to_alike():
    assert await tls_context(USUAL, None) is None


async def test_the_settings_say_whom_to_trust_and_what_to_show(tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    own = authority.issue_cert("a.example")
    own.private_key_and_cert_chain_pem.write_to_path(tmp_path / "own.pem")
    ca_file, cert_file = str(tmp_path / "ca.pem"), str(tmp_path / "own.pem")
    context = await tls_context(TLSSettings(ca_file=ca_file, cert_file=cert_file), None)
    assert len(context.get_ca_certs()) == 1
    assert context.verify_mode == ssl.CERT_REQUIRED
    shown = ClientCertificate(cert_file)
    assert (await tls_context(TLSSettings(verify=False), shown)).verify_mode == ssl.CERT_NONE
    with pytest.raises(TokenUnavailable, match=r"certificates in .*ca\.pem and .*nowhere\.pem cannot"):
        await tls_context(TLSSettings(ca_file=ca_file, cert_file=str(tmp_path / "nowhere.pem")), None)


# ── HTTP proxies ─────────────────────────────────────────────────────────────────────────────────


def test_the_routes_proxy_goes_before_the_environments(monkeypatch):
    assert proxy_to(ASK, None, OwnListeners()) is None
    monkeypatch.setenv("https_proxy", "http://environment.example:3128")
    assert str(proxy_to(ASK, None, OwnListeners())) == "http://environment.example:3128"
    routes = SecretStr("http://route.example:3128")
    assert str(proxy_to(ASK, routes, OwnListeners())) == "http://route.example:3128"


def test_a_proxy_that_cannot_be_used_is_an_outage_without_anybodys_password(monkeypatch):
    monkeypatch.setenv("https_proxy", "socks5://me:s3cr3t@proxy.example:1080")
    with pytest.raises(TokenUnavailable, match=r"no way to https://id\.example/token: ") as caught:
        proxy_to(ASK, None, OwnListeners())
    assert "s3cr3t" not in f"{caught.value} {caught.value.hint} {caught.value.__cause__}"
    assert caught.value.hint
