"""What authproxy answers for itself, to the byte."""

import json

import pytest

from authproxy.errors import (
    BadRequest,
    BadTokenReply,
    BodyTooLarge,
    CredentialRejected,
    Forbidden,
    KeyRequired,
    NoRoute,
    ProxyKeyRequired,
    TokenTimeout,
    TokenUnavailable,
)
from authproxy.proxy.problem import problem_response


def answer(error, *, route="up42", close=False, **keys):
    head, _, body = problem_response(error, route=route, close=close, **keys).partition(b"\r\n\r\n")
    status, *lines = head.decode("ascii").split("\r\n")
    return status, dict(line.split(": ", 1) for line in lines), body


def test_a_problem_is_told_as_json():
    error = TokenUnavailable("it is down", hint="mend it", error="server_error", retry_after=7)
    status, headers, body = answer(error)
    assert status == "HTTP/1.1 503 Service Unavailable"
    assert headers == {
        "Content-Type": "application/problem+json",
        "Content-Length": str(len(body)),
        "Proxy-Status": 'authproxy; error=destination_unavailable; details="it is down"',
        "Cache-Control": "no-store",
        "Retry-After": "7",
    }
    assert json.loads(body) == {
        "type": "about:blank",
        "title": "Token endpoint unavailable",
        "status": 503,
        "detail": "it is down",
        "route": "up42",
        "hint": "mend it",
        "error": "server_error",
    }


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CredentialRejected("no"), "invalid_client"),
        (CredentialRejected("no", error="invalid_grant"), "invalid_grant"),
        (BadTokenReply("no"), "server_error"),
        (TokenUnavailable("no"), "temporarily_unavailable"),
        (TokenTimeout("no"), "temporarily_unavailable"),
        (BodyTooLarge("no"), "invalid_request"),
    ],
)
def test_in_answer_to_a_login_it_is_told_in_oauths_words_too(error, code):
    _, headers, body = answer(error, login=True)
    assert headers["Content-Type"] == "application/problem+json"
    told = json.loads(body)
    assert (told["detail"], told["error"], told["error_description"]) == ("no", code, "no")


def test_oauths_words_are_ascii_without_quotes_and_backslashes():
    _, _, body = answer(BadTokenReply('a "b" \\ é §5', hint="do x"), login=True)
    assert json.loads(body)["error_description"] == "a 'b' / ? section 5: do x"


def test_a_section_is_told_in_ascii_in_the_header():
    _, headers, body = answer(BadRequest("not chunked (RFC 9112 §6.1)"))
    assert headers["Proxy-Status"].endswith('details="not chunked (RFC 9112 section 6.1)"')
    assert json.loads(body)["detail"] == "not chunked (RFC 9112 §6.1)"


def test_what_is_not_known_is_left_out():
    _, headers, body = answer(NoRoute("nothing there"), route=None)
    assert set(json.loads(body)) == {"type", "title", "status", "detail"}
    assert "Retry-After" not in headers
    assert "Connection" not in headers


def test_the_answer_to_head_has_the_length_but_no_body():
    _, headers, body = answer(Forbidden("no"), body=False)
    assert int(headers["Content-Length"]) > 50
    assert body == b""


def test_a_connection_that_is_given_up_says_so():
    assert answer(BadRequest("no"), close=True)[1]["Connection"] == "close"


def test_more_lines_can_be_added():
    assert answer(Forbidden("no"), more=b"Vary: Origin\r\n")[1]["Vary"] == "Origin"


@pytest.mark.parametrize(
    ("seconds", "sent"), [(0, "1"), (0.2, "1"), (1, "1"), (1.2, "2"), (2, "2"), (29.5, "30"), (3600, "3600")]
)
def test_retry_after_is_never_too_early(seconds, sent):
    assert answer(TokenUnavailable("no", retry_after=seconds))[1]["Retry-After"] == sent


def test_what_is_unavailable_may_be_asked_for_again_at_once_if_nobody_knows_when():
    assert answer(TokenUnavailable("no"))[1]["Retry-After"] == "1"
    assert "Retry-After" not in answer(NoRoute("no"))[1]


def test_a_missing_key_comes_with_a_challenge():
    status, headers, _ = answer(KeyRequired("no"))
    assert status == "HTTP/1.1 401 Unauthorized"
    assert headers["WWW-Authenticate"].startswith("AuthproxyKey ")


@pytest.mark.parametrize(
    ("detail", "shown"),
    [
        ('say "hi" \\', '"say \\"hi\\" \\\\"'),
        ("a\r\nSet-Cookie: b", '"a Set-Cookie: b"'),
        ("grün\x7f\x9b", '"gr?n"'),
    ],
)
def test_no_detail_breaks_out_of_its_header(detail, shown):
    _, headers, body = answer(Forbidden(detail))
    assert headers["Proxy-Status"] == f"authproxy; error=http_request_denied; details={shown}"
    assert set(headers) == {"Content-Type", "Content-Length", "Proxy-Status", "Cache-Control"}
    assert json.loads(body)["detail"] == detail


def test_at_the_forward_proxy_the_challenge_is_one_that_clients_know():
    status, headers, _ = answer(ProxyKeyRequired("no"))
    assert status == "HTTP/1.1 407 Proxy Authentication Required"
    assert headers["Proxy-Authenticate"] == 'Basic realm="authproxy"'
    assert "WWW-Authenticate" not in headers
