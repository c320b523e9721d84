"""What the connections of a program say of it."""

from types import SimpleNamespace

import pytest

from authproxy.app.doctor.connections import (
    MAX_TOLD,
    NO_KEY,
    NO_NEED,
    NO_TRUST,
    NO_USE,
    Connections,
    Sent,
    Tunnel,
    judge_elsewhere,
    judge_requests,
    judge_trust,
    judge_use,
)

API, OTHER = "api.example:443", "other.example:443"
HERE = Tunnel(API, intercepted=True, named="api.example")
GONE = Tunnel(API, intercepted=True, trouble="it refused our certificate: unknown ca")
GOT = Sent("GET", "/v1", 200, "api", API)
DIRECT = Sent("GET", "/v1", 200, "api")


def told(*came):
    return Connections(
        [each for each in came if isinstance(each, Tunnel)], [each for each in came if isinstance(each, Sent)]
    )


def record(method="GET", path="/v1", status=200, *, forward=None, cause=None, problem=None, listener=None):
    facts = None if listener is None else SimpleNamespace(listener=listener)
    return SimpleNamespace(
        method=method, path=path, status=status, route=None if facts is None else "api", forward=forward,
        cause=cause, facts=facts, notes=None if problem is None else SimpleNamespace(problem=problem),
    )  # fmt: skip


def heard(*records):
    found = Connections()
    for each in records:
        found.answered(each)
    return found


# ── what comes ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("came", "tunnel"),
    [
        (record("CONNECT", OTHER, forward="tunnelled"), Tunnel(OTHER)),
        (record("CONNECT", OTHER, forward="tunnelled", cause="the client went away"), Tunnel(OTHER)),
        (
            record("CONNECT", OTHER, 502, forward="tunnelled", cause="x", problem={"detail": "no such host"}),
            Tunnel(OTHER, 502, "no such host"),
        ),
        (record("CONNECT", API, 407, problem={"detail": "a key"}), Tunnel(API, 407, "a key")),
        (record("CONNECT", API, cause="no TLS with the client: unknown ca"), GONE),
        (
            record("CONNECT", API, cause="nothing came in the tunnel"),
            Tunnel(API, intercepted=True, trouble="nothing came in the tunnel"),
        ),
    ],
)
def test_a_connect_is_a_tunnel_or_what_was_in_the_way(came, tunnel):
    assert heard(came).tunnels == [tunnel]


def test_a_client_that_closes_in_the_handshake_is_one_that_does_not_trust_us():
    found = heard(record("CONNECT", API, cause="no TLS with the client: the client closed the connection"))
    assert "does not trust" in found.tunnels[0].trouble


def test_a_handshake_is_an_intercepted_tunnel():
    found = Connections()
    found.secured(API, "api.example")
    assert found.tunnels == [HERE]


@pytest.mark.parametrize(
    ("came", "sent"),
    [
        (record(listener=f"forward https://{API}", forward="intercepted"), GOT),
        (record(listener="127.0.0.1:0 for api"), DIRECT),
        (record(path="http://x.example:80/a", forward="forwarded"),
         Sent("GET", "http://x.example:80/a", 200, None, "x.example:80")),
        (record(status=503, listener=f"forward https://{API}", forward="intercepted",
                problem={"detail": "no token", "hint": "log in"}),
         Sent("GET", "/v1", 503, "api", API, "no token", "log in")),
        (record(status=421, problem={"title": "Misdirected request"}),
         Sent("GET", "/v1", 421, trouble="Misdirected request")),
    ],
)  # fmt: skip
def test_a_request_is_known_by_where_it_was_for(came, sent):
    assert heard(came).sent == [sent]


# ── what it means ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("came", "ok", "says", "what_next"),
    [
        ((), False, "it does not use HTTPS_PROXY", NO_USE),
        ((DIRECT,), False, "1 request came by a route's own URL", NO_NEED),
        ((Tunnel(API, 407, "key"),), False, "without the user and the password", NO_KEY),
        ((Tunnel(OTHER),), False, "asked for no route's upstream", f"run something that asks for {API}"),
        ((HERE, HERE, Tunnel(OTHER), GOT), True, "2 intercepted, 1 tunnelled", None),
        ((Tunnel(API, 407, "key"), HERE, GOT), True, "1 intercepted", None),  # it sends the key when asked
        ((Sent("GET", "/", 200, "api", "api.example:80"),), True, "it uses HTTPS_PROXY", None),
        ((HERE, GOT, DIRECT, DIRECT), True, "; 2 requests came by a route's own URL", None),
    ],
)
def test_whether_it_uses_the_proxy(came, ok, says, what_next):
    verdict = judge_use(told(*came), [API])
    assert verdict.ok is ok
    assert says in (verdict.detail or verdict.cause)
    assert verdict.next == what_next


@pytest.mark.parametrize(
    ("came", "ok", "says"),
    [
        ((), None, "it did not ask for api.example:443"),
        ((Tunnel(API, 407, "key"),), None, "it did not ask"),
        ((HERE, GOT), True, "our certificate was accepted, and it named the server (SNI)"),
        ((Tunnel(API, intercepted=True), GOT), True, "it named no server (SNI)"),
        ((GONE,), False, "api.example:443: it refused our certificate: unknown ca"),
        ((GONE, GONE, HERE, GOT), False, "unknown ca (2 times)"),
        ((HERE,), False, "closed the connection after the handshake"),
        ((HERE, HERE, GOT), True, "accepted"),  # one was opened in advance
    ],
)
def test_whether_it_trusts_us(came, ok, says):
    verdict = judge_trust(API, told(*came))
    assert verdict.ok is ok
    assert says in (verdict.detail or verdict.cause)
    assert verdict.next == (NO_TRUST if ok is False else None)


def test_one_that_names_another_server_is_told_so():
    other = Tunnel(API, intercepted=True, named="bank.example")
    verdict = judge_trust(API, told(HERE, other, GOT))
    assert verdict.cause == "api.example:443: it named another server in the handshake: bank.example"
    assert Tunnel("[fd00::1]:443", named="FD00::1").names_its_host


@pytest.mark.parametrize(
    ("came", "ok", "says"),
    [
        ((DIRECT,), None, "no request came that far"),
        ((GOT, GOT, Sent("HEAD", "/v2", 404, "api", API)), True,
         "GET /v1 answered 200 (2 times), HEAD /v2 answered 404"),
        ((GOT, Sent("GET", "/v2", 503, "api", API, "no token", "log in")), False,
         "GET /v2 answered 503: no token"),
        ((Sent("GET", "/v1", 401, "api", API),), False, "GET /v1 answered 401"),
        ((Sent("GET", "/v1", 401, "other", API),), None, "no request"),
    ],
)  # fmt: skip
def test_what_became_of_its_requests(came, ok, says):
    verdict = judge_requests("api", told(*came))
    assert verdict.ok is ok
    assert says in (verdict.detail or verdict.cause)


def test_a_refusal_says_what_to_do():
    hint = judge_requests("api", told(Sent("GET", "/v2", 503, "api", API, "no token", "log in"))).next
    assert hint == "log in"
    assert "authproxy doctor api" in judge_requests("api", told(Sent("GET", "/", 403, "api", API))).next


@pytest.mark.parametrize(
    ("came", "ok", "says"),
    [
        ((Tunnel(OTHER), Tunnel(OTHER)), True, "other.example:443 (2 times)"),
        ((Sent("GET", "http://x:80/", 200, None, "x:80"),), True, "x:80"),
        ((Tunnel(OTHER, 502, "no such host"),), None, "other.example:443: no such host"),
        ((Tunnel(OTHER, 403, "refused here"),), False, "other.example:443: refused here"),
        ((Sent("GET", "/", 421, trouble="Misdirected request"),), None, "answered 421: Misdirected request"),
    ],
)
def test_where_else_it_went(came, ok, says):
    verdict = judge_elsewhere(told(*came))
    assert verdict.ok is ok
    assert says in (verdict.detail or verdict.cause)


def test_nowhere_else_is_not_told():
    assert judge_elsewhere(told(HERE, GOT, DIRECT, Tunnel(API, 407, "key"))) is None


def test_a_long_list_is_cut():
    tunnels = [Tunnel(f"{number}.example:443") for number in range(MAX_TOLD + 3)]
    assert judge_elsewhere(told(*tunnels)).detail.endswith("4.example:443, and 3 more")
