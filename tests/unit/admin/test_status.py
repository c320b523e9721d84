"""The state of a route's token, in words; and whether the whole is ready."""

import pytest

from authproxy.admin.status import STATES, RouteStatus, Trouble, readiness, route_status
from authproxy.errors import BadTokenReply, CredentialRejected, LoginRequired, TokenUnavailable
from authproxy.observe.standing import Refusal
from authproxy.tokens.cache import Trouble as Failed

NO = Refusal(401, "401 a token", "a token renewed 2 s ago, repeated once", "mend it", 70.0, lasts=True)


class Source:
    """A token that came at 20, was to end at 100, and whose renewals fail since 40."""

    kept_at = 20.0
    since = 10.0
    renewed_at = 19.0
    expires_at = 100.0
    ended_at = None

    def __init__(self, *, usable=False, failure=None, renewing=False):
        self.usable = usable
        self.renewing = renewing
        self.trouble = Failed(failure, 50.0, 40.0, 80.0) if failure is not None else None


def held_back(cause):
    error = TokenUnavailable(cause.detail)
    error.rejects = cause.rejects
    return error


def in_good_order(failure):
    failure.rejects = True
    return failure


@pytest.mark.parametrize(
    ("source", "state", "since", "ready"),
    [
        (None, "no_token_needed", 5.0, True),
        (Source(), "idle", 10.0, True),
        (Source(usable=True), "valid", 20.0, True),
        (
            Source(usable=True, failure=TokenUnavailable("down")),
            "valid",
            20.0,
            True,
        ),  # the old one still serves
        (Source(renewing=True), "renewing", 10.0, True),
        (Source(usable=True, renewing=True), "renewing", 10.0, True),
        (Source(failure=TokenUnavailable("down")), "failing", 40.0, False),
        (Source(failure=TokenUnavailable("down"), renewing=True), "failing", 40.0, False),
        (Source(failure=BadTokenReply("hm")), "failing", 40.0, False),
        (Source(failure=held_back(TokenUnavailable("down"))), "failing", 40.0, False),
        (Source(failure=CredentialRejected("no")), "rejected", 40.0, False),
        (Source(failure=held_back(CredentialRejected("no"))), "rejected", 40.0, False),
        (Source(failure=in_good_order(BadTokenReply("no token in it"))), "rejected", 40.0, False),
        (Source(failure=LoginRequired("nobody")), "login_required", 40.0, False),
    ],
)
def test_a_route_is_in_one_state(source, state, since, ready):
    status = route_status("up42", source, started_at=5.0)
    assert (status.route, status.state, status.since, status.ready) == ("up42", state, since, ready)
    assert state in STATES


@pytest.mark.parametrize("source", [Source(usable=True), Source(), Source(usable=True, renewing=True)])
def test_a_route_whose_upstream_refuses_even_a_new_token_is_refused_but_ready(source):
    status = route_status("up42", source, NO)
    assert (status.state, status.since, status.ready) == ("refused", 70.0, True)
    assert status.trouble == Trouble(
        "the upstream answered 401 to a token renewed 2 s ago, repeated once", "mend it", None, 70.0
    )


def test_without_any_token_the_endpoint_counts_and_not_what_the_upstream_said_before():
    assert route_status("up42", Source(failure=CredentialRejected("no")), NO).state == "rejected"


def test_a_failure_is_one_since_the_token_has_ended():
    source = Source(failure=TokenUnavailable("down"))
    source.ended_at = 95.0
    assert route_status("up42", source).since == 95.0


@pytest.mark.parametrize("usable", [True, False])
def test_a_trouble_comes_with_its_cause_its_remedy_and_its_times(usable):
    source = Source(usable=usable, failure=CredentialRejected("no", hint="mend it", error="invalid_client"))
    status = route_status("up42", source)
    assert status.trouble == Trouble("no", "mend it", "invalid_client", 50.0)
    assert status.next_try_at == 80.0


def test_a_status_is_told_in_utc():
    source = Source(usable=True, failure=CredentialRejected("no"))
    assert route_status("up42", source).document() == {
        "state": "valid",
        "since": "1970-01-01T00:00:20.000Z",
        "expires_at": "1970-01-01T00:01:40.000Z",
        "renewed_at": "1970-01-01T00:00:19.000Z",
        "next_try_at": "1970-01-01T00:01:20.000Z",
        "trouble": {"detail": "no", "hint": None, "error": None, "at": "1970-01-01T00:00:50.000Z"},
    }


def test_all_is_ready_when_every_route_is():
    assert readiness([]) == (200, {"ready": True})
    assert readiness([RouteStatus("a", "valid"), RouteStatus("b", "idle")]) == (200, {"ready": True})


def test_one_route_in_trouble_makes_the_whole_unready_and_is_named():
    routes = [RouteStatus("a", "valid"), RouteStatus("b", "rejected", Trouble("no", "mend it"))]
    assert readiness(routes) == (
        503,
        {"ready": False, "routes": {"b": {"state": "rejected", "cause": "no", "hint": "mend it"}}},
    )


def test_a_refused_route_is_warned_of_and_no_more():
    routes = [RouteStatus("a", "refused", Trouble("no", "mend it"))]
    warning = {"a": {"state": "refused", "cause": "no", "hint": "mend it"}}
    assert readiness(routes) == (200, {"ready": True, "warnings": warning})
    assert readiness(routes, reasons=False) == (200, {"ready": True, "warnings": {"a": {"state": "refused"}}})
    assert readiness([*routes, RouteStatus("b", "failing")])[0] == 503
