"""The state of a route's token, in words; and whether the whole is ready."""

import pytest

from authproxy.admin.status import RouteStatus, readiness, route_status
from authproxy.errors import BadTokenReply, CredentialRejected, TokenUnavailable


class Source:
    def __init__(self, *, usable=False, failure=None):
        self.usable = usable
        self.failure = failure


def held_back(cause):
    error = TokenUnavailable(cause.detail)
    error.rejects = cause.rejects
    return error


def in_good_order(failure):
    failure.rejects = True
    return failure


@pytest.mark.parametrize(
    ("source", "state", "ready"),
    [
        (None, "no_token_needed", True),
        (Source(), "idle", True),
        (Source(usable=True), "valid", True),
        (Source(usable=True, failure=TokenUnavailable("down")), "valid", True),  # the old one still serves
        (Source(failure=TokenUnavailable("down")), "failing", False),
        (Source(failure=BadTokenReply("hm")), "failing", False),
        (Source(failure=held_back(TokenUnavailable("down"))), "failing", False),
        (Source(failure=CredentialRejected("no")), "rejected", False),
        (Source(failure=held_back(CredentialRejected("no"))), "rejected", False),
        (Source(failure=in_good_order(BadTokenReply("no token in it"))), "rejected", False),
    ],
)
def test_a_route_is_in_one_state(source, state, ready):
    status = route_status("up42", source)
    assert (status.route, status.state, status.ready) == ("up42", state, ready)


def test_a_trouble_comes_with_its_cause_and_its_remedy():
    status = route_status("up42", Source(failure=CredentialRejected("no", hint="mend it")))
    assert (status.cause, status.hint) == ("no", "mend it")


def test_all_is_ready_when_every_route_is():
    assert readiness([]) == (200, {"ready": True})
    assert readiness([RouteStatus("a", "valid"), RouteStatus("b", "idle")]) == (200, {"ready": True})


def test_one_route_in_trouble_makes_the_whole_unready_and_is_named():
    routes = [RouteStatus("a", "valid"), RouteStatus("b", "rejected", "no", "mend it")]
    assert readiness(routes) == (
        503,
        {"ready": False, "routes": {"b": {"state": "rejected", "cause": "no", "hint": "mend it"}}},
    )
