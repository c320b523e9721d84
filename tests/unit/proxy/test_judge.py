"""What is judged before anything is sent, and that a plain head fares as any other."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest
from aiohttp.http_parser import HttpRequestParser
from aiohttp.streams import EMPTY_PAYLOAD

from authproxy.errors import BadReply
from authproxy.proxy.allow import Allow
from authproxy.proxy.context import RequestContext
from authproxy.proxy.downstream.server import ProxyServer
from authproxy.proxy.guard import Guard
from authproxy.proxy.headers import RequestHeaders
from authproxy.proxy.request import Request, Whole
from authproxy.proxy.respond import CLIENT_GONE
from authproxy.proxy.router import RouteTable
from tests.support import client_side
from tests.support.both_doors import without_ids
from tests.support.cases import every_case
from tests.support.clock import settle

from .world import PAGE, Client, World, begun, failing, silent, whole

# ── a credential that the caller brings ──────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("route", "sent"),
    [
        ({"incoming": "keep"}, "Bearer own"),
        ({"incoming": "replace"}, "Bearer t0k3n-a"),
        (
            {
                "incoming": "keep",
                "request_headers": RequestHeaders(credentials=["Authorization"], remove=["Authorization"]),
            },
            "Bearer t0k3n-a",
        ),
    ],
    ids=["keep", "replace", "removed anyway"],
)
async def test_a_callers_own_credential_is_kept_or_replaced_but_never_sent_beside_ours(route, sent):
    world = World(whole(), **route)
    await world.ask(Authorization="Bearer own")
    lines = [line for line in world.upstream.heads[0].split("\r\n") if line.startswith("Authorization")]
    assert lines == [f"Authorization: {sent}"]


async def test_a_callers_own_credential_that_is_refused_is_not_replaced_by_ours():
    world = World(whole(401))
    assert (await world.ask(Authorization="Bearer own"))[0] == 401
    assert world.upstream.tokens == ["own"]


async def test_a_route_may_refuse_callers_that_bring_a_credential():
    world = World(incoming="reject")
    await world.ask(Authorization="Bearer own")
    assert world.problem == (403, "requests to this route must not carry Authorization")
    assert world.upstream.lent == []


# ── refused before anything is sent ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("settings", "request_", "status", "reason"),
    [
        ({}, {"Host": "evil.example"}, 403, "forbidden"),
        ({}, {"Origin": "https://evil.example"}, 403, "forbidden"),
        ({}, {"target": "/elsewhere"}, 404, "no_route"),
        ({}, {"target": "/api/../x"}, 403, "forbidden"),
        ({"allow": Allow(methods=["GET"])}, {"method": "DELETE"}, 403, "forbidden"),
        ({"allow": Allow(paths=["/v2/**"])}, {"target": "/api/v3/x"}, 403, "forbidden"),
        ({"allow": Allow(paths=["/v2/**"])}, {"target": "/api/v2/../v3"}, 403, "forbidden"),
        ({"guard": Guard(access_header="X-Key", access_keys=["k"])}, {}, 401, "key_required"),
        ({}, {"X-Long": "x" * 1000}, 431, "headers_too_large"),
        ({"limits": {"body_bytes": 9}}, {"Content-Length": "10", "method": "PUT"}, 413, "body_too_large"),
        ({}, {"Content-Length": "1" * 19, "method": "PUT"}, 400, "bad_request"),
        ({}, {"Content-Length": "1", "Expect": "a miracle", "method": "PUT"}, 400, "bad_request"),
    ],
)
async def test_of_a_refused_request_nothing_reaches_the_upstream(settings, request_, status, reason):
    world = World(**settings)
    await world.ask(**request_)
    assert world.problem[0] == status
    assert world.upstream.lent == []
    assert world.handler.counters.refused == {(reason,): 1}
    assert world.client.kept is (status not in {400, 413, 431})  # after those nobody knows what comes next
    assert [line[3] for line in world.lines] == [status]


async def test_what_was_let_through_is_judged_below_the_routes_prefix():
    world = World(whole(), allow=Allow(paths=["/v2/**"]))
    assert (await world.ask("/api/v2/x"))[0] == 200
    world = World(whole(), allow=Allow(paths=["/api/v2/**"]), strip="")
    assert (await world.ask("/api/v2/x"))[0] == 200


@pytest.mark.parametrize("request_", [{"close": True}, {"method": "CONNECT"}])
async def test_after_a_refusal_the_connection_ends_where_what_follows_may_be_no_request(request_):
    world = World()
    _, lines, _ = await world.ask("/elsewhere", **request_)
    assert "Connection: close" in lines
    assert world.client.kept is False


async def test_after_a_refusal_the_connection_goes_on_though_the_body_is_still_coming(payload):
    world = World()
    await world.ask("/elsewhere", method="PUT", body=payload(b"x", end=False), Content_Length="9")
    assert world.client.kept is True  # the rest of it is dropped: in how many pieces it comes says nothing


async def test_a_refusal_of_a_head_has_no_body():
    world = World()
    status, lines, body = await world.ask("/elsewhere", method="HEAD")
    assert (status, body) == (404, b"")
    assert any(line.startswith("Content-Length: ") and line != "Content-Length: 0" for line in lines)


async def test_a_fault_of_our_own_is_a_500_that_tells_nothing(caplog):
    def fails(**_):
        raise RuntimeError("s3cr3t")

    world = World()
    world.upstream.take = fails
    await world.ask()
    assert world.problem[0] == 500
    assert b"s3cr3t" not in world.client.transport.written
    assert world.client.kept is False
    assert [record.getMessage() for record in caplog.records] == ["internal error"]


# ── pages of other origins ───────────────────────────────────────────────────────────────────────

PREFLIGHT = {"method": "OPTIONS", "Origin": PAGE, "Access-Control-Request-Method": "PUT"}
MAY_READ = f"Access-Control-Allow-Origin: {PAGE}"


async def test_a_preflight_is_answered_here_and_needs_no_key():
    world = World(guard=Guard(origins=[PAGE], access_header="X-Key", access_keys=["k"]))
    status, lines, body = await world.ask(**PREFLIGHT, Access_Control_Request_Headers="X-Key")
    assert (status, body) == (204, b"")
    assert {MAY_READ, "Access-Control-Allow-Methods: PUT", "Access-Control-Allow-Headers: X-Key"} <= set(
        lines
    )
    assert world.upstream.lent == []
    assert world.client.kept is True


async def test_a_preflight_of_any_other_origin_is_refused():
    world = World(guard=Guard(origins=[PAGE]))
    status, lines, _ = await world.ask(**PREFLIGHT | {"Origin": "https://evil.example"})
    assert status == 403
    assert not any(line.startswith("Access-Control") for line in lines)


async def test_a_page_may_read_what_it_asked_for_and_why_it_was_refused():
    guard = Guard(origins=[PAGE])
    _, lines, _ = await World(whole(), guard=guard).ask(Origin=PAGE)
    assert MAY_READ in lines
    status, lines, _ = await World(guard=guard).ask("/elsewhere", Origin=PAGE)
    assert status == 404
    assert MAY_READ in lines
    _, lines, _ = await World(whole(), guard=guard).ask()
    assert MAY_READ not in lines


# ── plain requests ───────────────────────────────────────────────────────────────────────────────


def plainly(world, data):
    head, rest = world.handler.reader.read(data)
    payload = Whole(rest) if head.section.length else EMPTY_PAYLOAD
    return Request(world.client, head.method, head.target, payload, head)


def by_the_parser(world, data):
    loop = asyncio.get_running_loop()
    [(message, payload)], _, _ = HttpRequestParser(client_side.NoProtocol(), loop, 1 << 16).feed_data(data)
    return Request.parsed(message, payload, world.client)


async def outcome(read, data, times=6, **settings):
    """Return all that comes of a request, each of the `times` that it is asked."""
    world = World(*[whole(headers=[(b"Content-Length", b"3")])] * times, **settings)
    found = []
    for _ in range(times):
        client = world.client = Client()
        world.start(read(world, data))
        await settle()
        if client.handed is not None:
            await world.go_on()
        found.append((without_ids(client.transport.written), client.kept, client.stall_seconds))
    return found, [lent.said for lent in world.upstream.lent], world.lines, world.handler.counters.refused


KEYED = {"access_header": "X-Key", "access_keys": ["k"]}
PLAIN_REQUESTS = {
    "a path": ("GET /api/x", [], b""),
    "the mount itself": ("GET /api", [], b""),
    "a query": ("GET /api/x?a=/../b%2f//c;d", [], b""),
    "another method": ("DELETE /api/x", [], b""),
    "a path to be read in several ways": ("GET /api/%78//y", [], b""),
    "a path that steps out": ("GET /api/../x", [], b""),
    "a hidden step": ("GET /api/%2e%2e/x", [], b""),
    "a path that is not allowed": ("GET /api/v3/x", [], b""),
    "nobody's path": ("GET /elsewhere", [], b""),
    "a segment that only begins alike": ("GET /apix", [], b""),
    "a body": ("PUT /api/x", ["Content-Length: 5"], b"hello"),
    "a body of nothing": ("PUT /api/x", ["Content-Length: 0"], b""),
    "a long body": ("PUT /api/x", ["Content-Length: 10"], b"0123456789"),
    "a key": ("GET /api/x", ["X-Key: k"], b""),
    "a wrong key": ("GET /api/x", ["X-Key: K"], b""),
    "a credential": ("GET /api/x", ["authorization: Bearer own"], b""),
    "a host of others": ("GET /api/x", ["Host: evil.example"], b""),
    "an address": ("GET /api/x", ["Host: 127.0.0.1:8080"], b""),
    "a last request": ("GET /api/x", ["Connection: close"], b""),
    "lines that go no further": ("GET /api/x", ["Keep-Alive: 5", "Proxy-Authorization: x", "Cookie: a"], b""),
    "a head that is large": ("GET /api/x", ["X: " + "x" * 900], b""),
    "a head that is too large with ours": ("GET /api/x", ["X: " + "x" * 940], b""),
}
SITES = {
    "plain forwarding": {"credential": False},
    "a credential": {},
    "a credential that replaces": {"incoming": "replace"},
    "a credential that rejects": {"incoming": "reject"},
    "a credential that is removed": {
        "incoming": "reject",
        "request_headers": RequestHeaders(credentials=["Authorization"], remove=["Authorization"]),
    },
    "a key": {"guard": Guard(**KEYED)},
    "origins": {"guard": Guard(origins=[PAGE])},
    "allowed hosts": {"guard": Guard(hosts=["evil.example"])},
    "allow": {"allow": Allow(methods=["GET"], paths=["/v2/**", "/x"])},
    "a base": {"base": "/v2"},
    "a header that is set": {
        "request_headers": RequestHeaders(credentials=["Authorization"], set_pairs=[("X-Team", "g" * 99)])
    },
    "not stripped": {"strip": "", "allow": Allow(paths=["/api/x"])},
    "a limit of bodies": {"limits": {"body_bytes": 9}},
    "a host of its own": {"host": "localhost"},
    "mounted at the root": {"path": "/", "strip": ""},
}


@pytest.mark.parametrize("site", SITES)
async def test_a_plain_request_fares_as_any_other(site):
    with every_case() as case:
        for name, (line, more, body) in PLAIN_REQUESTS.items():
            lines = [*([] if more and more[0].startswith("Host") else ["Host: localhost"]), *more]
            data = "\r\n".join([f"{line} HTTP/1.1", *lines, "", ""]).encode() + body
            with case(name):
                found = await outcome(plainly, data, **SITES[site])
                assert found == await outcome(by_the_parser, data, **SITES[site])


async def test_what_is_worked_out_of_a_section_is_kept_with_it_once_its_host_is_known():
    world = World(whole(), whole(), whole())
    data = b"GET /api/x HTTP/1.1\r\nHost: localhost\r\n\r\n"
    kept = []
    for _ in range(3):
        world.client = Client()
        world.start(plainly(world, data))
        await settle()
        kept.append(dict(world.asked.head.section.worked_out))
    assert kept == [{}, *[{world.route: b"Host: up.example\r\n"}] * 2]
    assert len(set(world.upstream.heads)) == 1


async def test_what_was_worked_out_for_one_route_is_not_taken_for_another():
    world = World(*[whole()] * 4, credential=False)
    rules = RequestHeaders(host="other.example")
    other = replace(world.route, path="/other", strip="/other", request_headers=rules)
    world.handler.serve(
        SimpleNamespace(
            guard=Guard(), routes=RouteTable([world.route, other]), header_bytes=1000, body_bytes=None
        )
    )
    for path in ("/api", "/other") * 2:
        world.client = Client()
        world.start(plainly(world, f"GET {path}/x HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()))
        await settle()
    hosts = [head.split("\r\n")[1] for head in world.upstream.heads]
    assert hosts == ["Host: up.example", "Host: other.example"] * 2


async def test_a_site_that_was_replaced_is_asked_no_more_and_what_it_has_begun_it_ends():
    world = World(silent, guard=Guard(**KEYED))
    data = b"GET /api/x HTTP/1.1\r\nHost: localhost\r\nX-Key: k\r\n\r\n"
    world.start(plainly(world, data))
    await settle()
    before = world.client.sent
    world.handler.serve(
        SimpleNamespace(guard=Guard(), routes=RouteTable([]), header_bytes=1000, body_bytes=None)
    )
    world.client = Client()
    world.start(plainly(world, data))
    assert world.problem[0] == 404
    assert before.site is not world.handler.site
    before.give_up()


async def test_a_reply_that_comes_before_the_whole_body_went_out_is_left_to_the_task(payload):
    world = World(whole(), credential=False)
    body = payload(b"some", end=False)
    await world.quick(method="PUT", body=body, Content_Length="9")
    assert world.client.handed is not None
    await world.go_on()
    assert world.answer[0] == 200
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "upload"]


async def test_a_client_that_goes_while_the_upstream_has_its_request_is_told_of_once():
    world = World(whole())
    transport = world.client.transport
    world.start(world.incoming())
    world.client.transport = None
    world.handler.lost(world.client.sent)
    await settle()  # the reply that was on its way changes nothing
    assert transport.written == b""
    assert (world.client.kept, world.client.handed) == (None, None)
    assert world.lines == [("GET", "api", "/api/x", 0, 0, CLIENT_GONE)]
    assert [lent.aborted for lent in world.upstream.lent] == [True]


@pytest.mark.parametrize("rounds", range(6))
@pytest.mark.parametrize("answer", [silent, begun(length=6), whole(), whole(401), failing(BadReply("no"))])
async def test_whenever_a_client_goes_its_request_is_told_of_once_and_nothing_is_left_open(rounds, answer):
    world = World(answer, silent)
    server = ProxyServer(world.handler, limit=9, keepalive=75, header_bytes=1000, header_seconds=10)
    connection = server()
    transport = client_side.Transport(connection)
    connection.connection_made(transport)
    connection.data_received(b"GET /api/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
    loop = asyncio.get_running_loop()

    def goes(left):
        if left:
            loop.call_soon(goes, left - 1)
        else:
            connection.connection_lost(None)

    goes(rounds)
    for _ in range(5):
        await settle()
    assert len(world.lines) == 1
    [(*_, status, _sent, cause)] = world.lines
    assert (cause == CLIENT_GONE) or (transport.written and status in {200, 502})
    assert all(lent.aborted or lent.reply.complete or lent.reply.failure for lent in world.upstream.lent)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_request_that_was_not_judged_is_a_fault_of_ours(caplog):
    world = World()
    assert await world.handler.finish(RequestContext(world.incoming(), world.handler.site, 0.0, 0.0)) is False
    assert world.problem[0] == 500
