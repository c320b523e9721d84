"""Who answers at the proxy's addresses."""

import asyncio
import ssl

import pytest
import trustme

from authproxy.app.doctor.running import Found, ask, judge_admin, judge_listeners
from authproxy.net.tls import upstream_context
from tests.support.systems import needs_unix_sockets

OURS = Found(403, b"HTTP/1.1 403 Forbidden\r\nProxy-Status: authproxy; error=http_request_denied")
OTHER = Found(405, b"HTTP/1.1 405 No\r\nServer: other")
NOBODY = Found(refused=True)
HUNG = Found()


@pytest.mark.parametrize(
    ("found", "ok", "says"),
    [
        ([OURS], True, "runs, and listens on a:1"),
        ([NOBODY], None, "not running"),
        ([OTHER], False, "a:1 is taken"),
        ([HUNG], False, "a:1 is taken"),
        ([OURS, OTHER], False, "b:2 is taken"),
    ],
)
def test_listeners_are_judged(found, ok, says):
    verdict = judge_listeners(list(zip(["a:1", "b:2"], found, strict=False)))
    assert verdict.ok is ok
    assert says in (verdict.cause or verdict.detail)


@pytest.mark.parametrize(
    ("health", "ready", "ok", "says"),
    [
        (Found(200), Found(200), True, "healthy and ready"),
        (
            Found(200),
            Found(503, body=b'{"routes": {"api": {"state": "rejected"}}}'),
            False,
            "api is rejected",
        ),
        (Found(200), Found(503, body=b"["), False, "does not say why"),
        (Found(200), Found(503, body=b'{"routes":' + b"[" * 60_000), False, "does not say why"),
        (
            Found(200),
            Found(503, body=b'{"routes": {"a\\u001b[2J\\n": {"state": "b"}}}'),
            False,
            "a [2J  is b",
        ),
        (Found(404), Found(404), False, "is taken"),
        (HUNG, HUNG, False, "is taken"),
    ],
)
def test_the_admin_listener_is_judged(health, ready, ok, says):
    verdict = judge_admin("a:1", health, ready, is_running=True)
    assert verdict.ok is ok
    assert says in (verdict.cause or verdict.detail)


async def test_one_is_asked_and_its_answer_read():
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nfine")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    found = await ask(f"127.0.0.1:{port}", "GET", "/")
    assert (found.status, found.body) == (200, b"fine")
    server.close()
    await server.wait_closed()
    assert (await ask(f"127.0.0.1:{port}", "GET", "/")).refused


@needs_unix_sockets
async def test_one_that_serves_https_on_a_unix_socket_is_asked(tmp_path):
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 403 No\r\n\r\n")
        writer.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    path = tmp_path / "s"
    server = await asyncio.start_unix_server(answer, path, ssl=context)
    found = await ask(f"unix:{path}", "TRACE", "/", tls=upstream_context(verify=False))
    assert found.status == 403
    server.close()
    await server.wait_closed()
