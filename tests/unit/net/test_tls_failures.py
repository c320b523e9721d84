"""What is wrong with a handshake, whoever says it, and which setting mends it."""

import ssl

import aiohttp
import pytest

from authproxy.net.tls_failures import TLSFault, tls_fault, tls_hint


def verification(code):
    error = ssl.SSLCertVerificationError()
    error.verify_code = code
    return error


def refusal(reason):
    error = ssl.SSLError()
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (verification(20), TLSFault.UNKNOWN_CA),
        (verification(18), TLSFault.UNKNOWN_CA),
        (verification(10), TLSFault.EXPIRED),
        (verification(9), TLSFault.NOT_YET_VALID),
        (verification(62), TLSFault.WRONG_NAME),
        (verification(64), TLSFault.WRONG_NAME),
        (verification(999), TLSFault.CERTIFICATE),
        (refusal("WRONG_VERSION_NUMBER"), TLSFault.NOT_TLS),
        (refusal("TLSV13_ALERT_CERTIFICATE_REQUIRED"), TLSFault.WANTS_CERTIFICATE),
        (refusal("NO_SUCH_REASON"), TLSFault.HANDSHAKE),
        (OSError(), TLSFault.HANDSHAKE),
    ],
)
def test_an_error_is_named(error, fault):
    assert tls_fault(error) is fault


def test_the_cause_counts_and_aiohttps_own_wrapping():
    error = OSError()
    error.__cause__ = verification(10)
    assert tls_fault(error) is TLSFault.EXPIRED
    wrapped = aiohttp.ClientConnectorCertificateError(None, verification(62))
    assert tls_fault(wrapped) is TLSFault.WRONG_NAME


def test_a_circle_of_causes_ends():
    error = OSError()
    error.os_error = error
    assert tls_fault(error) is TLSFault.HANDSHAKE


@pytest.mark.parametrize("fault", TLSFault)
@pytest.mark.parametrize("key", ["upstream", "token_url"])
def test_every_fault_has_a_way_out(fault, key):
    assert tls_hint(fault, key)
    assert "{" not in tls_hint(fault, key)


def test_a_token_endpoints_authority_is_named_in_the_environment():
    assert "SSL_CERT_FILE" in tls_hint(TLSFault.UNKNOWN_CA, "token_url")
    assert "tls.ca_file" in tls_hint(TLSFault.UNKNOWN_CA)
