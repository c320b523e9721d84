"""One name for what went wrong, whichever library says it."""

import errno
import socket
import ssl

import aiohttp
import pytest

from authproxy.net import failures
from authproxy.net.failures import (
    NO_TLS,
    UPSTREAM,
    Failure,
    failure_of,
    out_of_descriptors,
    tls_hint,
    tls_reason,
)

KEY = aiohttp.client_reqrep.ConnectionKey("id.example", 443, True, True, None, None, None)  # noqa: FBT003


def verification(code):
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = code, "OpenSSL's words."
    return error


def reason(name):
    error = ssl.SSLError()
    error.reason = name
    return error


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (socket.gaierror(socket.EAI_NONAME, "no such name"), Failure.DNS),
        (aiohttp.ClientConnectorDNSError(KEY, OSError()), Failure.DNS),
        (aiohttp.ClientConnectorError(KEY, OSError(errno.ECONNREFUSED, "no")), Failure.CONNECT),
        (OSError(errno.EMFILE, "no"), Failure.DESCRIPTORS),
        (OSError(errno.ENFILE, "no"), Failure.DESCRIPTORS),
        (aiohttp.ClientConnectorError(KEY, OSError(errno.EMFILE, "no")), Failure.DESCRIPTORS),
        (ssl.SSLCertVerificationError(), Failure.CERTIFICATE),
        (aiohttp.ClientConnectorCertificateError(KEY, ssl.CertificateError()), Failure.CERTIFICATE),
        (verification(18), Failure.AUTHORITY),
        (verification(20), Failure.AUTHORITY),
        (verification(10), Failure.EXPIRED),
        (verification(9), Failure.NOT_YET_VALID),
        (verification(62), Failure.OTHER_NAME),
        (verification(64), Failure.OTHER_NAME),
        (verification(3), Failure.CERTIFICATE),
        (aiohttp.ClientConnectorCertificateError(KEY, verification(10)), Failure.EXPIRED),
        (reason("WRONG_VERSION_NUMBER"), Failure.PLAIN_HTTP),
        (reason("TLSV13_ALERT_CERTIFICATE_REQUIRED"), Failure.WANTS_CERTIFICATE),
        (reason("HTTP_REQUEST"), Failure.PLAIN_HTTP),
        (aiohttp.ClientConnectorSSLError(KEY, reason("WRONG_VERSION_NUMBER")), Failure.PLAIN_HTTP),
        (reason("UNSUPPORTED_PROTOCOL"), Failure.HANDSHAKE),
        (ssl.SSLError(), Failure.HANDSHAKE),
        (aiohttp.ClientConnectorSSLError(KEY, OSError()), Failure.HANDSHAKE),
        (TimeoutError(), Failure.TIMEOUT),
        (OSError(errno.ETIMEDOUT, "no"), Failure.TIMEOUT),
        (aiohttp.ServerTimeoutError(), Failure.TIMEOUT),
        (aiohttp.ClientProxyConnectionError(KEY, OSError()), Failure.PROXY),
        (aiohttp.ServerDisconnectedError(), Failure.CLOSED),
        (aiohttp.ClientPayloadError(), Failure.CUT_SHORT),
        (aiohttp.InvalidURL("x"), Failure.URL),
    ],
)
def test_each_librarys_error_has_the_same_name(error, failure):
    assert failure_of(error, otherwise=Failure.NOT_HTTP) is failure


@pytest.mark.parametrize("otherwise", [Failure.DNS, Failure.CONNECT, Failure.HANDSHAKE, Failure.NOT_HTTP])
@pytest.mark.parametrize("error", [OSError(), OSError(errno.ECONNRESET, "no"), ValueError()])
def test_what_may_come_of_any_step_is_that_steps_failure(error, otherwise):
    assert failure_of(error, otherwise=otherwise) is otherwise


def test_a_look_up_that_fails_for_want_of_a_socket_is_no_failure_of_the_dns(monkeypatch):
    monkeypatch.setattr(failures, "out_of_descriptors", lambda: True)
    assert failure_of(socket.gaierror(), otherwise=Failure.NOT_HTTP) is Failure.DESCRIPTORS
    assert failure_of(OSError(), otherwise=Failure.DNS) is Failure.DESCRIPTORS
    assert failure_of(ConnectionResetError(), otherwise=Failure.CONNECT) is Failure.CONNECT


@pytest.mark.parametrize(
    ("number", "out"), [(errno.EMFILE, True), (errno.ENFILE, True), (errno.EACCES, False)]
)
def test_whether_another_file_can_be_opened_is_found_by_opening_one(monkeypatch, number, out):
    assert not out_of_descriptors()

    def fail(*_args):
        raise OSError(number, "no")

    monkeypatch.setattr(failures.os, "open", fail)
    assert out_of_descriptors() is out


def test_what_is_wrong_with_tls_is_told_once():
    assert tls_reason(Failure.EXPIRED, verification(10)) == "its certificate has expired"
    assert tls_reason(Failure.OTHER_NAME, verification(62)).endswith("another host (OpenSSL's words)")
    assert tls_reason(Failure.HANDSHAKE, ssl.SSLError("s3cr3t")) == "handshake failed"


def test_each_way_in_which_tls_fails_comes_with_what_to_do():
    for failure in NO_TLS:
        for setting in (UPSTREAM, "token_url"):
            assert "{" not in tls_hint(failure, setting)
    assert "`tls.ca_file`" in tls_hint(Failure.AUTHORITY)
    assert "auth.tls.ca_file" in tls_hint(Failure.AUTHORITY, "token_url")
    assert "`tls.cert_file`" in tls_hint(Failure.WANTS_CERTIFICATE)
    assert "tls_client_auth" in tls_hint(Failure.WANTS_CERTIFICATE, "url")
