"""What a token endpoint may ask for, and answer: more than most, but not without end."""

import contextlib
import json
import time
from itertools import repeat
from urllib.parse import parse_qs

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from tests.support.command import running_proxy
from tests.support.wire import Message, Upstream, Wire, get, json_reply, reply

from .conftest import Place

MIB = 1 << 20
KEY = ECKey.generate_key("P-256")
BEHIND = 3  # seconds by which the clock of the strict server is


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Security-Policy: " + "a" * 9_000],
        [f"X-{number}: a" for number in range(500)],
        ["Set-Cookie: " + "a" * 8_000] * 30,
    ],
    ids=["a line of 9,000 bytes", "500 lines", "240 KiB in all"],
)
def test_a_long_head_is_read_as_an_upstreams_is(place: Place, lines: list[str]) -> None:
    place.tokens.revoke()
    place.tokens.says(json_reply({"access_token": place.tokens.issued.one_more()}, 200, *lines))
    assert place.get().status == 200


def test_interim_replies_are_no_answer(place: Place) -> None:
    interim = b"HTTP/1.1 102 Processing\r\n\r\n" * 3 + b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    place.tokens.says(interim + json_reply({"access_token": place.tokens.issued.one_more()}))
    assert place.get().status == 200


def of_its_own(name: str, **keys: str) -> pytest.MarkDecorator:
    """Give a case a credential of its own: what became of another one's would be remembered."""
    auth = {"grant": "client_credentials", "client_id": name, **(keys or {"token_url": "{tokens}/token"})}
    return pytest.mark.route(auth=auth)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(text, id=name, marks=of_its_own(name, issuer="{tokens}"))
        for name, text in {
            "a page": "<html>Not here</html>",
            "another document": '{"message": "no such page"}',
            "garbage": "[1",
        }.items()
    ],
)
def test_an_issuer_that_shows_a_page_at_one_well_known_place_is_found_by_the_other(
    place: Place, other: str
) -> None:
    def answer(request: Message, wire: Wire) -> bytes | None:
        if request.target == "/.well-known/openid-configuration":
            return reply(200, "Content-Type: text/html", body=other.encode())
        if request.target == "/.well-known/oauth-authorization-server":
            issuer = place.tokens.url
            return json_reply({"issuer": issuer, "token_endpoint": f"{issuer}/token"})
        return place.tokens.first_answer(request, wire)

    place.tokens.answer = answer
    assert place.get().status == 200
    assert place.tokens.last.target == "/token"


ENDLESS = {
    "interim replies": (b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 2_000),
    "answers": (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" * 2_000),
    "header lines": (b"HTTP/1.1 200 OK\r\n", b"a: b\r\n" * 8_000),
    "a header": (b"HTTP/1.1 200 OK\r\nA: ", b"a" * 60_000),
    "chunk extensions": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"a=b;" * 15_000),
    "trailer lines": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n",
        b"a: b\r\n" * 8_000,
    ),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n" * 10_000),
}


@pytest.mark.parametrize(
    ("beginning", "piece"),
    [pytest.param(*ENDLESS[name], id=name, marks=of_its_own(name)) for name in ENDLESS],
)
def test_an_answer_without_an_end_is_broken_off(place: Place, beginning: bytes, piece: bytes) -> None:
    taken = 0

    def endless(_request: Message, wire: Wire) -> None:
        nonlocal taken
        with contextlib.suppress(OSError):
            wire.send(beginning)
            for each in repeat(piece):
                wire.send(each)
                taken += len(each)

    place.tokens.answer = endless
    assert place.get().status in {502, 503}
    assert len(place.tokens.requests) == 1
    assert taken < 32 * MIB, "with all that is under way"


@pytest.mark.route(
    auth={
        "grant": "jwt_bearer",
        "token_url": "{tokens}/token",
        "issuer_claim": "robot",
        "key": json.dumps(KEY.as_dict(private=True)),
        "assertion_lifetime": "1m",
        "audience": ["https://one.example", "https://two.example"],
        "claims": {"jti": None, "sub": None},
    }
)
def test_an_assertion_suits_a_strict_server_whose_clock_is_behind(place: Place) -> None:
    def strict(request: Message, wire: Wire) -> bytes | None:
        claims = jwt.decode(request.form["assertion"], KEY).claims
        now = time.time() - BEHIND
        if claims["iat"] > now or not now < claims["exp"] <= claims["iat"] + 60 or "jti" in claims:
            return json_reply({"error": "invalid_grant"}, 400)
        return place.tokens.first_answer(request, wire)

    place.tokens.answer = strict
    assert place.get().status == 200
    sent = parse_qs(place.tokens.last.body.decode())
    assert sent["audience"] == ["https://one.example", "https://two.example"]
    assert "sub" not in jwt.decode(sent["assertion"][0], KEY).claims


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
def test_a_login_that_is_not_answered_is_not_sent_again(method: str) -> None:
    with Upstream(lambda _request, _wire: None) as tokens:  # reads the request, and closes
        totp = {"header": "totp-auth", "secret": "JBSWY3DPEHPK3PXP"}
        auth = {"grant": "token_request", "method": method, "url": f"{tokens.url}/login", "totp": totp}
        config = {"routes": [{"name": "api", "upstream": "http://127.0.0.1:1", "auth": auth}]}
        with running_proxy(config) as proxy:
            assert get(proxy.url).status == 503
        assert len(tokens.requests) == 1


def test_a_signed_assertion_that_the_server_repeats_is_masked() -> None:
    def say_it_again(came: Message, _wire: Wire) -> bytes:
        said = f"what is {came.form['client_assertion']}?"
        return json_reply({"error": "invalid_client", "error_description": said}, 400)

    with Upstream(say_it_again) as tokens:
        auth = {"grant": "client_credentials", "token_url": f"{tokens.url}/token", "audience_claim": "x"}
        auth |= {"client_id": "a", "client_secret": "0123456789" * 4, "client_auth": "client_secret_jwt"}
        config = {"routes": [{"name": "api", "upstream": "http://127.0.0.1:1", "auth": auth}]}
        with running_proxy(config) as proxy:
            detail = get(proxy.url).json["detail"]
            assert detail.endswith("what is ••••?")
            assertion = tokens.requests[0].form["client_assertion"]
            assert assertion.rpartition(".")[2] not in proxy.log()
