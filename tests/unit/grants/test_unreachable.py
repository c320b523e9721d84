"""What a token endpoint that was not reached is called, and what there is to do."""

import errno
import ssl

import aiohttp
import pytest
from pydantic import SecretStr

from authproxy.errors import TokenTimeout, TokenUnavailable
from authproxy.grants.client import SpeaksTLS, TooLong
from authproxy.grants.steps import Ask
from authproxy.grants.unreachable import no_way, translated
from authproxy.net.http_proxy import proxy_for

ASK = Ask("POST", "https://joe:s3cr3t@id.example/token?key=s3cr3t")
PLAIN = Ask("POST", "http://id.example/token", setting="url")
CONNECTION = aiohttp.client_reqrep.ConnectionKey("id.example", 443, True, True, None, None, None)  # noqa: FBT003


def certificate_error(code, message):
    inner = ssl.SSLCertVerificationError("s3cr3t")
    inner.verify_code, inner.verify_message = code, message
    return aiohttp.ClientConnectorCertificateError(CONNECTION, inner)


@pytest.mark.parametrize(
    ("error", "says", "hint"),
    [
        (
            aiohttp.ClientConnectorDNSError(CONNECTION, OSError()),
            "does not resolve",
            "the host in `token_url`",
        ),
        (
            certificate_error(20, "unable to get local issuer certificate"),
            "an authority that is not trusted here (unable to get local issuer certificate)",
            "in `auth.tls.ca_file`",
        ),
        (certificate_error(10, "certificate has expired"), "its certificate has expired", "renew it"),
        (certificate_error(9, "x"), "its certificate is not valid yet", "clock"),
        (certificate_error(62, "not valid for 'id'."), "another host (not valid for 'id')", "in `token_url`"),
        (certificate_error(1, "unspecified"), "not acceptable (unspecified)", "`auth.tls.ca_file`"),
        (
            aiohttp.ClientConnectorCertificateError(CONNECTION, ssl.CertificateError()),
            "its certificate is not acceptable",
            "`auth.tls.ca_file`",
        ),
        (aiohttp.ClientConnectorSSLError(CONNECTION, OSError("s3cr3t")), "handshake failed", "is it https"),
        (
            aiohttp.ClientConnectorError(CONNECTION, OSError(errno.ECONNREFUSED, "s3cr3t")),
            "cannot connect to https://id.example/token: Connection refused",
            "whether the server is up",
        ),
        (
            aiohttp.ClientConnectorError(CONNECTION, OSError("s3cr3t")),
            "none of its addresses can be reached",
            "host and port in `token_url`",
        ),
        (aiohttp.InvalidURL("s3cr3t"), "is not a URL", "check `token_url`"),
        (
            aiohttp.ServerDisconnectedError("s3cr3t"),
            "closed the connection without an answer",
            "is it http:// there?",
        ),
        (ConnectionResetError(errno.ECONNRESET, "s3cr3t"), "closed the connection", "is it http:// there?"),
        (aiohttp.ClientPayloadError("s3cr3t"), "broke off its answer", "tries again"),
        (TooLong("s3cr3t"), "sent more than the answer of a token endpoint can be", "check `token_url`"),
        (SpeaksTLS("s3cr3t"), "did not answer in HTTP, but in TLS", "write https:// in `token_url`"),
        (ValueError("s3cr3t"), "did not answer in HTTP", "check `token_url`"),
        (OSError("s3cr3t"), "did not answer in HTTP", "check `token_url`"),
    ],
)
def test_a_foreign_error_is_told_in_our_own_words_with_what_to_do(error, says, hint):
    told = translated(error, ASK)
    assert isinstance(told, TokenUnavailable)
    assert says in told.detail
    assert hint in told.hint
    assert "s3cr3t" not in f"{told.detail} {told.hint} {told.title}"


def test_plain_http_where_tls_was_expected_is_told_as_such():
    inner = ssl.SSLError(1, "s3cr3t")
    inner.reason = "WRONG_VERSION_NUMBER"
    told = translated(aiohttp.ClientConnectorSSLError(CONNECTION, inner), ASK)
    assert told.detail == "no TLS with https://id.example/token: it speaks plain http there"
    assert told.hint == "write http:// in `token_url`, or correct its port"
    assert told.title == "Token endpoint speaks plain http"


@pytest.mark.parametrize("number", [None, errno.ECONNRESET])
def test_who_hangs_up_on_the_first_words_of_tls_did_take_the_connection(number):
    reset = ConnectionResetError(number, "s3cr3t") if number else ConnectionResetError()
    error = aiohttp.ClientConnectorError(CONNECTION, reset)
    told = translated(error, ASK)
    assert told.detail == "no TLS with https://id.example/token: handshake failed"
    assert told.hint == "check `token_url`: is it https at that port?"
    assert "cannot connect" in translated(error, PLAIN).detail


def test_a_certificate_is_asked_for_after_the_handshake_too():
    """As TLS 1.3 has it: the request has gone by then, and aiohttp has OpenSSL's error as the cause alone."""
    alert = ssl.SSLError(1, "s3cr3t")
    alert.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    error = aiohttp.ClientOSError(1, "s3cr3t")
    error.__cause__ = alert
    told = translated(error, ASK)
    assert "it wants a client certificate" in told.detail
    assert "`auth.tls.cert_file`" in told.hint


def test_the_setting_that_the_url_comes_from_is_named():
    told = translated(aiohttp.ServerDisconnectedError(), PLAIN)
    assert told.hint == "check `url`: is it https:// there?"


def test_who_is_refused_on_loopback_may_be_in_a_container():
    error = aiohttp.ClientConnectorError(CONNECTION, OSError(errno.ECONNREFUSED, "no"))
    assert "container" in translated(error, Ask("POST", "http://127.0.0.1:1/token")).hint
    assert "container" not in translated(error, ASK).hint


def test_no_descriptor_left_is_our_own_limit_and_not_the_token_endpoints_fault():
    error = aiohttp.ClientConnectorError(CONNECTION, OSError(errno.EMFILE, "s3cr3t"))
    told = translated(error, ASK)
    assert told.detail == "authproxy has too many files and connections open to ask https://id.example/token"
    assert "ulimit -n" in told.hint


def test_which_wait_was_too_long_is_told():
    connecting, answering = translated(aiohttp.ConnectionTimeoutError(), ASK), translated(TimeoutError(), ASK)
    assert isinstance(connecting, TokenTimeout)
    assert isinstance(answering, TokenTimeout)
    assert "did not take the connection within 10 s" in connecting.detail
    assert "is it http:// there?" in connecting.hint
    assert "did not answer in time" in answering.detail
    assert "tries again" in answering.hint


def test_a_proxy_that_leads_nowhere_is_named_without_its_password():
    proxy = proxy_for(ASK.url, SecretStr("http://me:s3cr3t@proxy.example:3128"))
    named = "the HTTP proxy http://proxy.example:3128 does not lead to https://id.example/token"
    assert no_way(proxy, ASK.place).detail == named
    told = translated(aiohttp.ClientProxyConnectionError(CONNECTION, OSError("s3cr3t")), ASK, proxy)
    assert told.detail == named
