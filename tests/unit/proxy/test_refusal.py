"""What is said of an upstream's refusal: to whoever gets the answer, and to the route's standing."""

from time import time
from types import SimpleNamespace

import pytest

from authproxy.observe.standing import Standing
from authproxy.proxy.refusal import (
    KEPT,
    NO_CREDENTIAL,
    NO_ROUTE,
    NOT_ALLOWED,
    SCOPE,
    WRONG_STATIC,
    WRONG_TOKEN,
    refusal_line,
)
from authproxy.proxy.send import Outgoing
from authproxy.tokens.token import Token
from tests.support.injection import header_injection

TOKEN_HINT, STATIC_HINT = (each.format(where="scheme") for each in (WRONG_TOKEN, WRONG_STATIC))
LACKS = [(b"WWW-Authenticate", b'Bearer error="insufficient_scope"')]


class Credential:
    injection = header_injection("Authorization", "Bearer")

    def __init__(self, static=None, statuses=(401,)):
        self.static = static
        self.refuses = lambda reply, _outgoing: reply.status in statuses


STATIC = Credential("a static token")
SENDER = SimpleNamespace(pool=SimpleNamespace(origin="http://other.example"))
OWN = "no credential: the caller's own Authorization was kept (incoming: keep)"


class World:
    """A request to a route that adds a token, and what is noted of it."""

    def __init__(self, *, credential=None, injects=True, age=2.4, issued=True, **outgoing):
        self.noted = []
        standing = Standing("up42", lambda _name, refusal: self.noted.append(refusal))
        self.route = SimpleNamespace(
            name="up42", credential=credential or Credential(), standing=standing, sender=SENDER
        )
        self.context = SimpleNamespace(
            injects=injects,
            token=Token("s3cr3t", issued_at=time() - age if issued else 0.0) if injects else None,
            retried=outgoing.get("retried", False),
            outgoing=Outgoing("GET", b""),
        )
        for name, value in outgoing.items():
            setattr(self.context.outgoing, name, value)

    def line(self, status=401, headers=()):
        reply = SimpleNamespace(status=status, headers=list(headers))
        return refusal_line(self.context, self.route, reply).decode()


def details(line, status=401):
    start = f'Proxy-Status: authproxy; received-status={status}; details="'
    assert line.startswith(start)
    assert line.endswith('"\r\n')
    return line.removeprefix(start).removesuffix('"\r\n')


@pytest.mark.parametrize("status", [200, 302, 400, 404, 407, 500, 503])
def test_another_answer_needs_no_explanation(status):
    world = World()
    assert world.line(status) == ""
    assert world.noted == []


@pytest.mark.parametrize(
    ("settings", "status", "headers", "said", "hint"),
    [
        ({"retried": True}, 401, (), "a token renewed 2 s ago, repeated once", TOKEN_HINT),
        ({}, 401, (), "a token obtained 2 s ago", TOKEN_HINT),
        ({}, 403, (), "a token obtained 2 s ago", NOT_ALLOWED),
        ({"issued": False}, 401, (), "a token", TOKEN_HINT),
        ({"not_repeated": "no"}, 401, (), "a token obtained 2 s ago, not repeated: no", TOKEN_HINT),
        ({"credential": STATIC, "not_repeated": "no"}, 401, (), "a static token", STATIC_HINT),
        ({"credential": STATIC}, 403, (), "a static token", NOT_ALLOWED),
        ({"injects": False}, 401, (), OWN, KEPT),
        ({}, 403, LACKS, "the token has too little scope", SCOPE),
        ({"credential": Credential(statuses=(418,))}, 418, (), "a token obtained 2 s ago", TOKEN_HINT),
    ],
)  # fmt: skip
def test_a_refusal_says_what_was_sent_and_what_to_do(settings, status, headers, said, hint):
    world = World(**settings)
    assert details(world.line(status, headers), status) == said
    [refusal] = world.noted
    assert (refusal.status, refusal.sent, refusal.hint) == (status, said, hint)
    assert not refusal.lasts


def test_a_route_without_a_credential_says_so():
    world = World()
    world.route.credential = None
    world.context.injects = False
    assert details(world.line()) == "no credential: this route adds none (grant: none)"
    assert world.noted[0].hint == NO_CREDENTIAL


def test_a_host_that_is_no_routes_is_named():
    world = World()
    world.route.name, world.route.credential, world.context.injects = "", None, False
    assert details(world.line()) == "no credential was added: no route's upstream is http://other.example"
    assert world.noted[0].hint == NO_ROUTE


def test_what_another_token_does_not_help_lasts():
    world = World(retried=True, refused=True)
    world.line()
    assert world.route.standing.refused.lasts


def test_the_same_refusal_is_the_same_cause_however_old_the_token_is():
    one, other = World(age=1, retried=True), World(age=500, retried=True)
    one.line()
    other.line()
    assert one.noted[0].cause == other.noted[0].cause
    assert one.noted[0].sent != other.noted[0].sent


def test_a_name_with_quotes_cannot_break_the_line():
    world = World(injects=False)
    world.route.credential.injection = header_injection('X-"Odd\\')
    assert '\\"Odd\\\\' in world.line()


@pytest.mark.parametrize(
    ("challenge", "sent"),
    [
        (b"Token", ", sent as Bearer where the upstream asks for Token: set `scheme: Token`"),
        (b'Basic realm="x"', ", sent as Bearer where the upstream asks for Basic: set `grant: basic`"),
        (b"Bearer", ""),
    ],
)
def test_a_scheme_that_the_upstream_asks_for_instead_is_named(challenge, sent):
    world = World(credential=STATIC)
    assert details(world.line(headers=[(b"WWW-Authenticate", challenge)])) == f"a static token{sent}"
    assert ("the upstream asks for" in world.noted[0].hint) is bool(sent)


def test_what_the_caller_sent_itself_is_not_our_scheme():
    line = World(injects=False).line(headers=[(b"WWW-Authenticate", b"Token")])
    assert details(line) == OWN
