"""What each branch of the error tree becomes for a caller."""

import pytest

from authproxy import errors
from authproxy.errors import AuthproxyError, ConfigError, Fault

TABLE = {
    errors.BadRequest: (400, "http_request_error"),
    errors.KeyRequired: (401, "http_request_denied"),
    errors.ProxyKeyRequired: (407, "http_request_denied"),
    errors.Misdirected: (421, "http_request_error"),
    errors.NoCertificate: (502, "proxy_configuration_error"),
    errors.Forbidden: (403, "http_request_denied"),
    errors.NoRoute: (404, "destination_not_found"),
    errors.MethodNotAllowed: (405, "http_request_error"),
    errors.RequestTimeout: (408, "http_request_error"),
    errors.BodyTooLarge: (413, "http_request_error"),
    errors.HeadersTooLarge: (431, "http_request_error"),
    errors.CredentialRejected: (502, "proxy_configuration_error"),
    errors.TokenLoop: (502, "proxy_loop_detected"),
    errors.BadTokenReply: (502, "http_protocol_error"),
    errors.TokenUnavailable: (503, "destination_unavailable"),
    errors.LoginRequired: (503, "destination_unavailable"),
    errors.TokenTimeout: (504, "connection_timeout"),
    errors.StoreBusy: (503, "destination_unavailable"),
    errors.DNSFailure: (502, "dns_error"),
    errors.Loop: (502, "proxy_loop_detected"),
    errors.ConnectFailure: (502, "connection_refused"),
    errors.TLSFailure: (502, "tls_certificate_error"),
    errors.NoSuchRequest: (404, "http_request_error"),
    errors.NotReplayable: (409, "http_request_error"),
    errors.TooManyTries: (429, "http_request_denied"),
    errors.TooManyStreams: (503, "connection_limit_reached"),
    errors.BadReply: (502, "http_protocol_error"),
    errors.ConnectionLimit: (503, "connection_limit_reached"),
    errors.ConnectTimeout: (504, "connection_timeout"),
    errors.ResponseTimeout: (504, "http_response_timeout"),
}


def leaves(kind=AuthproxyError):
    """Return the errors of the tree that have no branches of their own in `authproxy.errors`."""
    below = [each for each in kind.__subclasses__() if each.__module__ == errors.__name__]
    return [leaf for each in below for leaf in leaves(each)] if below else [kind]


@pytest.mark.parametrize(("kind", "becomes"), TABLE.items(), ids=lambda each: getattr(each, "__name__", ""))
def test_an_error_knows_its_status_and_its_proxy_status(kind, becomes):
    assert (kind.status, kind.proxy_error) == becomes


def test_the_table_is_the_whole_tree():
    assert set(leaves()) == {*TABLE, ConfigError}


def test_only_a_missing_key_is_answered_401():
    assert [kind for kind in leaves() if kind.status == 401] == [errors.KeyRequired]


@pytest.mark.parametrize("kind", TABLE, ids=lambda each: each.__name__)
def test_an_error_says_what_happened_and_what_to_do(kind):
    error = kind("it broke", hint="mend it", error="invalid_grant", retry_after=7)
    assert (str(error), error.detail) == ("it broke", "it broke")
    assert (error.hint, error.error, error.retry_after) == ("mend it", "invalid_grant", 7)


def test_an_error_reads_well_in_a_log():
    assert repr(errors.NoRoute("nothing there")) == "<NoRoute 404 nothing there>"


def test_a_fault_names_its_place_and_its_key():
    assert str(Fault("a.yaml", 3, 7, "routes[0].path", "is odd")) == "a.yaml:3:7: routes[0].path: is odd"
    assert str(Fault("a.yaml", 3, 7, "", "is odd")) == "a.yaml:3:7: is odd"


def test_a_bad_configuration_tells_its_faults_from_the_top_down():
    low, high = Fault("a.yaml", 10, 1, "b", "second"), Fault("a.yaml", 2, 1, "a", "first")
    error = ConfigError([low, high])
    assert error.faults == [high, low]
    assert str(error) == "a.yaml:2:1: a: first\na.yaml:10:1: b: second"
