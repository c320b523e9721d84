"""What becomes of a refresh token: refused in whatever words, kept in an outage, never asked for too much."""

import pytest

from tests.support.command import wait_until
from tests.support.wire import Message, Wire, json_reply, reply

from .conftest import Place

REFUSALS = {
    "invalid_grant": json_reply({"error": "invalid_grant"}, 400),
    "invalid_request": json_reply({"error": "invalid_request"}, 400),
    "401 invalid_token": json_reply({"error": "invalid_token"}, 401),
    "200 with an error": json_reply({"error": {"code": 190, "message": "expired"}}),
    "200 without a token": json_reply({"ok": False}),
    "404": reply(404, "Content-Type: text/plain", body=b"no such session"),
    "403 in JSON that is said to be HTML": reply(403, "Content-Type: text/html", body=b'{"code": 7}'),
    "no words at all": reply(400),
}
HTML = b"<!DOCTYPE html><title>Welcome to the hotel</title>"
IN_BETWEEN = {
    "a portal's page": reply(200, "Content-Type: text/html", body=HTML),
    "a firewall's page": reply(403, "Content-Type: text/html; charset=utf-8", body=HTML),
    "an outage": reply(503),
    "too many requests": reply(429),
    "nothing": None,
}


def with_refresh_token(place: Place) -> None:
    """Have the route hold a token that came with a refresh token, and the API refuse the token."""
    place.tokens.more = {"expires_in": 3600, "refresh_token": "refresh-one"}
    place.tokens.revoke()  # what an earlier test may have left
    assert place.get().status == 200
    place.tokens.revoke()
    place.tokens.requests.clear()


def refuse_refresh(place: Place, with_what: bytes | None, own_way: bytes | None = None) -> None:
    """Answer `with_what` to a refresh token, and to anything else `own_way`, or a token."""
    issue = place.tokens.first_answer

    def answer(request: Message, wire: Wire) -> bytes | None:
        if request.form["grant_type"] == "refresh_token":
            return with_what
        return own_way or issue(request, wire)

    place.tokens.answer = answer


def asked(place: Place) -> list[str]:
    return [sent.form["grant_type"] for sent in place.tokens.requests]


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_a_refresh_token_that_is_refused_in_any_words_gives_way_at_once(place: Place, refusal: bytes) -> None:
    with_refresh_token(place)
    refuse_refresh(place, refusal)
    assert place.get().status == 200
    assert asked(place) == ["refresh_token", "client_credentials"]


@pytest.mark.parametrize("in_between", IN_BETWEEN.values(), ids=IN_BETWEEN)
def test_a_refresh_token_outlives_an_answer_that_is_not_the_servers_own(
    place: Place, in_between: bytes | None
) -> None:
    with_refresh_token(place)
    refuse_refresh(place, in_between)
    assert place.get().status == 401, "the upstream's own"
    assert asked(place) == ["refresh_token"]
    place.tokens.answer = place.tokens.first_answer
    wait_for_the_next_try(place)
    assert asked(place) == ["refresh_token", "refresh_token"]


def test_a_refused_refresh_token_is_not_sent_again_while_the_grant_itself_fails(place: Place) -> None:
    with_refresh_token(place)
    refuse_refresh(place, json_reply({}, 401), own_way=reply(503))
    assert place.get().status == 401
    assert asked(place) == ["refresh_token", "client_credentials"]
    place.tokens.answer = place.tokens.first_answer
    wait_for_the_next_try(place)
    assert asked(place) == ["refresh_token", "client_credentials", "client_credentials"]


def wait_for_the_next_try(place: Place) -> None:
    """Ask until the backoff is over; its first step is about a second."""
    wait_until(lambda: place.get().status == 200)


@pytest.mark.route(
    auth={
        "grant": "client_credentials",
        "token_url": "{tokens}/token",
        "client_id": "a",
        "scope": "read write",
    }
)
def test_a_refresh_asks_for_the_scope_that_was_granted(place: Place) -> None:
    place.api.answer = place.api.judge
    place.tokens.more = {"expires_in": 3600, "refresh_token": "refresh-one", "scope": "read"}
    assert place.get().status == 200
    place.tokens.revoke()

    def strict(request: Message, wire: Wire) -> bytes | None:
        granted = {"read", ""} if request.form["grant_type"] == "refresh_token" else {"read write"}
        if request.form.get("scope", "") not in granted:
            return json_reply({"error": "invalid_scope"}, 400)
        return place.tokens.first_answer(request, wire)

    place.tokens.answer = strict
    assert place.get().status == 200
    assert asked(place) == ["client_credentials", "refresh_token"]
