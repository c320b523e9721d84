"""The admin listener's server: its limits and its error pages, before a small application."""

import asyncio

import pytest
from aiohttp import web

from authproxy.admin import listener as listener_module
from authproxy.admin.listener import LARGEST_BODY, problem
from authproxy.errors import BadRequest, KeyRequired

from .talk import Client

END = b"\r\n\r\n"
HEAD = b"GET /page HTTP/1.1\r\nHost: a"
POST = HEAD.replace(b"GET", b"POST")


@pytest.fixture
async def client():
    async def page(request):
        return web.Response(text=await request.text() or "a page")

    async def moved(_request):
        raise web.HTTPFound("/page")

    async def odd(_request):
        raise web.HTTPUnprocessableEntity(text="s3cr3t")

    async def faulty(_request):
        raise RuntimeError("s3cr3t")

    async def stream(request):
        response = web.StreamResponse()
        await response.prepare(request)
        request.protocol.force_close()  # as it does when its reader has gone
        await response.write(b"more")

    application = web.Application(client_max_size=1 << 20)
    application.add_routes(
        [
            web.get("/page", page),
            web.post("/page", page),
            web.get("/moved", moved),
            web.get("/odd", odd),
            web.get("/faulty", faulty),
            web.get("/stream", stream),
        ]
    )
    async with Client(application) as client:
        yield client


async def test_a_page_is_served_and_its_connection_kept(client):
    reply, closed = await client.raw(HEAD + END)
    assert (reply.status, reply.text, closed) == (200, "a page", False)
    assert not client.connections[0].in_flight  # an end of the process need not wait for it


async def test_pages_are_asked_for_one_after_the_other_on_one_connection(client):
    connection, transport = client.connect()
    await asyncio.sleep(0)
    connection.data_received((HEAD + END) * 3)
    for _ in range(200):
        await asyncio.sleep(0)
    assert transport.written.count(b"HTTP/1.1 200 OK") == 3


async def test_a_redirect_is_left_as_it_is(client):
    reply, _ = await client.raw(HEAD.replace(b"/page", b"/moved") + END)
    assert (reply.status, reply.headers["location"]) == (302, "/page")


@pytest.mark.parametrize(
    ("head", "status", "title"),
    [
        (HEAD.replace(b"/page", b"/s3cr3t"), 404, "No such route"),
        (HEAD.replace(b"GET", b"DELETE"), 405, "Method not allowed"),
        (HEAD.replace(b"/page", b"/odd"), 400, "Malformed request"),
        (HEAD + b"\r\nX: " + b"s3cr3t" * 400, 431, "Headers too large"),
        (HEAD.replace(b"/page", b"/page?" + b"s3cr3t" * 400), 431, "Headers too large"),
        (HEAD + b"\r\ns3cr3t", 400, "Malformed request"),
        (b"s3cr3t", 400, "Malformed request"),
    ],
)
async def test_what_goes_wrong_is_told_as_the_proxy_tells_it_and_repeats_nothing(
    client, head, status, title, caplog
):
    caplog.set_level("INFO", "authproxy")
    reply, _ = await client.raw(head + END)
    assert reply.status == status
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.json()["title"] == title
    (told,) = caplog.records
    assert told.facts["id"] == reply.json()["id"]
    assert told.facts["cause"] == reply.json()["detail"]
    assert "s3cr3t" not in str(told.facts)
    assert b"s3cr3t" not in reply.body
    assert "s3cr3t" not in str(reply.headers)


async def test_small_headers_that_are_too_large_together_are_refused(client):
    lines = b"".join(b"\r\nX-%d: xxxxxxxxxxxxxxxxxxxx" % number for number in range(90))
    reply, closed = await client.raw(HEAD + lines + END)
    assert (reply.status, closed) == (431, True)


async def test_a_page_says_which_methods_it_takes(client):
    reply, _ = await client.raw(HEAD.replace(b"GET", b"DELETE") + END)
    assert set(reply.headers["allow"].replace(" ", "").split(",")) == {"GET", "HEAD", "POST"}


async def test_a_body_that_is_announced_too_large_is_refused_unread(client):
    reply, closed = await client.raw(POST + b"\r\nContent-Length: %d" % (LARGEST_BODY + 1) + END)
    assert (reply.status, closed) == (413, True)
    largest = POST + b"\r\nContent-Length: %d" % LARGEST_BODY + END
    reply, _ = await client.raw(largest + b"x" * LARGEST_BODY)
    assert reply.status == 200


async def test_an_error_whose_body_was_not_read_ends_its_connection(client):
    reply, closed = await client.raw(POST.replace(b"/page", b"/no") + b"\r\nContent-Length: 5" + END)
    assert (reply.status, reply.headers["connection"], closed) == (404, "close", True)


async def test_a_client_that_takes_nothing_of_its_answer_is_cut_off(client, monkeypatch):
    monkeypatch.setattr(listener_module, "UNREAD_SECONDS", 0)
    connection, transport = client.connect()
    await asyncio.sleep(0)
    connection.data_received(HEAD + END)
    connection.pause_writing()
    async with asyncio.timeout(5):
        while not transport.closed:
            await asyncio.sleep(0)


# ── a client that ends its half once it has asked ────────────────────────────────────────────────


@pytest.mark.parametrize("count", [1, 3])
async def test_who_has_asked_may_end_its_half_and_gets_its_answers(client, count):
    connection, transport = client.connect()
    connection.data_received((HEAD + END) * count)
    assert connection.eof_received() is True  # so that the transport stays open
    for _ in range(200):
        await asyncio.sleep(0)
    assert transport.written.count(b"HTTP/1.1 200 OK") == count
    assert transport.closed
    assert not connection.leaving  # it will say no more: nothing is to be waited for


@pytest.mark.parametrize(
    "data",
    [b"", HEAD + END, b"GET /pa", HEAD, b"?" + END, POST + b"\r\nContent-Length: 5" + END + b"hel"],
    ids=["nothing", "an answer", "a method", "a head", "no request", "a body"],
)
async def test_who_has_nothing_to_wait_for_is_closed_when_it_ends_its_half(client, data):
    connection, _ = client.connect()
    if data:
        connection.data_received(data)
    for _ in range(200):
        await asyncio.sleep(0)
    assert connection.eof_received() is False


async def test_a_client_that_goes_takes_its_page_along(client):
    connection, transport = client.connect()
    connection.data_received(HEAD + END)
    connection.connection_lost(None)
    for _ in range(20):
        await asyncio.sleep(0)
    assert transport.written == b""
    client.connections.clear()


async def test_a_fault_in_a_page_tells_nothing(client, caplog):
    reply, closed = await client.raw(HEAD.replace(b"/page", b"/faulty") + END)
    assert (reply.status, closed) == (500, True)
    assert b"s3cr3t" not in reply.body
    assert [record.getMessage() for record in caplog.records] == ["internal error"]


async def test_a_reader_that_has_gone_is_no_fault_of_a_page(client, caplog):
    connection, transport = client.connect()
    connection.data_received(HEAD.replace(b"/page", b"/stream") + END)
    while not transport.closed:
        await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    assert caplog.records == []


async def test_a_body_that_is_malformed_is_told(client):
    head = POST + b"\r\nTransfer-Encoding: chunked" + END
    reply, closed = await client.raw(head + b"s3cr3t\r\n")
    assert (reply.status, closed) == (400, True)
    assert b"s3cr3t" not in reply.body


async def test_chunks_of_an_http_1_0_client_end_its_connection(client):
    head = (
        POST.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked"
    )
    reply, closed = await client.raw(head + END + b"0\r\n\r\n")
    assert (reply.status, closed) == (200, True)


async def test_at_its_limit_the_one_that_was_idle_for_longest_makes_room(client):
    made = [client.connect() for _ in range(8)]
    made[0][0].data_received(HEAD + END)
    for _ in range(200):
        await asyncio.sleep(0)
    client.connect()
    assert [transport.closed for _, transport in made] == [False, True, *[False] * 6]


async def test_what_aiohttp_asks_of_a_connection_is_there(client):
    connection, _ = client.connect()
    assert (connection.sockname, connection.peername) == (("127.0.0.1", 8081), None)
    assert connection._paused is False
    await connection._drain_helper()
    gone, _ = client.connect()
    gone.transport = None
    assert (gone.sockname, gone.peername) == (None, None)


async def test_over_its_limit_the_listener_turns_clients_away(client):
    for _ in range(8):
        connection, _ = client.connect()
        connection.data_received(b"GET /hea")  # in the middle of a request: an idle one would make room
    _, transport = client.connect()
    for _ in range(20):
        await asyncio.sleep(0)
    assert transport.written.startswith(b"HTTP/1.1 503 ")


async def test_a_problem_closes_its_connection_only_where_that_is_said():
    error = KeyRequired("a key is wanted")
    assert problem(error).status == 401
    assert problem(error).headers["WWW-Authenticate"].startswith("AuthproxyKey")
    assert problem(error).keep_alive is None
    assert problem(BadRequest("no"), close=True).keep_alive is False


# ── a listener that is gone ──────────────────────────────────────────────────────────────────────


async def test_who_is_connected_when_it_goes_is_answered_once_at_most(client, monkeypatch):
    monkeypatch.setattr(listener_module, "NEW_SECONDS", 0)
    idle, quiet = client.connect(), client.connect()
    idle[0].data_received(HEAD + END)
    asking = client.connect()
    asking[0].data_received(POST + b"\r\nContent-Length: 2" + END)
    for _ in range(200):
        await asyncio.sleep(0)
    client.server.retire()
    assert idle[1].closed
    assert not quiet[1].closed  # it is about to ask
    asking[0].data_received(b"no" + HEAD + END)
    for _ in range(200):
        await asyncio.sleep(0)
    assert asking[1].written.count(b"HTTP/1.1 200 OK") == 1
    assert b"Connection: close" in asking[1].written
    assert asking[1].closed
    await asyncio.sleep(0.01)
    assert quiet[1].closed
    assert (await client.ask("/page")).status == 200  # who comes later, by another listener, is served
