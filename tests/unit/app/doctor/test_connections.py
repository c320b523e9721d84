"""What the connections of a program say of it."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from authproxy.app.doctor.connections import (
    JAVA,
    MAX_TOLD,
    NO_KEY,
    NO_NEED,
    NO_TRUST,
    NO_USE,
    NO_USE_HERE,
    NOT_REACHED,
    OWN_CREDENTIAL,
    SPOKE_TLS,
    Connections,
    Destination,
    Sent,
    Tunnel,
    judge_elsewhere,
    judge_requests,
    judge_trust,
    judge_use,
)
from authproxy.observe.record import Notes, RequestRecord
from authproxy.proxy.forward.interception import LEFT, NO_TLS_HERE, TLS_HINT

API, OTHER, PLAIN = "api.example:443", "other.example:443", "127.0.0.1:8080"
ROUTE = Destination("api", API)
PLAIN_ROUTE = Destination("plain", PLAIN, is_secure=False)
HERE = Tunnel(API, intercepted=True, named="api.example")
GONE = Tunnel(API, intercepted=True, trouble="it refused our certificate: unknown ca")
GOT = Sent("GET", "/v1", 200, "api", API, within=True)
NO_ROUTE = Sent("GET", "/zz", 404, None, API, "no route covers /zz", "add a route", within=True)
DIRECT = Sent("GET", "/v1", 200, "api")


def told(*came):
    return Connections(
        [each for each in came if isinstance(each, Tunnel)], [each for each in came if isinstance(each, Sent)]
    )


def record(
    method="GET", path="/v1", status=200, *, forward="", cause=None, problem=None, listener=None, inside="",
    token="added",
):  # fmt: skip
    """Return one that came to a route at `listener`, or to none, `inside` an origin's tunnel or elsewhere."""
    notes = Notes()
    notes.problem, notes.forward, notes.listener = problem, forward, inside
    facts = None if listener is None else SimpleNamespace(listener=listener)
    route = None if facts is None else "api"
    return RequestRecord(
        *(0.0, 0.0, route, method, path, status, 0, False, cause, 0.0, path, b"", b"", facts, token, 0, notes)
    )


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
        (record("CONNECT", PLAIN, cause=NO_TLS_HERE), Tunnel(PLAIN, 200, SPOKE_TLS, TLS_HINT)),
    ],
)
def test_a_connect_is_a_tunnel_or_what_was_in_the_way(came, tunnel):
    assert heard(came).tunnels == [tunnel]


def test_a_client_that_closes_in_the_handshake_is_one_that_does_not_trust_us():
    found = heard(record("CONNECT", API, cause="no TLS with the client: the client closed the connection"))
    assert "does not trust" in found.tunnels[0].trouble


def test_a_handshake_is_an_intercepted_tunnel_also_where_nothing_comes_of_it():
    found = heard(record("CONNECT", API, cause=LEFT))
    assert found.tunnels == []
    found.secured(API, "api.example")
    assert found.tunnels == [HERE]


@pytest.mark.parametrize(
    ("came", "sent"),
    [
        (record(listener=f"forward https://{API}"), GOT),
        (record(listener=f"forward https://{API}", token=None), replace(GOT, added=False)),
        (record(listener=f"forward http://{PLAIN}"), Sent("GET", "/v1", 200, "api", PLAIN)),
        (record(listener="127.0.0.1:0 for api"), DIRECT),
        (record("GET", "/zz", 404, inside=f"forward https://{API}", problem={"detail": "no route covers /zz",
                "hint": "add a route"}), NO_ROUTE),
        (record(path=f"http://{PLAIN}/a", status=407, problem={"detail": "no key"}),
         Sent("GET", f"http://{PLAIN}/a", 407, None, PLAIN, "no key")),
        (record(path="http://x.example:80/a", forward="forwarded"),
         Sent("GET", "http://x.example:80/a", 200, None, "x.example:80")),
        (record(status=503, listener=f"forward https://{API}",
                problem={"detail": "no token", "hint": "log in"}),
         Sent("GET", "/v1", 503, "api", API, "no token", "log in", within=True)),
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
        ((Sent("GET", f"http://{OTHER}/", 407, None, OTHER, "key"),), False, "password", NO_KEY),
        ((Tunnel(OTHER, 407, "key"), HERE, GOT), False, f"HTTPS_PROXY, for {OTHER}", NO_KEY),
        ((Tunnel(OTHER),), False, "asked for no route's upstream", f"run something that asks for {API}"),
        ((HERE, HERE, Tunnel(OTHER), GOT), True, "2 intercepted, 1 tunnelled", None),
        ((Tunnel(API, 407, "key"), HERE, GOT), True, "1 intercepted", None),  # it sends the key when asked
        ((Sent("GET", "/", 200, "plain", PLAIN),), True, "it uses HTTP_PROXY: 1 request to a route", None),
        ((HERE, GOT, Sent("GET", "http://x:80/", 200, None, "x:80")), True,
         "it uses HTTPS_PROXY: 1 intercepted, 0 tunnelled; HTTP_PROXY: 0 requests to a route, 1 elsewhere",
         None),
        ((NO_ROUTE, HERE), True, "it uses HTTPS_PROXY: 1 intercepted, 0 tunnelled", None),
        ((Tunnel(PLAIN, 200, SPOKE_TLS),), True, "it uses HTTPS_PROXY: 0 intercepted, 0 tunnelled", None),
        ((HERE, GOT, DIRECT, DIRECT), True, "; 2 requests came by a route's own URL", None),
    ],
)  # fmt: skip
def test_whether_it_uses_the_proxy(came, ok, says, what_next):
    verdict = judge_use(told(*came), [ROUTE, PLAIN_ROUTE] if PLAIN in str(came) else [ROUTE])
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
        ((HERE,), False, "closed the connection after the handshake, as a client that does not trust"),
        ((HERE, NO_ROUTE), True, "accepted"),  # whatever it was answered
        ((HERE, HERE, GOT), True, "accepted"),  # one was opened in advance
    ],
)
def test_whether_it_trusts_us(came, ok, says):
    verdict = judge_trust(API, told(*came))
    assert verdict.ok is ok
    assert says in (verdict.detail or verdict.cause)
    assert verdict.next == (NO_TRUST + JAVA if ok is False else None)


def test_java_is_not_told_to_use_what_it_has_been_given():
    assert judge_trust(API, told(GONE), java=True).next == NO_TRUST


def test_an_upstream_on_this_machine_is_one_that_some_ask_directly():
    assert judge_use(told(), [PLAIN_ROUTE]).next == NO_USE + NO_USE_HERE


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
        ((GOT, NO_ROUTE), False, "GET /zz answered 404: no route covers /zz"),
        ((HERE,), None, "no request came that far"),  # it is `trust` that fails
        ((Tunnel(API, 421, "Host names another host"),), False, "api.example:443: Host names another host"),
        ((Tunnel(API, 407, "no key"), GOT), True, "GET /v1 answered 200"),
        ((replace(GOT, status=0),), False, "GET /v1 was not answered"),
        ((replace(GOT, status=0), GOT), True, "answered 200"),
        ((Sent("GET", "/v1", 401, "api", API),), False, "GET /v1 answered 401"),
        ((Sent("GET", "/v1", 401, "other", API),), None, "no request"),
    ],
)  # fmt: skip
def test_what_became_of_its_requests(came, ok, says):
    verdict = judge_requests(ROUTE, told(*came))
    assert verdict.ok is ok
    assert says in (verdict.detail or verdict.cause)


def test_a_refusal_says_what_to_do():
    hint = judge_requests(ROUTE, told(Sent("GET", "/v2", 503, "api", API, "no token", "log in"))).next
    assert hint == "log in"
    assert judge_requests(ROUTE, told(NO_ROUTE)).next == "add a route"
    assert "authproxy doctor api" in judge_requests(ROUTE, told(Sent("GET", "/", 403, "api", API))).next


def test_a_credential_of_its_own_is_what_a_program_sends_where_none_is_added():
    refused = replace(GOT, status=401, added=False)
    assert judge_requests(ROUTE, told(refused)).next == OWN_CREDENTIAL
    adds_none = Destination("api", API, adds=False)
    assert "authproxy doctor api" in judge_requests(adds_none, told(refused)).next


def test_https_to_a_route_whose_upstream_is_http_is_told_so():
    verdict = judge_requests(PLAIN_ROUTE, told(Tunnel(PLAIN, 200, SPOKE_TLS, TLS_HINT)))
    assert verdict.cause == f"{PLAIN}: the program spoke https, but this route's upstream is http://"
    assert verdict.next == TLS_HINT


def test_a_tunnel_without_a_request_is_no_success_where_no_certificate_is_looked_at():
    quiet = Tunnel(PLAIN, trouble="nothing came in the tunnel", intercepted=True)
    verdict = judge_requests(PLAIN_ROUTE, told(quiet))
    assert (verdict.ok, verdict.cause) == (False, f"{PLAIN}: nothing came in the tunnel")
    assert judge_requests(PLAIN_ROUTE, told(quiet, Sent("GET", "/", 200, "plain", PLAIN))).ok


@pytest.mark.parametrize(
    ("came", "ok", "says", "what_next"),
    [
        ((Tunnel(OTHER), Tunnel(OTHER)), True, "other.example:443 (2 times)", None),
        ((Sent("GET", "http://x:80/", 200, None, "x:80"),), True, "x:80", None),
        ((Tunnel(OTHER, 502, "no such host"),), None, "other.example:443: no such host", NOT_REACHED),
        ((Tunnel(OTHER, 502, "no such host", "check DNS"),), None, "no such host", "check DNS"),
        ((Tunnel(OTHER, 403, "refused here", "add a route"),), False, "other.example:443: refused here",
         "add a route"),
        ((Tunnel("x:1", 504, "late"), Tunnel(OTHER, 403, "refused", "let it")), False, "late", "let it"),
        ((Sent("GET", "/", 404, trouble="no route is mounted there", hint="the routes are: /a"),), False,
         "GET / answered 404: no route is mounted there", "the routes are: /a"),
    ],
)  # fmt: skip
def test_where_else_it_went(came, ok, says, what_next):
    verdict = judge_elsewhere(told(*came), [ROUTE])
    assert verdict.ok is ok
    assert says in (verdict.detail or verdict.cause)
    assert verdict.next == what_next


def test_nowhere_else_is_not_told():
    keyless = Sent("GET", "http://x:80/", 407, None, "x:80", "key")
    came = (HERE, GOT, NO_ROUTE, DIRECT, Tunnel(API, 407, "key"), Tunnel(API, 421, "other host"), keyless)
    assert judge_elsewhere(told(*came), [ROUTE]) is None


def test_a_long_list_is_cut():
    tunnels = [Tunnel(f"{number}.example:443") for number in range(MAX_TOLD + 3)]
    assert judge_elsewhere(told(*tunnels), [ROUTE]).detail.endswith("4.example:443, and 3 more")
