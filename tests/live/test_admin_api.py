"""The admin API over the wire, of one process and of two: states, requests, and what a person may do."""

import json
import re
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.admin_api import SECRET, Here, admin_api, everything
from tests.support.command import authproxy, running_proxy, wait_until
from tests.support.launch import write_config
from tests.support.wire import UNAUTHORIZED, Message, Upstream, ask, get, json_reply, reply, request

PROCESSES = pytest.mark.parametrize("here", [1, 2], ids=["one process", "two workers"], indirect=True)
STATES = {
    "no_token_needed", "idle", "valid", "renewing", "failing", "rejected", "refused", "login_required",
}  # fmt: skip
CANARY = "c4n4ry-of-the-caller"


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest) -> Iterator[Here]:
    with admin_api(workers=request.param, admin={"listen": "127.0.0.1:0", "keep": 50}) as made:
        yield made


@pytest.fixture(params=[1, 2], ids=["one process", "two workers"])
def here(request: pytest.FixtureRequest) -> Iterator[Here]:
    with admin_api(workers=request.param) as made:
        yield made


def moment(text: str) -> datetime:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text), text
    return datetime.fromisoformat(text)


def is_recent(text: str) -> bool:
    return abs(datetime.now(UTC) - moment(text)) < timedelta(minutes=1)


def assert_problem(answer: Message, status: int) -> dict[str, Any]:
    assert answer.status == status, answer.body
    assert answer.one("Content-Type") == "application/problem+json"
    assert answer.json["status"] == status
    return dict(answer.json)


def log_of(here: Here) -> list[dict[str, Any]]:
    return [json.loads(line) for line in here.proxy.log().splitlines()]


# ── status ───────────────────────────────────────────────────────────────────────────────────────


def test_the_status_tells_of_the_process_its_configuration_and_its_routes(here: Here) -> None:
    answer = here.get("/api/status")
    assert (answer.status, answer.one("Content-Type")) == (200, "application/json")
    assert answer.one("Cache-Control") == "no-store"
    status = answer.json
    assert set(status) == {"version", "started_at", "config", "listeners", "routes"}
    assert is_recent(status["started_at"])
    assert status["config"].keys() == {"file", "loaded_at", "fault"}
    assert status["config"]["file"] == str(here.proxy.config_file)
    assert status["config"]["fault"] is None
    assert is_recent(status["config"]["loaded_at"])
    assert status["listeners"] == [here.proxy.url]
    api, other, _ = status["routes"]
    assert api.pop("since") is not None
    assert api == {
        "name": "api",
        "path": "/",
        "host": None,
        "listen": None,
        "upstream": here.api.url,
        "grant": "client_credentials",
        "preset": None,
        "injects": [{"header": "Authorization", "value": "Bearer {token}"}],
        "state": "idle",
        "expires_at": None,
        "renewed_at": None,
        "next_try_at": None,
        "login_url": None,
        "trouble": None,
        "requests": 0,
        "errors": 0,
        "retries": 0,
        "latency_ms": {"p50": None, "p90": None, "p99": None},
    }
    assert (other["state"], other["injects"]) == ("no_token_needed", [])


def test_a_route_with_a_token_tells_its_times_and_what_was_asked_of_it(here: Here) -> None:
    for _ in range(12):
        assert here.call().status == 200
    here.tokens.revoke()
    assert here.call().status == 200
    here.api.says(reply(503))
    here.call()
    api = here.route()
    assert api["state"] == "valid"
    assert is_recent(api["since"])
    assert is_recent(api["renewed_at"])
    left = moment(api["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=58) < left < timedelta(minutes=61)
    assert (api["requests"], api["errors"], api["retries"]) == (14, 1, 1)
    assert 0 < api["latency_ms"]["p50"] <= api["latency_ms"]["p90"] <= api["latency_ms"]["p99"]


def test_a_rejected_credential_is_trouble_with_a_next_try(here: Here) -> None:
    here.tokens.says(json_reply({"error": "invalid_client", "error_description": f"no: {SECRET}"}, 400))
    assert here.call().status == 502
    api = here.route()
    assert api["state"] == "rejected"
    assert api["trouble"]["error"] == "invalid_client"
    assert api["trouble"]["detail"]
    assert is_recent(api["trouble"]["at"])
    ahead = moment(api["next_try_at"]) - datetime.now(UTC)
    assert timedelta(seconds=20) < ahead < timedelta(seconds=40)
    ready = here.get("/readyz")
    assert (ready.status, ready.json["routes"]["api"]["state"]) == (503, "rejected")
    first = api["trouble"]["at"], api["since"]
    assert here.call().status == 503  # left alone: that is no failure of its own
    assert (here.route()["trouble"]["at"], here.route()["since"]) == first
    assert SECRET.encode() not in everything(here)


def test_while_a_token_serves_a_failed_renewal_is_trouble_beside_its_state(here: Here) -> None:
    assert here.call().status == 200
    here.tokens.says(reply(503))
    assert_problem(here.post("/api/routes/api/refresh"), 503)
    api = here.route()
    assert api["state"] == "valid"
    assert api["trouble"]["detail"]
    assert here.get("/readyz").status == 200
    assert here.call().status == 200


def test_a_failing_route_says_when_it_is_tried_again(here: Here) -> None:
    here.tokens.says(reply(503))
    assert here.call().status == 503
    api = here.route()
    assert api["state"] == "failing"
    assert moment(api["next_try_at"]) > moment(api["trouble"]["at"])


def test_the_state_of_each_route_is_a_metric(here: Here) -> None:
    here.call()
    text = here.get("/metrics").body.decode()
    found = dict(re.findall(r'authproxy_route_state\{route="api",state="(\w+)"\} (\S+)', text))
    assert set(found) == STATES
    assert {state for state, is_there in found.items() if float(is_there)} == {"valid"}
    assert re.search(r"^authproxy_config_reload_timestamp_seconds 1\.\d+e\+09$", text, re.MULTILINE)
    assert "\nauthproxy_config_reload_failed 0.0\n" in text


# ── refused by the upstream ──────────────────────────────────────────────────────────────────────


def test_an_upstream_that_refuses_a_renewed_token_makes_the_route_refused_until_it_does_not(
    here: Here,
) -> None:
    here.api.says(UNAUTHORIZED)
    answer = here.call()
    assert (answer.status, answer.body) == (401, b"the API's own")
    said = answer.one("Proxy-Status") or ""
    told = re.fullmatch(
        r'authproxy; received-status=401; details="a token renewed \d+ s ago, repeated once"', said
    )
    assert told, said
    for _ in range(8):
        assert here.call().status == 401
    api = here.route()
    assert (api["state"], api["trouble"]["error"]) == ("refused", None)
    assert "a token renewed" in api["trouble"]["detail"]
    assert api["trouble"]["hint"]
    ready = here.get("/readyz")
    assert ready.status == 200
    assert ready.json["warnings"]["api"]["state"] == "refused"
    here.api.answer = here.api.first_answer
    assert here.call().status == 200
    wait_until(lambda: here.route()["state"] == "valid")
    assert here.get("/readyz").json == {"ready": True}
    here.api.says(UNAUTHORIZED)
    for _ in range(4):
        here.call()
    here.proxy.stop()
    events = [each["event"] for each in log_of(here)]
    # Once for what it is, and once more while the cooldown lasts; again after it was well in between.
    assert 2 <= events.count("refused by the upstream") <= 4
    assert events.count("the upstream accepts the route's credential again") == 1


def test_an_upstream_that_refuses_by_a_status_below_300_is_told_of_as_well() -> None:
    with admin_api(defaults={"retry": {"statuses": [401, 203]}}) as here:
        here.api.says(reply(203, body=b"a login form"))
        for how in (
            "a token renewed \\d+ s ago, repeated once",
            "a token obtained \\d+ s ago, not repeated: .*",
        ):
            answer = here.call()
            assert (answer.status, answer.body) == (203, b"a login form")
            said = answer.one("Proxy-Status") or ""
            assert re.fullmatch(f'authproxy; received-status=203; details="{how}"', said), said
        assert here.route()["state"] == "refused"
        kept = here.call("/x", "Authorization: Bearer own").one("Proxy-Status") or ""
        assert "the caller's own Authorization was kept" in kept
        here.api.answer = here.api.first_answer
        assert here.call().one("Proxy-Status") is None
        wait_until(lambda: here.route()["state"] == "valid")
        here.proxy.stop()
        events = [each["event"] for each in log_of(here)]
        assert "refused by the upstream" in events


def test_a_static_token_that_is_refused_makes_its_route_refused() -> None:
    with admin_api(auth={"grant": "static", "token": SECRET}) as here:
        assert here.call().one("Proxy-Status") == ('authproxy; received-status=401; details="a static token"')
        assert here.route()["state"] == "refused"
        assert here.get("/readyz").status == 200


@pytest.mark.parametrize(
    ("lines", "status", "details"),
    [
        (
            ["Authorization: Bearer own"],
            401,
            "no credential: the caller's own Authorization was kept (incoming: keep)",
        ),
        ([], 403, "a token obtained \\d+ s ago"),
    ],
)
def test_a_refusal_says_what_was_sent(here: Here, lines: list[str], status: int, details: str) -> None:
    here.api.says(reply(status, "Proxy-Status: up; error=x", body=b"no"))
    answer = here.call("/x", *lines)
    assert answer.status == status
    theirs, ours = answer.all("Proxy-Status")
    assert theirs == "up; error=x"
    pattern = (
        re.escape(f'authproxy; received-status={status}; details="')
        + details.replace("(", r"\(").replace(")", r"\)")
        + '"'
    )
    assert re.fullmatch(pattern, ours), ours
    assert here.route()["state"] != "refused"


def test_too_little_scope_is_said_and_not_retried(here: Here) -> None:
    here.api.says(reply(403, 'WWW-Authenticate: Bearer error="insufficient_scope"'))
    assert here.call().one("Proxy-Status") == (
        'authproxy; received-status=403; details="the token has too little scope"'
    )


def test_any_other_answer_is_left_as_it_is(here: Here) -> None:
    for status in (200, 404, 500):
        here.api.says(reply(status, body=b"x"))
        assert here.call().one("Proxy-Status") is None


# ── requests ─────────────────────────────────────────────────────────────────────────────────────


def test_the_last_requests_are_told_newest_first(here: Here) -> None:
    here.call("/first?page=2&token=" + CANARY)
    here.tokens.revoke()
    here.call("/second", method="POST", body=b"12345")
    here.call("/nowhere" * 2, "Host: evil.example")
    third, second, first = here.requests()
    assert set(first) == {
        "id", "at", "route", "method", "path", "upstream", "status", "ms", "bytes_in", "bytes_out",
        "repeated", "token", "steps", "error",
    }  # fmt: skip
    assert (first["route"], first["method"], first["status"]) == ("api", "GET", 200)
    assert first["path"] == "/first?page=••••&token=••••"
    assert first["upstream"] == f"{here.api.url}/first"
    assert (first["bytes_in"], first["bytes_out"], first["repeated"], first["error"]) == (0, 4, False, None)
    assert first["token"] == {"age_s": 0.0, "source": "fetched"}
    assert first["ms"] > 0
    assert is_recent(first["at"])
    assert (second["bytes_in"], second["repeated"], second["status"]) == (5, True, 200)
    assert second["token"]["source"] == "renewed"
    for each in (first, second):
        assert each["steps"]
        assert {"what", "detail", "ms"} == {key for step in each["steps"] for key in step}
        assert sum(step["ms"] for step in each["steps"]) == pytest.approx(each["ms"], abs=0.1)
    assert [step["what"] for step in second["steps"]].count("upstream") == 2
    assert third["route"] is None
    assert third["error"]["status"] == third["status"] == 400
    assert [each["at"] for each in (third, second, first)] == sorted(
        [each["at"] for each in (third, second, first)], reverse=True
    )


def test_a_requests_id_is_the_same_in_the_log_the_problem_and_the_api(here: Here) -> None:
    here.tokens.says(reply(503))
    problem = here.call("/x").json
    assert here.request(problem["id"])["error"] == problem
    malformed = ask(here.proxy.url, b"GET / HTTP/1.1\r\nbroken\r\n\r\n").json
    assert here.request(malformed["id"])["status"] == 400
    here.call("/other/x")
    known = [each["id"] for each in here.requests()]
    assert len(set(known)) == 3
    here.proxy.stop()
    lines = {each["id"]: each for each in log_of(here) if each["event"] == "request"}
    assert set(lines) == set(known)
    failed = lines[problem["id"]]
    assert (failed["cause"], failed.get("hint")) == (problem["detail"], problem.get("hint"))
    assert failed["upstream"] == f"{here.api.url}/x"


@pytest.mark.parametrize("here", [1, 2], indirect=True)
def test_requests_can_be_filtered(here: Here) -> None:
    here.other.answer = lambda came, _wire: reply(int(came.path.rpartition("/")[2]))
    for status in (200, 201, 404, 410, 500, 503):
        here.call(f"/other/{status}")
    here.call("/x", method="DELETE")
    every = here.requests()
    assert len(every) == 7

    def statuses(query: str) -> list[int]:
        return [each["status"] for each in here.requests(query)]

    assert statuses("?status=404") == [404]
    assert statuses("?status=4xx") == [410, 404]
    assert statuses("?status=%3E=400") == statuses("?status=>=400") == [503, 500, 410, 404]
    assert statuses("?route=api") == [200]
    assert statuses("?route=other&limit=2") == [503, 500]
    assert statuses("?method=DELETE") == statuses("?method=delete") == [200]
    assert statuses("?q=er/50") == [503, 500]
    assert statuses("?route=&status=&method=&q=&limit=&before=") == [each["status"] for each in every]
    assert statuses("?q=nothing-like-it") == []
    before = every[2]["id"]
    assert here.requests(f"?before={before}") == every[3:]
    assert here.requests(f"?before={before}&limit=1") == every[3:4]
    pages: list[dict[str, Any]] = []
    while page := here.requests("?limit=3" + (f"&before={pages[-1]['id']}" if pages else "")):
        pages += page
    assert pages == every


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("status=ok", "status"),
        ("status=6xx", "status"),
        ("status=<400", "status"),
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("before=x", "before"),
        ("q=a&q=b", "q"),
    ],
)
def test_a_filter_that_means_nothing_is_400_and_named(everybodys: Here, query: str, names: str) -> None:
    assert assert_problem(everybodys.get(f"/api/requests?{query}"), 400)["detail"].startswith(f"{names}: ")


def test_the_ring_holds_the_last_requests_of_all_processes() -> None:
    for workers in (1, 2):
        with admin_api(workers=workers, admin={"listen": "127.0.0.1:0", "keep": 5}) as here:
            for number in range(12):
                here.call(f"/other/{number}")
            assert [each["path"] for each in here.requests()] == [
                f"/other/{number}" for number in range(11, 6, -1)
            ]


# ── one request ──────────────────────────────────────────────────────────────────────────────────


def test_a_request_is_told_with_its_headers_and_without_its_secrets(here: Here) -> None:
    here.other.says(
        reply(200, f"Set-Cookie: a={CANARY}", "X-Kept: yes", f"Location: /next?code={CANARY}", body=b"x")
    )
    sent = [
        f"Cookie: a={CANARY}",
        f"Authorization: Bearer {CANARY}",
        f"Proxy-Authorization: Basic {CANARY}",
        f"X-Api-Key: {CANARY}",
        f"X-Auth-Token: {CANARY}",
        f"Referer: http://localhost/?session={CANARY}",
        "X-Plain: seen",
    ]
    here.call(f"/other/x?key={CANARY}&{CANARY}", *sent)
    [summary] = here.requests()
    found = here.request(summary["id"])
    assert {key: value for key, value in found.items() if key in summary} == summary
    assert [name for name, _ in found["request_headers"]] == [
        "Host", *(line.partition(":")[0] for line in sent),
    ]  # fmt: skip
    headers = dict(found["request_headers"])
    assert headers["X-Plain"] == "seen"
    assert headers["Authorization"] == "Bearer ••••"
    assert headers["Cookie"] == headers["X-Api-Key"] == "••••"
    answered = dict(found["response_headers"])
    assert (answered["X-Kept"], answered["Set-Cookie"]) == ("yes", "••••")
    assert "request_body" not in found
    assert CANARY.encode() not in everything(here)


def test_the_token_that_was_added_is_nowhere_even_if_the_upstream_echoes_it(here: Here) -> None:
    def echo(came: Message, _wire: object) -> bytes:
        return reply(
            200, f"X-Echo: {came.one('Authorization')}", body=(came.one("Authorization") or "").encode()
        )

    here.api.answer = echo
    token = here.call("/x").one("X-Echo")
    assert token is not None
    [summary] = here.requests()
    assert dict(here.request(summary["id"])["response_headers"])["X-Echo"] == "Bearer ••••"
    assert token.removeprefix("Bearer ").encode() not in everything(here)


def test_bodies_are_kept_where_the_route_says_so_and_marked_when_cut(here: Here) -> None:
    here.other.answer = lambda came, _wire: reply(200, body=came.body + b"!")
    here.call("/kept/short", method="POST", body=b"hello")
    here.call("/kept/long", method="POST", body=b"x" * 5000)
    here.call("/kept/binary", method="POST", body=b"\xff\xfe\x00")
    here.call("/kept/none")
    here.call("/other/x", method="POST", body=b"hello")
    other, none, binary, long, short = (here.request(each["id"]) for each in here.requests())
    assert short["request_body"] == {"text": "hello", "bytes": 5, "cut": False}
    assert short["response_body"] == {"text": "hello!", "bytes": 6, "cut": False}
    assert long["request_body"] == {"text": "x" * 1024, "bytes": 5000, "cut": True}
    assert long["response_body"]["cut"]
    assert binary["request_body"] == {"base64": "//4A", "bytes": 3, "cut": False}
    assert none["request_body"] is None
    assert "request_body" not in other


def test_headers_beyond_all_measure_are_kept_in_part_and_marked() -> None:
    with admin_api(limits={"header_bytes": "1MiB"}) as here:
        here.call("/other/x", "X-Large: " + "x" * 200_000, "X-Small: y")
        [summary] = here.requests()
        found = here.request(summary["id"])
        assert found["headers_cut"] is True
        assert len(json.dumps(found)) < 100_000
        assert_problem(here.post(f"/api/requests/{summary['id']}/replay"), 409)


# ── a person asks ────────────────────────────────────────────────────────────────────────────────


def test_a_refresh_gets_another_token_at_once_and_everybody_uses_it(here: Here) -> None:
    for _ in range(6):
        here.call()
    answer = here.post("/api/routes/api/refresh")
    assert (answer.status, answer.json["name"], answer.json["state"]) == (200, "api", "valid")
    assert len(here.tokens.issued.every) == 2
    here.tokens.issued.good -= {here.tokens.issued.every[0]}
    for _ in range(8):
        assert here.call().status == 200
    assert len(here.tokens.issued.every) == 2
    assert not any(each["repeated"] for each in here.requests())


def test_a_refresh_tries_a_rejected_credential_once_in_a_while_and_no_more(here: Here) -> None:
    here.tokens.says(json_reply({"error": "invalid_client"}, 401))
    assert here.call().status == 502
    assert here.call().status == 503
    assert len(here.tokens.requests) == 1
    problem = assert_problem(here.post("/api/routes/api/refresh"), 502)
    assert (problem["error"], problem["route"]) == ("invalid_client", "api")
    here.proxy.wait_for_log(problem["id"])
    assert len(here.tokens.requests) == 2
    answer = here.post("/api/routes/api/refresh")
    assert_problem(answer, 429)
    assert 20 <= int(answer.one("Retry-After") or 0) <= 30
    assert len(here.tokens.requests) == 2
    assert here.route()["state"] == "rejected"


def test_a_refresh_that_mends_it_ends_the_trouble(here: Here) -> None:
    here.tokens.says(json_reply({"error": "invalid_client"}, 401))
    here.call()
    here.tokens.answer = here.tokens.first_answer
    assert here.post("/api/routes/api/refresh").json["trouble"] is None
    assert here.call().status == 200


def test_a_route_without_a_token_has_nothing_to_refresh_or_to_forget(here: Here) -> None:
    assert here.post("/api/routes/other/refresh").json["state"] == "no_token_needed"
    assert here.post("/api/routes/other/forget").status == 204


def test_what_is_forgotten_is_asked_for_anew_by_everybody(here: Here) -> None:
    for _ in range(6):
        here.call()
    answer = here.post("/api/routes/api/forget")
    assert (answer.status, answer.body) == (204, b"")
    assert (here.route()["state"], here.route()["expires_at"]) == ("idle", None)
    for _ in range(6):
        assert here.call().status == 200
    assert len(here.tokens.issued.every) == 2


def test_a_remembered_rejection_is_forgotten_too(here: Here) -> None:
    here.tokens.says(json_reply({"error": "invalid_client"}, 401))
    assert here.call().status == 502
    here.tokens.answer = here.tokens.first_answer
    assert here.post("/api/routes/api/forget").status == 204
    assert here.call().status == 200


def test_stored_copies_are_forgotten(here: Here) -> None:
    with admin_api(token_store={"type": "file", "key": "a-passphrase-of-some-length"}) as stored:
        stored.call()
        assert stored.post("/api/routes/api/forget").status == 204
        assert stored.call().status == 200
        assert len(stored.tokens.issued.every) == 2


# ── again ────────────────────────────────────────────────────────────────────────────────────────


def test_a_request_is_sent_again_as_it_was(here: Here) -> None:
    here.call("/a//b/%2e?x=1&y=%20", "X-One: 1", "x-two:  2", "X-One: 3", method="PUT")
    first = here.api.last
    [summary] = here.requests()
    answer = here.post(f"/api/requests/{summary['id']}/replay")
    assert answer.status == 202
    assert set(answer.json) == {"id"}
    again = here.request(answer.json["id"])
    assert again["id"] != summary["id"]
    assert (again["route"], again["method"], again["path"]) == ("api", "PUT", summary["path"])
    assert (len(here.api.requests), here.api.last.head) == (2, first.head)
    assert here.requests()[0]["id"] == answer.json["id"]
    once_more = here.post(f"/api/requests/{answer.json['id']}/replay").json["id"]
    assert here.request(once_more)["status"] == 200


def test_a_body_that_was_kept_whole_is_sent_again(here: Here) -> None:
    here.call("/kept/x", method="POST", body=b"hello")
    ask(
        here.proxy.url,
        request("POST", "/kept/x", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    )
    for summary in reversed(here.requests()):
        known = here.post(f"/api/requests/{summary['id']}/replay").json["id"]
        assert here.request(known)["status"] == 200
    assert [each.body for each in here.other.requests] == [b"hello", b"abcde"] * 2


@pytest.mark.parametrize(
    ("lines", "target", "body"),
    [
        (["Cookie: a=b"], "/other/x", None),
        (["Authorization: Bearer x"], "/other/x", None),
        (["X-Api-Key: x"], "/other/x", None),
        ([], "/other/x?access_token=x", None),
        ([], "/other/x", b"hello"),
        ([], "/kept/x", b"x" * 5000),
        (["Connection: Upgrade", "Upgrade: something"], "/other/x", None),
    ],
)
def test_what_was_not_kept_is_not_sent_again(
    everybodys: Here, lines: list[str], target: str, body: bytes | None
) -> None:
    everybodys.call(target, *lines, method="POST" if body else "GET", body=body)
    before = len(everybodys.other.requests)
    assert_problem(everybodys.post(f"/api/requests/{everybodys.requests()[0]['id']}/replay"), 409)
    assert len(everybodys.other.requests) == before


def test_what_a_page_was_refused_it_is_refused_again(everybodys: Here) -> None:
    everybodys.call("/other/x", "Origin: https://evil.example", "Sec-Fetch-Site: cross-site")
    before = len(everybodys.other.requests)
    known = everybodys.post(f"/api/requests/{everybodys.requests()[0]['id']}/replay").json["id"]
    again = everybodys.request(known)
    assert (again["status"], dict(again["request_headers"])["Origin"]) == (403, "https://evil.example")
    assert len(everybodys.other.requests) == before


def test_with_access_who_was_refused_before_a_route_was_found_is_refused_again() -> None:
    with admin_api(access={"tokens": ["k3y-of-the-caller"]}) as here:
        here.call("/other/x", "Origin: https://evil.example")
        (refused,) = here.requests()
        known = here.post(f"/api/requests/{refused['id']}/replay").json["id"]
        assert here.request(known)["status"] == refused["status"] == 403


def test_with_access_the_caller_has_a_key_again() -> None:
    with admin_api(workers=2, access={"tokens": ["k3y-of-the-caller"]}) as here:
        here.call("/other/x")
        here.call("/other/x", "X-Authproxy-Key: wrong")  # and none at all
        refused, summary = here.requests()
        assert dict(here.request(summary["id"])["request_headers"])["X-Authproxy-Key"] == "••••"
        known = here.post(f"/api/requests/{summary['id']}/replay").json["id"]
        assert here.request(known)["status"] == 200
        assert here.other.last.one("X-Authproxy-Key") is None
        if refused["status"] == 401:
            assert_problem(here.post(f"/api/requests/{refused['id']}/replay"), 409)
        assert b"k3y-of-the-caller" not in everything(here)


# ── who may ask ──────────────────────────────────────────────────────────────────────────────────

GETS = ["/api/status", "/api/requests", "/api/requests/1", "/api/requests/stream"]
POSTS = ["/api/requests/1/replay", "/api/routes/api/refresh", "/api/routes/api/forget", "/api/reload"]


@pytest.fixture(scope="module")
def everybodys() -> Iterator[Here]:
    with admin_api() as made:
        yield made


@pytest.mark.parametrize("target", [*GETS, *POSTS])
@pytest.mark.parametrize(
    "lines",
    [
        ["Origin: https://evil.example"],
        ["Origin: null"],
        ["Sec-Fetch-Site: cross-site"],
        ["Sec-Fetch-Site: same-site"],
        ["Origin: http://localhost"],  # another port of this host
    ],
)
def test_a_page_of_another_origin_gets_nothing(everybodys: Here, target: str, lines: list[str]) -> None:
    lines = [line.replace("http://localhost", "http://localhost:1") for line in lines]
    method = "GET" if target in GETS else "POST"
    assert_problem(ask(everybodys.proxy.admin_url, request(method, target, *lines, body=b"")), 403)
    assert_problem(ask(everybodys.proxy.admin_url, request("POST", target, *lines, body=b"x")), 403)


@pytest.mark.parametrize("target", [*GETS, *POSTS])
def test_a_name_that_is_not_ours_gets_nothing(everybodys: Here, target: str) -> None:
    method = "GET" if target in GETS else "POST"
    sent = request(method, target, host="evil.example", body=b"")
    assert_problem(ask(everybodys.proxy.admin_url, sent), 403)


def test_the_own_page_may_ask(everybodys: Here) -> None:
    authority = everybodys.proxy.admin_url.removeprefix("http://")
    own = [f"Origin: http://{authority}", "Sec-Fetch-Site: same-origin"]
    for target, status in (("/api/routes/other/forget", 204), ("/api/reload", 200)):
        sent = request("POST", target, *own, host=authority, body=b"")
        assert ask(everybodys.proxy.admin_url, sent).status == status


def test_pages_that_may_call_the_proxy_may_not_call_the_api() -> None:
    with admin_api(allowed_origins=["https://page.example"]) as here:
        refused = assert_problem(here.get("/api/status", "Origin: https://page.example"), 403)
        assert "allowed_origins" not in refused["hint"]


@pytest.mark.parametrize("target", [*GETS, *POSTS])
def test_with_access_everything_wants_the_key(target: str, locked: Here) -> None:
    method = "GET" if target in GETS else "POST"
    for line in ((), ("X-Authproxy-Key: wrong",)):
        sent = request(method, target, *line, body=b"")
        assert_problem(ask(locked.proxy.admin_url, sent), 401)


@pytest.fixture(scope="module")
def locked() -> Iterator[Here]:
    with admin_api(access={"tokens": ["k3y-of-the-caller"]}) as made:
        yield made


def test_what_is_not_there_is_404_and_what_is_not_allowed_405(everybodys: Here) -> None:
    here = everybodys
    for target in ("/api/requests/nope", "/api/nope", "/api/requests?route=nope"):
        assert_problem(here.get(target), 404)
    for target in ("/api/routes/nope/refresh", "/api/routes/nope/forget", "/api/requests/nope/replay"):
        assert_problem(here.post(target), 404)
    for target in POSTS:
        answer = here.get(target)
        assert_problem(answer, 405)
        assert answer.one("Allow") == "POST"
    for target in GETS:
        answer = here.post(target)
        assert_problem(answer, 405)
        assert answer.one("Allow") == "GET,HEAD"


def test_a_head_is_answered_as_a_get_without_the_body(everybodys: Here) -> None:
    everybodys.call("/other/x")
    for target in ("/api/status", "/api/requests", "/api/requests/stream"):
        answer = ask(everybodys.proxy.admin_url, request("HEAD", target))
        assert answer.status == 200


def test_a_body_of_a_post_is_bounded_and_not_looked_at(everybodys: Here) -> None:
    assert everybodys.post("/api/routes/other/forget", body=b"x" * 1000).status == 204
    assert_problem(everybodys.post("/api/routes/other/forget", body=b"x" * (1 << 20)), 413)


def test_with_the_proxy_on_a_unix_socket_alone_tcp_serves_no_api(tmp_path: Any) -> None:
    with admin_api(listen=f"unix:{tmp_path}/proxy.sock") as here:
        assert here.get("/healthz").status == 200
        assert_problem(here.get("/api/status"), 404)
    with admin_api(listen=f"unix:{tmp_path}/proxy.sock", access={"tokens": ["k3y-of-the-caller"]}) as here:
        assert here.get("/api/status").status == 200


def test_the_ip_address_of_the_connection_is_a_name_of_ours(everybodys: Here) -> None:
    port = everybodys.proxy.admin_url.rpartition(":")[2]
    assert get(everybodys.proxy.admin_url, "/api/status", host=f"127.0.0.1:{port}").status == 200


def test_where_the_proxy_listens_on_a_socket_alone_the_admin_listener_is_one_beside_it(
    tmp_path: Path,
) -> None:
    with Upstream() as upstream:
        routes = [{"name": "api", "upstream": upstream.url, "auth": {"grant": "none"}}]
        file = write_config(tmp_path, {"listen": f"unix:{tmp_path}/proxy.sock", "routes": routes})
        with running_proxy(None, "-c", str(file), "--no-admin") as proxy:
            assert not (tmp_path / "proxy-admin.sock").exists()
        with running_proxy(None, "-c", str(file)) as proxy:
            assert proxy.admin_url == f"unix:{tmp_path}/proxy-admin.sock"
            assert stat.S_IMODE((tmp_path / "proxy-admin.sock").stat().st_mode) == 0o600
            assert get(proxy.url).status == 200
            assert len(get(proxy.admin_url, "/api/requests").json["requests"]) == 1
            assert authproxy("healthcheck", "-c", str(file)).returncode == 0
        assert not (tmp_path / "proxy-admin.sock").exists()
