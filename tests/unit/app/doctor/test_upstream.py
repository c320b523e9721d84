"""The one request, and what is asked after a 404: by senders that keep what they are given."""

from types import SimpleNamespace

import pytest
from pydantic import SecretStr

from authproxy.app.doctor.network import Target
from authproxy.app.doctor.upstream import Question, Upstream
from authproxy.errors import BadReply, ResponseTimeout
from authproxy.grants.static import Static
from authproxy.net.dial import Origin
from authproxy.proxy.allow import Allow
from authproxy.proxy.headers import RequestHeaders, ResponseHeaders
from authproxy.proxy.route import Route
from authproxy.tokens.token import Token
from tests.support.injection import header_injection

TOKEN = Token("t0ken")


class Sender:
    """Answers by the target; keeps each head and credential."""

    def __init__(self, statuses, failure=None):
        self.statuses = statuses
        self.failure = failure
        self.sent = []

    async def send(self, outgoing, credential):
        self.sent.append((outgoing.head.decode(), credential))
        if self.failure is not None:
            raise self.failure
        status = self.statuses.get(outgoing.head.split(b" ")[1].decode(), 404)
        outgoing.reply = SimpleNamespace(
            status=status, headers=[], read=self.nothing, close=lambda: None, watcher=None, watched=None
        )
        return outgoing.reply

    async def nothing(self):
        return []


class Credential:
    """Adds a line, and repeats nothing."""

    injection = header_injection("Authorization", "Bearer")

    def __init__(self, *statuses):
        self.statuses = frozenset(statuses)

    def refuses(self, reply, _outgoing):
        return reply.status in self.statuses

    async def send(self, outgoing, sender, token):
        return await sender.send(outgoing, f"Authorization: Bearer {token.value}\r\n".encode())


def upstream(sender, *, base="/v2", allow=None, statuses=(401,)):
    route = Route(
        name="a", host=None, path="/", strip="", base=base, sender=sender,
        request_headers=RequestHeaders(host="a.example", set_pairs=[("X-Key", "mine")]),
        response_headers=ResponseHeaders(), credential=Credential(*statuses), allow=allow,
    )  # fmt: skip
    grant = Static(token=SecretStr("t"))
    config = SimpleNamespace(grant=grant, host=None)
    proxied = Target(Origin("a.example", 80), proxy=object())  # none is probed for TLS
    return Upstream(route, config, proxied)


@pytest.mark.parametrize("status", [203, 404])
async def test_an_answer_that_the_route_takes_for_a_no_is_one(status):
    sender = Sender({"/v2/x": status})
    verdict = await upstream(sender, statuses=(401, status)).examine(Question("/x"), TOKEN)
    assert not verdict.ok
    assert f"answered {status} to a Bearer credential" in verdict.cause
    assert len(sender.sent) == 1, "no other way to join the paths is tried"


async def test_the_request_goes_out_as_the_route_has_it():
    sender = Sender({"/v2/x?q=1": 200})
    verdict = await upstream(sender).examine(Question("/x?q=1"), TOKEN)
    ((head, credential),) = sender.sent
    assert verdict.ok
    assert "q=1" not in verdict.detail
    assert head.startswith("GET /v2/x?q=1 HTTP/1.1\r\nHost: a.example\r\n")
    assert "X-Key: mine" in head
    assert credential == b"Authorization: Bearer t0ken\r\n"


async def test_what_follows_a_404_carries_nothing_of_ours():
    sender = Sender({"/x": 401})
    verdict = await upstream(sender).examine(Question("/x"), TOKEN)
    assert "joined wrongly" in verdict.cause
    assert len(sender.sent) == 3
    for head, credential in sender.sent[1:]:
        assert credential == b""
        assert "X-Key" not in head


async def test_the_method_is_one_that_allow_lets_out():
    sender = Sender({"/v2/": 200})
    await upstream(sender, allow=Allow(methods=["HEAD"])).examine(Question(), TOKEN)
    assert sender.sent[0][0].startswith("HEAD /v2/ ")


async def test_what_allow_refuses_is_not_sent():
    sender = Sender({})
    verdict = await upstream(sender, allow=Allow(methods=["POST"])).examine(Question(), TOKEN)
    assert verdict.ok is None
    assert not sender.sent


@pytest.mark.parametrize(
    ("failure", "says"), [(ResponseTimeout("slow"), "timeouts.response"), (BadReply("bad"), "speaks HTTP")]
)
async def test_no_answer_is_explained(failure, says):
    verdict = await upstream(Sender({}, failure)).examine(Question(), TOKEN)
    assert verdict.cause == failure.detail
    assert says in verdict.next
