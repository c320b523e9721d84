"""The views of the admin API, before a backend that is a fake."""

import asyncio

import pytest

from authproxy.admin.application import admin_application
from authproxy.admin.events import COMMENT, Streams
from authproxy.errors import CredentialRejected, Fault, NoRoute, NoSuchRequest, NotReplayable, TooManyTries
from authproxy.observe.feed import MAX_RATE
from authproxy.observe.recent import Filter
from authproxy.proxy.guard import Guard

from .talk import Client

KNOWN = "0" * 22
FAULT = Fault("proxy.yaml", 3, 5, "routes[0].name", "is required")


class Backend:
    """Answers with what it is told to; `trouble` is raised instead."""

    def __init__(self):
        self.guard = Guard()
        self.serves_api = True
        self.streams = Streams()
        self.trouble = None
        self.faults = []
        self.asked = []

    async def _answer(self, answer, *asked):
        self.asked.append(asked)
        if self.trouble is not None:
            raise self.trouble
        return answer

    async def status(self):
        return await self._answer({"routes": []}, "status")

    async def requests(self, wanted):
        return await self._answer([{"id": KNOWN}], "requests", wanted)

    async def request(self, wanted):
        return await self._answer({"id": wanted}, "request", wanted)

    async def replay(self, wanted):
        return await self._answer("f" * 22, "replay", wanted)

    async def refresh(self, name):
        return await self._answer({"name": name}, "refresh", name)

    async def forget(self, name):
        return await self._answer(None, "forget", name)

    async def reload(self):
        return await self._answer(self.faults, "reload")


@pytest.fixture
def backend():
    return Backend()


@pytest.fixture
async def client(backend):
    async with Client(admin_application(backend, form_seconds=0.2)) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "target", "asked", "status", "document"),
    [
        ("GET", "/api/status", ("status",), 200, {"routes": []}),
        ("GET", "/api/requests", ("requests", Filter()), 200, {"requests": [{"id": KNOWN}]}),
        ("GET", f"/api/requests/{KNOWN}", ("request", KNOWN), 200, {"id": KNOWN}),
        ("POST", f"/api/requests/{KNOWN}/replay", ("replay", KNOWN), 202, {"id": "f" * 22}),
        ("POST", "/api/routes/up42/refresh", ("refresh", "up42"), 200, {"name": "up42"}),
        ("POST", "/api/reload", ("reload",), 200, {"reloaded": True}),
    ],
)
async def test_each_endpoint_asks_its_question_and_answers_in_json(
    client, backend, method, target, asked, status, document
):
    reply = await client.ask(target, method=method)
    assert (reply.status, reply.json()) == (status, document)
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert backend.asked == [asked]


async def test_what_is_forgotten_needs_no_words(client, backend):
    reply = await client.ask("/api/routes/up42/forget", method="POST")
    assert (reply.status, reply.body) == (204, b"")
    assert backend.asked == [("forget", "up42")]


async def test_a_filter_is_read_and_empty_parts_of_it_count_for_nothing(client, backend):
    await client.ask("/api/requests?route=a&status=4xx&method=put&q=x%20y&limit=3&before=&other=1")
    assert backend.asked == [
        ("requests", Filter.of(route="a", status="4xx", method="put", q="x y", limit="3"))
    ]


@pytest.mark.parametrize("query", ["rate=0", "rate=-1", "rate=fast", "rate=1.5", "rate=1&rate=2"])
async def test_a_rate_that_means_nothing_is_named(client, query):
    reply = await client.ask(f"/api/requests/stream?{query}")
    assert reply.status == 400
    assert reply.json()["detail"].startswith("rate: ")


@pytest.mark.parametrize(
    ("query", "rate"),
    [
        ("", MAX_RATE),
        ("?rate=", MAX_RATE),
        ("?rate=50", 50),
        ("?rate=007", 7),
        (f"?rate={'9' * 30}", MAX_RATE),
    ],
)
async def test_a_stream_is_opened_for_the_rate_that_is_enough(client, backend, query, rate):
    heard = []
    backend.streams = Streams(heard.append)
    await client.ask(f"/api/requests/stream{query}")
    assert heard[0] == rate


@pytest.mark.parametrize(
    ("query", "named"), [("status=ok", "status"), ("limit=0", "limit"), ("q=a&q=b", "q")]
)
async def test_a_filter_that_means_nothing_is_named(client, backend, query, named):
    reply = await client.ask(f"/api/requests?{query}")
    assert reply.status == 400
    assert reply.json()["detail"].startswith(f"{named}: ")
    assert backend.asked == []


async def test_faults_of_the_configuration_are_told_with_their_places(client, backend):
    backend.faults = [FAULT]
    reply = await client.ask("/api/reload", method="POST")
    assert reply.status == 422
    assert reply.json() == {
        "faults": [
            {
                "file": "proxy.yaml", "line": 3, "column": 5,
                "key": "routes[0].name", "message": "is required",
            }
        ]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("trouble", "method", "target", "status"),
    [
        (NoSuchRequest("no"), "GET", f"/api/requests/{KNOWN}", 404),
        (NoRoute("no"), "POST", "/api/routes/x/forget", 404),
        (NotReplayable("no"), "POST", f"/api/requests/{KNOWN}/replay", 409),
        (TooManyTries("no", retry_after=9), "POST", "/api/routes/x/refresh", 429),
        (CredentialRejected("no", error="invalid_grant"), "POST", "/api/routes/x/refresh", 502),
    ],
)
async def test_what_goes_wrong_is_a_problem_and_the_connection_goes_on(
    client, backend, trouble, method, target, status
):
    backend.trouble = trouble
    reply = await client.ask(target, method=method)
    assert reply.status == status
    assert reply.headers["content-type"] == "application/problem+json"
    assert (reply.json()["detail"], reply.json().get("error")) == ("no", trouble.error)
    about_a_route = "/routes/" in target and not isinstance(trouble, NoRoute)
    assert reply.json().get("route") == ("x" if about_a_route else None)
    assert reply.headers.get("connection") != "close"
    if trouble.retry_after is not None:
        assert reply.headers["retry-after"] == "9"


async def test_nothing_is_done_before_the_whole_request_is_there(client, backend):
    head = b"POST /api/routes/up42/forget HTTP/1.1\r\nHost: 127.0.0.1:8081\r\nContent-Length: 10\r\n\r\nhalf"
    connection, transport = client.connect()
    await asyncio.sleep(0)
    connection.data_received(head)
    while not transport.written:
        await asyncio.sleep(0.01)
    assert transport.written.startswith(b"HTTP/1.1 408")
    assert backend.asked == []


async def test_where_others_could_reach_it_there_is_no_api(client, backend):
    backend.serves_api = False
    for target in ("/api/status", "/api/nowhere"):
        reply = await client.ask(target)
        assert (reply.status, "access" in reply.json()["hint"]) == (404, True)
    assert (await client.ask("/healthz")).status == 200
    assert backend.asked == []


# ── the stream ───────────────────────────────────────────────────────────────────────────────────


async def test_events_are_streamed_until_the_end(client, backend):
    connection, transport = client.connect()
    await asyncio.sleep(0)
    connection.data_received(b"GET /api/requests/stream HTTP/1.1\r\nHost: 127.0.0.1:8081\r\n\r\n")
    for _ in range(100):
        await asyncio.sleep(0)
    head, _, body = transport.written.partition(b"\r\n\r\n")
    assert b"Content-Type: text/event-stream" in head
    assert COMMENT in body
    backend.streams.publish("request", {"id": KNOWN})
    for _ in range(100):
        await asyncio.sleep(0)
    assert b"event: request" in transport.written
    backend.streams.close()
    for _ in range(100):
        await asyncio.sleep(0)
    assert transport.written.endswith(b"0\r\n\r\n")
    assert transport.closed
    assert not backend.streams


@pytest.mark.parametrize("turns", [0, 100], ids=["before it begins", "later"])
async def test_a_reader_that_ends_its_half_has_gone(client, backend, turns):
    connection, transport = client.connect()
    await asyncio.sleep(0)
    connection.data_received(b"GET /api/requests/stream HTTP/1.1\r\nHost: 127.0.0.1:8081\r\n\r\n")
    for _ in range(turns):
        await asyncio.sleep(0)
    if not connection.eof_received():
        connection.connection_lost(None)
    for _ in range(100):
        await asyncio.sleep(0)
    assert not backend.streams
    assert transport.closed or turns


async def test_a_reader_that_goes_away_is_not_told_any_more(client, backend):
    connection, _ = client.connect()
    await asyncio.sleep(0)
    connection.data_received(b"GET /api/requests/stream HTTP/1.1\r\nHost: 127.0.0.1:8081\r\n\r\n")
    for _ in range(100):
        await asyncio.sleep(0)
    assert backend.streams
    connection.connection_lost(None)
    for _ in range(100):
        await asyncio.sleep(0)
    assert not backend.streams


async def test_a_head_opens_no_stream(client, backend):
    reply = await client.ask("/api/requests/stream", method="HEAD")
    assert (reply.status, reply.body) == (200, b"")
    assert not backend.streams
