"""Many requests at one moment, and a 401 to all of them: one renewal, one repetition, no more."""

import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.command import running_proxy
from tests.support.launch import GUARD
from tests.support.wire import UNAUTHORIZED, Message, Upstream, Wire, ask, json_reply, reply, request

from .conftest import Place


def in_flight(stack: ExitStack, place: Place, count: int) -> list[Wire]:
    """Send `count` requests, each on a connection of its own, and wait for no answer."""
    wires = [stack.enter_context(place.connect()) for _ in range(count)]
    for number, wire in enumerate(wires):
        wire.send(place.request("GET", f"/{number}"))
    return wires


def test_200_first_requests_cost_one_token_request(place: Place) -> None:
    place.tokens.held.clear()
    with ExitStack() as stack:
        wires = in_flight(stack, place, 200)
        place.tokens.wait_for(1)
        place.tokens.held.set()
        assert [wire.answer().status for wire in wires] == [200] * 200
    assert len(place.tokens.requests) == 1
    assert len(place.api.requests) == 200
    assert {sent.one("Authorization") for sent in place.api.requests} == {f"Bearer {place.token}"}


def test_100_refusals_at_once_cost_one_renewal_and_nobody_sees_them(place: Place) -> None:
    assert place.get().status == 200
    place.tokens.revoke()
    place.api.reset()
    together = threading.Barrier(100)

    def refuse_all_together(request: Message, _wire: Wire) -> bytes:
        if place.api.lets_in(request):
            return reply(body=b"fine")
        together.wait(GUARD)
        return UNAUTHORIZED

    place.api.answer = refuse_all_together
    with ExitStack() as stack:
        wires = in_flight(stack, place, 100)
        assert [wire.answer().status for wire in wires] == [200] * 100
    assert len(place.tokens.requests) == 2, "the first one, and one renewal"
    assert len(place.api.requests) == 200, "each was repeated once"


def test_refusals_that_arrive_one_after_the_other_share_the_renewal_too(place: Place) -> None:
    assert place.get().status == 200
    place.tokens.revoke()
    place.tokens.held.clear()
    with ExitStack() as stack:
        early = in_flight(stack, place, 20)
        place.tokens.wait_for(2)
        late = in_flight(stack, place, 20)
        place.tokens.held.set()
        assert [wire.answer().status for wire in early + late] == [200] * 40
    assert len(place.tokens.requests) == 2


def test_an_upstream_that_always_says_401_is_heard_and_costs_few_tokens(place: Place) -> None:
    place.api.says(UNAUTHORIZED)
    answers = [place.get() for _ in range(20)]
    assert [answer.status for answer in answers] == [401] * 20
    assert {answer.body for answer in answers} == {b"the API's own"}
    assert {answer.proxy_error for answer in answers} == {None}
    assert all("invalid_token" in (answer.one("WWW-Authenticate") or "") for answer in answers)
    assert len(place.tokens.requests) <= 3
    assert len(place.api.requests) <= 23


def test_a_storm_on_an_upstream_that_always_says_401_costs_few_tokens(place: Place) -> None:
    place.api.says(UNAUTHORIZED)
    with ExitStack() as stack:
        wires = in_flight(stack, place, 50)
        assert [wire.answer().status for wire in wires] == [401] * 50
    assert len(place.tokens.requests) <= 3


def test_a_token_endpoint_that_gives_the_same_token_again_is_asked_once_a_cooldown(place: Place) -> None:
    place.tokens.says(json_reply({"access_token": "always-the-same", "expires_in": 3600}))
    place.api.says(UNAUTHORIZED)
    assert [place.get().status for _ in range(50)] == [401] * 50
    assert len(place.tokens.requests) == 2
    assert len(place.api.requests) == 50, "none was repeated"


def test_a_storm_on_a_token_endpoint_that_gives_the_same_token_again_costs_few_tokens(place: Place) -> None:
    place.tokens.says(json_reply({"access_token": "always-the-same", "expires_in": 3600}))
    place.api.says(UNAUTHORIZED)
    with ExitStack() as stack:
        wires = in_flight(stack, place, 50)
        assert [wire.answer().status for wire in wires] == [401] * 50
    assert len(place.tokens.requests) <= 3


@pytest.mark.parametrize("grant", ["static", "command"])
def test_a_command_that_gives_the_same_token_again_is_run_once_a_cooldown(grant: str, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    program = tmp_path / "token.py"
    program.write_text(f"open({str(runs)!r}, 'a').write('x')\nprint('always-the-same')\n")
    auth: dict[str, object] = {"grant": "command", "command": [sys.executable, str(program)]}
    if grant == "static":
        auth = {"grant": "static", "token": f"${{command:{sys.executable} {program}}}"}
    with Upstream(lambda _request, _wire: UNAUTHORIZED) as api:
        config = {"routes": [{"name": "api", "upstream": api.url, "auth": auth}]}
        with running_proxy(config) as proxy:
            assert [ask(proxy.url, request("GET")).status for _ in range(50)] == [401] * 50
        assert len(api.requests) == 50
        assert len(runs.read_text()) == 2


def test_a_static_token_in_a_file_that_was_replaced_is_used_at_once(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old\n")

    def only_new(came: Message, _wire: Wire) -> bytes:
        return reply(body=b"fine") if came.one("Authorization") == "Bearer new" else UNAUTHORIZED

    with Upstream(only_new) as api:
        auth = {"grant": "static", "token": f"${{file:{file}}}"}
        with running_proxy({"routes": [{"name": "api", "upstream": api.url, "auth": auth}]}) as proxy:
            assert [ask(proxy.url, request("GET")).status for _ in range(3)] == [401] * 3
            file.write_text("new\n")
            assert ask(proxy.url, request("GET")).status == 200
    assert len(api.requests) == 5


def test_a_stray_401_while_no_other_token_can_be_had_does_not_take_the_token_from_other_paths(
    place: Place,
) -> None:
    def refuse_one_path(came: Message, wire: Wire) -> bytes:
        return UNAUTHORIZED if came.path == "/bad" else place.api.judge(came, wire)

    place.api.answer = refuse_one_path
    assert place.get("/good").status == 200
    place.tokens.says(json_reply({"error": "server_error"}, 500))
    for _ in range(3):
        bad = place.get("/bad")
        assert (bad.status, bad.body, bad.proxy_error) == (401, b"the API's own", None)
        assert place.get("/good").status == 200
    assert len(place.tokens.requests) == 2, "the first token, and one try for another"


@pytest.mark.route(retry={"cooldown": "0s"})
def test_without_a_cooldown_each_refusal_may_fetch_again(place: Place) -> None:
    place.api.says(UNAUTHORIZED)
    assert [place.get().status for _ in range(4)] == [401] * 4
    assert len(place.tokens.requests) > 3


def test_the_cooldown_does_not_outlive_the_trouble(place: Place) -> None:
    place.api.says(UNAUTHORIZED)
    assert place.get().status == 401
    place.api.answer = place.api.judge
    assert [place.get().status for _ in range(3)] == [200] * 3


def test_too_little_scope_is_no_reason_for_another_token(place: Place) -> None:
    challenge = 'WWW-Authenticate: Bearer realm="api", error="insufficient_scope", scope="admin"'
    place.api.says(reply("401 Unauthorized", challenge, body=b"not for you"))
    answer = place.get()
    assert (answer.status, answer.body) == (401, b"not for you")
    assert len(place.api.requests) == 1
    assert len(place.tokens.requests) == 1


def test_a_waiter_who_goes_away_does_not_take_the_token_from_the_others(place: Place) -> None:
    place.tokens.held.clear()
    with ExitStack() as stack:
        first = place.connect().send(place.request("GET"))
        place.tokens.wait_for(1)
        others = in_flight(stack, place, 5)
        first.reset()
        assert place.proxy is not None
        place.proxy.wait_for_log("the client went away")
        place.tokens.held.set()
        assert [wire.answer().status for wire in others] == [200] * 5
    assert len(place.tokens.requests) == 1
    assert len(place.api.requests) == 5


def test_when_no_other_token_can_be_had_the_upstreams_own_401_is_passed_on(place: Place) -> None:
    assert place.get().status == 200
    place.tokens.revoke()
    place.tokens.says(json_reply({"error": "server_error"}, 500))
    answer = place.get()
    assert (answer.status, answer.body) == (401, b"the API's own")
    assert answer.proxy_error is None


def test_the_second_401_is_passed_on_and_the_request_is_not_sent_a_third_time(place: Place) -> None:
    second = reply("401 Unauthorized", body=b"the second")
    place.api.says_in_turn([UNAUTHORIZED, second])
    answer = place.post(body=b"once more, with another token")
    assert (answer.status, answer.body) == (401, b"the second")
    assert [sent.body for sent in place.api.requests] == [b"once more, with another token"] * 2
    first, again = [sent.one("Authorization") for sent in place.api.requests]
    assert first != again


@pytest.mark.route(retry=False)
def test_retry_false_passes_every_401_on(place: Place) -> None:
    place.api.says(UNAUTHORIZED)
    assert [place.get().status for _ in range(3)] == [401] * 3
    assert len(place.api.requests) == 3


@pytest.mark.route(retry={"statuses": [401, 403]})
def test_other_statuses_count_as_refusals_when_told_so(place: Place) -> None:
    place.api.says_in_turn([reply("403 Forbidden"), reply(body=b"fine")])
    assert place.get().status == 200
    assert len(place.tokens.requests) == 2


@pytest.mark.route(retry={"methods": "idempotent"})
def test_with_idempotent_only_a_post_is_not_repeated_but_the_next_request_is_well(place: Place) -> None:
    assert place.get().status == 200
    place.tokens.revoke()
    assert place.post(body=b"1").status == 401
    assert place.post(body=b"2").status == 200
    assert [sent.body for sent in place.api.requests[1:]] == [b"1", b"2"]


def test_a_refresh_token_is_used_and_rotated(place: Place) -> None:
    place.tokens.more = {"expires_in": 3600, "refresh_token": "refresh-one"}
    assert place.get().status == 200
    place.tokens.revoke()
    place.tokens.more = {"expires_in": 3600, "refresh_token": "refresh-two"}
    assert place.get().status == 200
    place.tokens.revoke()
    assert place.get().status == 200
    forms = [sent.form for sent in place.tokens.requests]
    assert [form["grant_type"] for form in forms] == ["client_credentials", "refresh_token", "refresh_token"]
    assert [form.get("refresh_token") for form in forms] == [None, "refresh-one", "refresh-two"]


def test_a_dead_refresh_token_gives_way_to_the_grant_at_once(place: Place) -> None:
    place.tokens.more = {"expires_in": 3600, "refresh_token": "refresh-dead"}
    assert place.get().status == 200
    place.tokens.revoke()
    issue = place.tokens.answer

    def refuse_the_refresh_token(request: Message, wire: Wire) -> bytes | None:
        if request.form["grant_type"] == "refresh_token":
            return json_reply({"error": "invalid_grant"}, 400)
        return issue(request, wire)

    place.tokens.answer = refuse_the_refresh_token
    assert place.get().status == 200
    asked = [sent.form["grant_type"] for sent in place.tokens.requests]
    assert asked == ["client_credentials", "refresh_token", "client_credentials"]


def test_a_short_lived_token_is_renewed_when_it_ends_and_requests_never_see_it(place: Place) -> None:
    place.tokens.more = {"expires_in": 1}
    with place.connect() as wire:
        statuses = []
        while len(place.tokens.requests) < 3:
            wire.send(place.request("GET"))
            statuses.append(wire.answer().status)
    assert set(statuses) == {200}
    assert len(statuses) > len(place.tokens.requests)


@pytest.mark.parametrize("lifetime", [0.001, "0.5", 1])
def test_a_token_that_ends_at_once_does_not_cost_a_token_request_a_request(
    place: Place, lifetime: object
) -> None:
    place.tokens.more = {"expires_in": lifetime}
    with place.connect() as wire:
        for _ in range(200):
            wire.send(place.request("GET"))
            assert wire.answer().status == 200
    assert len(place.tokens.requests) < 50


def test_a_token_endpoint_that_hangs_does_not_hold_up_who_has_a_token_that_may_still_do(place: Place) -> None:
    def refuse_one_path(came: Message, wire: Wire) -> bytes:
        return UNAUTHORIZED if came.path == "/bad" else place.api.judge(came, wire)

    place.api.answer = refuse_one_path
    assert place.get("/good").status == 200
    place.tokens.held.clear()
    with place.connect() as bad:
        bad.send(place.request("GET", "/bad"))
        place.tokens.wait_for(2)
        assert [place.get("/good").status for _ in range(20)] == [200] * 20
        place.tokens.held.set()
        assert bad.answer().status == 401
