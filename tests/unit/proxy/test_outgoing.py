"""A request's body as it goes to the upstream, and who waits to be asked for it."""

import asyncio

import pytest
from aiohttp.http import HttpVersion10, HttpVersion11

from authproxy.errors import BadReply

from .world import World, failing, silent, whole

# ── a request's body ─────────────────────────────────────────────────────────────────────────────


async def test_a_body_is_sent_as_it_is_framed(payload):
    world = World(whole(), whole())
    await world.ask(method="PUT", body=payload(b"body"), Content_Length="4")
    assert world.upstream.lent[0].said.endswith(b"\r\n\r\nbody")
    world.client.kept = None
    await world.ask(method="PUT", body=payload(b"body"), Transfer_Encoding="chunked")
    assert world.upstream.heads[1].count("Transfer-Encoding: chunked") == 1
    assert world.upstream.lent[1].said.endswith(b"\r\n\r\n4\r\nbody\r\n0\r\n\r\n")


async def test_a_refused_request_with_a_body_is_sent_once_more_with_all_of_it(payload):
    world = World(whole(401), whole(200))
    assert (await world.ask(method="POST", body=payload(b"body"), Content_Length="4"))[0] == 200
    assert [lent.said.rpartition(b"\r\n\r\n")[2] for lent in world.upstream.lent] == [b"body"] * 2


@pytest.mark.parametrize(
    ("end", "version", "told"),
    [(False, HttpVersion11, True), (True, HttpVersion11, False), (False, HttpVersion10, False)],
)
async def test_a_client_that_waits_for_it_is_told_to_go_on(payload, end, version, told):
    world = World(silent)
    body = payload(b"", end=end)
    await world.quick(method="PUT", body=body, version=version, Content_Length="4", Expect="100-continue")
    assert world.client.transport.written == (b"HTTP/1.1 100 Continue\r\n\r\n" if told else b"")
    assert "Expect" not in world.upstream.heads[0]
    world.client.sent.give_up()


async def test_a_client_is_not_told_to_go_on_with_a_body_that_is_refused(payload):
    world = World(limits={"body_bytes": 3})
    body = payload(end=False)
    assert (await world.ask(method="PUT", body=body, Content_Length="4", Expect="100-continue"))[0] == 413


async def test_an_upload_is_broken_off_before_we_answer_ourselves(payload):
    world = World(failing(BadReply("no HTTP")))
    body = payload(b"some", end=False)
    await world.ask(method="PUT", body=body, Content_Length="9")
    assert world.problem[0] == 502
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "upload"]
