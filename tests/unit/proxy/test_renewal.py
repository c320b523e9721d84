"""Sending with a token, and once more with another: how often, and with what."""

import asyncio

import pytest
from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol

from authproxy.errors import BadReply, BodyTooLarge, ConnectFailure, TokenUnavailable
from authproxy.proxy.body import Body
from authproxy.proxy.renewal import Credential
from authproxy.proxy.send import Outgoing, Sender
from authproxy.proxy.upstream.connection import ClosedUnanswered
from authproxy.tokens.token import Token
from tests.support.clock import settle
from tests.support.injection import header_injection
from tests.support.token_sources import CachedTokens
from tests.support.upstream_pool import Pool, Reply, dead

HEAD = b"GET / HTTP/1.1\r\n"
A, B, C = Token("a"), Token("b"), Token("c")


def sender(upstream):
    return Sender(upstream, response_seconds=60, idle_seconds=60)


def credential(source, clock=lambda: 0.0, **changes):
    settings = {
        "injection": header_injection("Authorization", "Bearer"),
        "statuses": frozenset({401}),
        "idempotent_only": False,
        "cooldown": 30.0,
    }
    return Credential(source, clock=clock, **settings | changes)


def outgoing(method="GET", body=None):
    return Outgoing(method, HEAD, body)


async def ask(credential, upstream, request=None):
    return await credential.send(request or outgoing(), sender(upstream))


@pytest.fixture
async def body():
    """Return a maker of bodies whose pieces have not arrived yet; `.payload` takes them."""
    loop = asyncio.get_running_loop()

    def make(*, length=None, keep=100, limit=None):
        protocol = BaseProtocol(loop)
        protocol.transport = asyncio.Transport()  # the client is there
        payload = StreamReader(protocol, limit=1 << 16, loop=loop)
        body = Body(payload, length=length, keep=keep, limit=limit)
        return body, payload

    return make


# ── with a token ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "Authorization: Bearer a"),
        ({"injection": header_injection("Authorization", "Token")}, "Authorization: Token a"),
        ({"injection": header_injection("X-Api-Key")}, "X-Api-Key: a"),
    ],
)
async def test_the_credential_goes_out_last(changes, line):
    upstream = Pool(200)
    reply = await ask(credential(CachedTokens(A), **changes), upstream)
    assert upstream.requests[0].said == HEAD + line.encode() + b"\r\n\r\n"
    assert reply.status == 200


async def test_a_held_token_is_used_without_asking():
    source = CachedTokens(A)
    source.current = B
    upstream = Pool(200)
    await ask(credential(source), upstream)
    assert upstream.credentials == ["Authorization: Bearer b"]
    assert source.asked == []


async def test_without_a_token_nothing_is_sent():
    upstream = Pool(200)
    with pytest.raises(TokenUnavailable):
        await ask(credential(CachedTokens(TokenUnavailable("down"))), upstream)
    assert upstream.requests == []


# ── and once more with another ───────────────────────────────────────────────────────────────────


async def test_a_refused_token_is_replaced_and_the_request_sent_once_more():
    upstream, source = Pool(401, 200), CachedTokens(A, B)
    request = outgoing()
    reply = await ask(credential(source), upstream, request)
    assert reply.status == 200
    assert upstream.credentials == ["Authorization: Bearer a", "Authorization: Bearer b"]
    assert source.asked == [None, A]
    assert request.retried
    assert upstream.all[0].closed  # the first reply is done with


@pytest.mark.parametrize("status", [200, 400, 403, 404, 500, 503])
async def test_any_other_answer_is_passed_on(status):
    upstream, source = Pool(status), CachedTokens(A, B)
    assert (await ask(credential(source), upstream)).status == status
    assert source.asked == [None]


async def test_other_statuses_count_when_the_route_says_so():
    upstream = Pool(403, 200)
    reply = await ask(credential(CachedTokens(A, B), statuses=frozenset({401, 403})), upstream)
    assert reply.status == 200


async def test_without_statuses_nothing_is_repeated():
    upstream, source = Pool(401), CachedTokens(A, B)
    assert (await ask(credential(source, statuses=frozenset()), upstream)).status == 401
    assert source.asked == [None]


@pytest.mark.parametrize("name", [b"WWW-Authenticate", b"www-authenticate"])
async def test_too_little_scope_is_not_mended_by_another_token(name):
    challenge = [(b"X", b"y"), (name, b'Bearer realm="x", error="insufficient_scope"')]
    upstream, source = Pool(Reply(401, challenge)), CachedTokens(A, B)
    assert (await ask(credential(source), upstream)).status == 401
    assert source.asked == [None]


async def test_a_challenge_that_merely_mentions_scope_is_mended_by_another_token():
    says = b'Bearer error="invalid_token", error_description="expired; this is not insufficient_scope"'
    upstream = Pool(Reply(401, [(b"WWW-Authenticate", says)]), 200)
    assert (await ask(credential(CachedTokens(A, B)), upstream)).status == 200
    assert upstream.credentials == ["Authorization: Bearer a", "Authorization: Bearer b"]


async def test_when_no_other_token_can_be_had_the_upstreams_own_401_is_passed_on():
    upstream, source = Pool(401), CachedTokens(A, TokenUnavailable("down"))
    reply = await ask(credential(source), upstream)
    assert reply.status == 401
    assert not reply.closed


async def test_a_source_that_has_nothing_else_to_say_is_not_repeated():
    upstream, source = Pool(401), CachedTokens(A, A)
    request = outgoing()
    assert (await ask(credential(source), upstream, request)).status == 401
    assert not request.retried


async def test_a_401_for_an_old_token_uses_the_newer_one_that_is_there():
    upstream, source = Pool(401, 200), CachedTokens(A)
    original = upstream.connect

    async def connect():
        if upstream.connects == 0:  # meanwhile, somebody else renews
            source.current = B
        return await original()

    source.current, upstream.connect = A, connect
    await ask(credential(source), upstream)
    assert upstream.credentials == ["Authorization: Bearer a", "Authorization: Bearer b"]
    assert source.tokens == [A]  # nothing was fetched


class Fussy(Pool):
    """Takes no other token than B."""

    def answer(self, request):
        return Reply(200 if request.credential.endswith(" b") else 401)


async def test_a_storm_of_401s_is_repeated_once_each():
    upstream, source = Fussy(), CachedTokens(B, C)
    source.current = A
    whole = credential(source)
    replies = await asyncio.gather(*(ask(whole, upstream) for _ in range(50)))
    assert {reply.status for reply in replies} == {200}
    assert source.tokens == [C]  # one was fetched
    assert len(upstream.requests) == 100


async def test_a_storm_at_a_route_that_always_says_401_fetches_once():
    upstream, source = Pool(*[401] * 100), CachedTokens(B, C)
    source.current = A
    whole = credential(source)
    replies = await asyncio.gather(*(ask(whole, upstream) for _ in range(50)))
    assert {reply.status for reply in replies} == {401}
    assert source.tokens == [C]


@pytest.mark.parametrize(
    ("method", "repeated"), [("GET", True), ("PUT", True), ("POST", False), ("PATCH", False)]
)
async def test_a_route_may_repeat_idempotent_methods_only(method, repeated):
    upstream, source = Pool(401, 200), CachedTokens(A, B)
    reply = await ask(credential(source, idempotent_only=True), upstream, outgoing(method))
    assert reply.status == (200 if repeated else 401)
    assert source.current is B  # the next request has the new token in any case


async def test_the_wait_for_another_token_can_be_given_up():
    upstream, source = Pool(Reply(401, complete=False)), CachedTokens(A, asyncio.CancelledError())

    async def give_up(*, instead_of=None):
        raise asyncio.CancelledError

    source.current, source.token = A, give_up
    request = outgoing()
    with pytest.raises(asyncio.CancelledError):
        await ask(credential(source), upstream, request)
    await request.close()
    assert upstream.all[0].closed


# ── a route that always says 401 ─────────────────────────────────────────────────────────────────


async def test_a_route_that_always_says_401_fetches_once_a_cooldown(clock):
    source = CachedTokens(*(Token(str(number)) for number in range(100)))
    whole, answers = credential(source, clock), []
    for _ in range(91):
        upstream = Pool(401, 401)
        answers.append((await ask(whole, upstream)).status)
        clock.advance(1)
    assert set(answers) == {401}
    assert len(source.asked) == 1 + 4  # the first token, and one at 0, 30, 60 and 90 s


async def test_a_token_that_once_did_what_it_should_is_replaced_at_once(clock):
    source = CachedTokens(A, B, C)
    whole = credential(source, clock)
    await ask(whole, Pool(401, 200))
    assert (await ask(whole, Pool(401, 200))).status == 200
    assert source.current is C


async def test_a_fresh_token_that_was_not_tried_at_once_is_on_trial_too(clock, body):
    source = CachedTokens(A, B, C)
    whole = credential(source, clock)
    unrepeatable, payload = body(length=1000, keep=10)
    payload.feed_eof()
    assert (await ask(whole, Pool(401), outgoing("POST", unrepeatable))).status == 401
    assert (await ask(whole, Pool(401))).status == 401  # with B, which does no better
    assert source.current is B


async def test_an_answer_that_is_accepted_ends_the_trial():
    source = CachedTokens(B, C)
    whole = credential(source)
    source.current = A
    await ask(whole, Pool(401, 500))  # B was taken: whatever 500 means, it is no refusal
    assert (await ask(whole, Pool(401, 200))).status == 200


# ── bodies ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_body_at_hand_goes_out_with_the_head(body):
    whole, payload = body(length=4)
    payload.feed_data(b"body")
    payload.feed_eof()
    upstream = Pool(401, 200)
    await ask(credential(CachedTokens(A, B)), upstream, outgoing("POST", whole))
    assert [request.said.partition(b"\r\n\r\n")[2] for request in upstream.requests] == [b"body", b"body"]
    assert not any(request.more for request in upstream.requests)


async def test_a_body_that_is_still_coming_is_sent_as_it_comes(body):
    whole, payload = body()
    upstream = Pool(Reply(200, complete=False))
    payload.feed_data(b"one")
    asked = outgoing("POST", whole)
    await sender(upstream).send(asked, b"")
    await settle()
    (request,) = upstream.requests
    assert request.said == HEAD + b"\r\n3\r\none\r\n"
    assert not asked.upload.done()
    payload.feed_data(b"two")
    payload.feed_eof()
    await settle()
    assert request.said == HEAD + b"\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
    assert asked.upload.done()


async def test_a_refusal_that_comes_early_does_not_stop_the_upload(body):
    whole, payload = body(length=6)
    payload.feed_data(b"one")
    upstream = Pool(401, 200)

    async def finish():
        await settle()
        payload.feed_data(b"two")
        payload.feed_eof()

    reply, _ = await asyncio.gather(
        ask(credential(CachedTokens(A, B)), upstream, outgoing("POST", whole)), finish()
    )
    await settle()
    assert reply.status == 200
    assert upstream.requests[1].said.endswith(b"\r\n\r\nonetwo")


async def test_a_body_too_long_to_keep_is_not_repeated(body):
    whole, payload = body(keep=3)
    payload.feed_data(b"four")
    payload.feed_eof()
    upstream, source = Pool(401), CachedTokens(A, B)
    assert (await ask(credential(source), upstream, outgoing("POST", whole))).status == 401
    assert len(upstream.requests) == 1
    assert source.current is B


async def test_an_upload_that_fails_is_told_to_the_connection(body):
    whole, payload = body(limit=3)
    upstream = Pool(200)
    asked = outgoing("POST", whole)
    await sender(upstream).send(asked, b"")
    payload.feed_data(b"four")
    await settle()
    assert isinstance(upstream.requests[0].failure, BodyTooLarge)
    await asked.close()


async def test_closing_a_request_frees_the_clients_body(body):
    whole, payload = body()
    upstream = Pool(Reply(200, complete=False))
    asked = outgoing("POST", whole)
    reply = await sender(upstream).send(asked, b"")
    await asked.close()
    payload.feed_data(b"x")
    payload.feed_eof()
    await settle()
    assert whole.at_hand() == b"x"  # nobody else has read it
    assert reply.closed


@pytest.mark.parametrize("idle", [0, 1], ids=["a new connection", "one at hand"])
async def test_a_connection_lent_in_vain_is_given_back(body, idle):
    whole, payload = body(limit=3)
    payload.feed_data(b"four")
    payload.feed_eof()
    upstream, request = Pool(200, idle=idle), outgoing("POST", whole)
    lent = upstream.lent
    with pytest.raises(BodyTooLarge):
        await sender(upstream).send(request, b"")
    await request.close()
    assert [connection.aborted for connection in lent] == [True]
    assert not upstream.requests


# ── dead connections ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
async def test_a_dead_kept_connection_is_replaced_once(method):
    upstream = Pool(dead(), 200, idle=2)
    reply = await sender(upstream).send(outgoing(method), b"")
    assert reply.status == 200
    assert (upstream.connects, len(upstream.requests)) == (1, 2)  # the second is a new one


@pytest.mark.parametrize("method", ["POST", "PATCH", "UNKNOWN"])
async def test_what_may_have_been_done_is_not_done_again(method):
    upstream = Pool(dead(), 200, idle=1)
    with pytest.raises(BadReply):
        await sender(upstream).send(outgoing(method), b"")
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(("method", "looks"), [("GET", False), ("POST", True)])
async def test_for_what_must_not_be_sent_twice_the_connection_is_looked_at_first(method, looks):
    upstream = Pool(200, idle=1)
    await sender(upstream).send(outgoing(method), b"")
    assert upstream.looked == [looks]


async def test_a_put_whose_body_is_gone_is_not_sent_again(body):
    whole, payload = body(keep=3)
    payload.feed_data(b"four")
    payload.feed_eof()
    upstream = Pool(dead(), 200, idle=1)
    with pytest.raises(ClosedUnanswered):
        await sender(upstream).send(outgoing("PUT", whole), b"")


@pytest.mark.parametrize("failure", [BadReply("broken"), ConnectFailure("refused")])
async def test_another_failure_is_not_repeated(failure):
    upstream, request = Pool(failure, 200, idle=1), outgoing()
    with pytest.raises(type(failure)):
        await sender(upstream).send(request, b"")
    await request.close()
    assert len(upstream.requests) == 1
    assert upstream.all[0].closed


async def test_a_connection_that_was_waited_for_may_turn_out_dead_too():
    upstream = Pool(dead(), 200)
    reply = await sender(upstream).send(outgoing(), b"")
    assert reply.status == 200


async def test_what_was_begun_at_once_is_gone_on_with():
    upstream = Pool(200, idle=1)
    one, request = sender(upstream), outgoing()
    begun = one.begin_at_once(request, b"")
    assert await one.send(request, b"") is begun
    assert len(upstream.requests) == 1


async def test_nothing_is_begun_at_once_without_a_connection_at_hand():
    upstream = Pool()
    assert sender(upstream).begin_at_once(outgoing(), b"") is None
    assert upstream.connects == 0
