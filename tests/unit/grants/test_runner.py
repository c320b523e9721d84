"""The hands at work: a small server, small programs, files, and codes by a clock of our own."""

import asyncio
import os

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from authproxy.errors import BadTokenReply, TokenTimeout, TokenUnavailable
from authproxy.grants import http as http_module
from authproxy.grants import runner as runner_module
from authproxy.grants.runner import FlowRunner
from authproxy.grants.steps import Ask, Code, Discover, Read, Run
from authproxy.grants.transport import Transport
from authproxy.tokens.token import Token

NOW = 1_700_000_000.0  # 20 s into a period of 30
SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"


class Sleep:
    """Instead of sleeping, note for how long, and set the clock forward."""

    def __init__(self, clock):
        self.clock = clock
        self.slept = []

    async def __call__(self, seconds):
        self.slept.append(seconds)
        self.clock.advance(seconds)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for name in os.environ:
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def sleep(clock):
    clock.now = NOW
    return Sleep(clock)


@pytest.fixture
async def runner(clock, sleep):
    async with FlowRunner(clock=clock, sleep=sleep) as runner:
        yield runner


@pytest.fixture
async def serve():
    """Return a starter of servers that answer every request by one handler."""
    servers = []

    async def start(answer):
        application = web.Application(client_max_size=1 << 24)
        application.router.add_route("*", "/{path:.*}", answer)
        servers.append(server := TestServer(application))
        await server.start_server()
        return str(server.make_url("/")).rstrip("/")

    yield start
    for server in servers:
        await server.close()


@pytest.fixture
async def raw():
    """Return a starter of servers that say `reply` and hang up; `asked` grows by one a connection."""
    servers, asked = [], []

    async def start(reply):
        async def talk(reader, writer):
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(reply)
            writer.close()

        servers.append(server := await asyncio.start_server(talk, "127.0.0.1", 0))
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/token", asked

    yield start
    for server in servers:
        server.close()


def flow(*steps):
    """Take `steps`, note their answers; the token is as long as there were steps."""
    answers = []

    def talk():
        for step in steps:
            answer = yield step
            answers.append(answer)
        return Token("a" * len(steps))

    return talk(), answers


async def answer_to(runner, step):
    talk, answers = flow(step)
    await runner.run(talk)
    return answers[0]


# ── a conversation ───────────────────────────────────────────────────────────────────────────────


async def test_a_conversation_is_held_to_its_end(runner, tmp_path):
    (tmp_path / "token").write_text("x")
    talk, answers = flow(Read(str(tmp_path / "token")), Run(("/bin/echo", "y")))
    assert await runner.run(talk) == Token("aa")
    assert [answer.body for answer in answers] == [b"x", b"y\n"]
    assert [answer.asked_at for answer in answers] == [NOW, NOW]


async def test_a_conversation_that_breaks_off_is_closed(runner):
    closed = []

    def talk():
        try:
            yield Read("/nonexistent")
        finally:
            closed.append(True)

    with pytest.raises(TokenUnavailable):
        await runner.run(talk())
    assert closed == [True]


async def test_only_the_known_steps_can_be_asked_for(runner):
    with pytest.raises(TypeError, match="cannot ask for a str"):
        await answer_to(runner, "rm -rf")


# ── HTTP ─────────────────────────────────────────────────────────────────────────────────────────


async def test_a_request_goes_out_as_it_was_asked_for(runner, serve):
    seen = []

    async def answer(request):
        seen.append((request.method, request.raw_path, dict(request.headers), await request.read()))
        return web.json_response({"access_token": "a"}, status=201, headers={"Retry-After": "7"})

    url = await serve(answer)
    ask = Ask("POST", f"{url}/t%41/../x?a=%41&b=1+2", {"Accept": "application/json", "X-Key": "k"}, b"body")
    reply = await answer_to(runner, ask)
    ((method, path, headers, body),) = seen
    assert (method, path, body) == ("POST", "/t%41/../x?a=%41&b=1+2", b"body")
    assert headers.pop("User-Agent").startswith("authproxy/")
    assert headers.pop("Host") in url
    assert headers.pop("Connection", "close") == "close"
    assert headers == {"Accept": "application/json", "X-Key": "k", "Content-Length": "4"}
    assert (reply.status, reply.body) == (201, b'{"access_token": "a"}')
    assert reply.headers["Retry-After"] == "7"
    assert reply.place == f"{url}/t%41/../x"


async def test_a_post_without_a_body_says_so(runner, serve):
    async def answer(request):
        return web.json_response([request.headers.get("Content-Length"), "Content-Type" in request.headers])

    reply = await answer_to(runner, Ask("POST", await serve(answer)))
    assert reply.body == b'["0", false]'


async def test_a_configured_user_agent_is_the_only_one(runner, serve):
    async def answer(request):
        return web.json_response(request.headers.getall("User-Agent"))

    reply = await answer_to(runner, Ask("GET", await serve(answer), {"user-agent": "mine"}))
    assert reply.body == b'["mine"]'


async def test_a_redirect_is_not_followed(runner, serve):
    asked = []

    async def answer(request):
        asked.append(request.path)
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    assert (await answer_to(runner, Ask("POST", f"{await serve(answer)}/token"))).status == 307
    assert asked == ["/token"]


async def test_cookies_are_neither_kept_nor_sent(runner, serve):
    async def answer(request):
        response = web.json_response(dict(request.cookies))
        response.set_cookie("session", "s3cr3t")
        return response

    url = (await serve(answer)).replace("127.0.0.1", "localhost")
    await answer_to(runner, Ask("GET", url))
    assert (await answer_to(runner, Ask("GET", url))).body == b"{}"


async def test_each_request_has_a_connection_of_its_own(runner, serve):
    peers = set()

    async def answer(request):
        peers.add(request.transport.get_extra_info("peername"))
        return web.json_response({})

    url = await serve(answer)
    for _ in range(3):  # a kept one that is dead would make aiohttp repeat the request
        await answer_to(runner, Ask("POST", url))
    assert len(peers) == 3


@pytest.mark.parametrize(("size", "fits"), [(1 << 20, True), ((1 << 20) + 1, False)])
async def test_a_reply_isread_up_to_one_mebibyte(runner, serve, size, fits):
    async def answer(_request):
        return web.Response(body=b"x" * size)

    url = await serve(answer)
    if fits:
        assert len((await answer_to(runner, Ask("GET", url))).body) == size
        return
    with pytest.raises(BadTokenReply, match="more than 1 MiB"):
        await answer_to(runner, Ask("GET", url))


async def test_a_small_reply_that_inflates_is_bounded_too(runner, serve):
    async def answer(_request):
        response = web.Response(body=b"\0" * (1 << 22))
        response.enable_compression(web.ContentCoding.gzip)
        return response

    with pytest.raises(BadTokenReply, match="more than 1 MiB"):
        await answer_to(runner, Ask("GET", await serve(answer), {"Accept-Encoding": "gzip"}))


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (b"", "closed the connection without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", "broke off its answer"),
        (b"s3cr3t garbage\r\n\r\n", "did not answer in HTTP"),
        (b"HTTP/1.1 200 OK\r\ns3cr3t\0: x\r\n\r\n", "did not answer in HTTP"),
    ],
)
async def test_a_broken_answer_is_an_outage_and_asked_for_once(runner, raw, reply, says):
    url, asked = await raw(reply)
    with pytest.raises(TokenUnavailable, match=says) as caught:
        await answer_to(runner, Ask("POST", f"{url}?s3cr3t", {}, b"s3cr3t"))
    assert len(asked) == 1
    assert "s3cr3t" not in str(caught.value)


async def test_nobody_there_is_an_outage(runner, unused_tcp_port):
    with pytest.raises(TokenUnavailable, match="cannot connect to http://127") as caught:
        await answer_to(runner, Ask("GET", f"http://127.0.0.1:{unused_tcp_port}/token"))
    assert caught.value.hint


async def test_a_slow_answer_is_given_up(runner, serve, monkeypatch):
    monkeypatch.setattr(http_module, "TOTAL_TIMEOUT", 0.05)

    async def answer(_request):
        await asyncio.sleep(5)

    with pytest.raises(TokenTimeout, match="did not answer in time"):
        await answer_to(runner, Ask("GET", await serve(answer)))


@pytest.fixture
async def proxy(raw):
    """A proxy that answers as `said`, and what it was asked."""

    async def start(said):
        url, asked = await raw(said)
        return url.removeprefix("http://").removesuffix("/token"), asked

    return start


TOKEN_REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
BASIC = b"\r\nProxy-Authorization: Basic bWU6czNjcjN0\r\n"  # me:s3cr3t


async def test_the_environments_proxy_is_asked(runner, proxy, monkeypatch):
    place, asked = await proxy(TOKEN_REPLY)
    monkeypatch.setenv("http_proxy", f"http://{place}")
    assert (await answer_to(runner, Ask("GET", "http://id.invalid/token"))).body == b"{}"
    assert asked[0].startswith(b"GET http://id.invalid/token HTTP/1.1\r\n")
    with pytest.raises(TokenUnavailable, match=r"cannot connect to http://127\.0\.0\.1:1"):  # loopback is not
        await answer_to(runner, Ask("GET", "http://127.0.0.1:1/"))


async def test_the_routes_proxy_is_asked_instead(runner, proxy, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    place, asked = await proxy(TOKEN_REPLY)
    talk, answers = flow(Ask("GET", "http://id.invalid/token"))
    await runner.run(talk, transport=Transport(SecretStr(f"http://me:s3cr3t@{place}")))
    assert answers[0].body == b"{}"
    assert BASIC in asked[0]


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_refuses_is_named_without_its_password(runner, proxy, scheme):
    place, asked = await proxy(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")
    talk, _ = flow(Ask("GET", f"{scheme}://id.invalid/token"))
    with pytest.raises(TokenUnavailable, match=f"the HTTP proxy http://{place} does not lead to") as caught:
        await runner.run(talk, transport=Transport(SecretStr(f"http://me:s3cr3t@{place}")))
    assert "s3cr3t" not in f"{caught.value} {caught.value.hint}"
    assert BASIC in asked[0]
    assert asked[0].startswith(b"CONNECT id.invalid:443 " if scheme == "https" else b"GET http://id.invalid/")


async def test_a_proxy_that_is_not_there_is_not_taken_for_the_token_endpoint(runner):
    talk, _ = flow(Ask("GET", "http://id.invalid/token"))
    with pytest.raises(TokenUnavailable, match=r"the HTTP proxy http://127\.0\.0\.1:1 does not lead to"):
        await runner.run(talk, transport=Transport(SecretStr("http://127.0.0.1:1")))


async def test_a_proxy_of_the_environment_that_cannot_be_used_is_an_outage(runner, monkeypatch):
    monkeypatch.setenv("all_proxy", "socks5://me:s3cr3t@proxy:1080")
    with pytest.raises(TokenUnavailable, match="all_proxy, in the environment, should") as caught:
        await answer_to(runner, Ask("GET", "http://id.invalid/token"))
    assert "s3cr3t" not in str(caught.value)


# ── programs and files ───────────────────────────────────────────────────────────────────────────


async def test_a_program_is_run_without_a_shell(runner):
    reply = await answer_to(runner, Run(("/bin/echo", "$HOME; a b")))
    assert (reply.body, reply.place) == (b"$HOME; a b\n", "/bin/echo")


async def test_a_program_that_asks_gets_no_answer(runner):
    assert (await answer_to(runner, Run(("/bin/cat",)))).body == b""


@pytest.mark.parametrize(
    ("argv", "failure", "says"),
    [
        (("/bin/sh", "-c", "echo s3cr3t; exit 3"), TokenUnavailable, "/bin/sh ended with exit code 3"),
        (("/nonexistent/program",), BadTokenReply, "cannot run /nonexistent/program: No such file"),
        (("/",), BadTokenReply, "cannot run /: Permission denied"),
        (("/bin/echo", "a\0b"), BadTokenReply, "cannot run /bin/echo: bad arguments"),
        (("/bin/sh", "-c", "head -c 2000000 /dev/zero"), BadTokenReply, "more than 1 MiB"),
    ],
)
async def test_a_program_that_fails_says_how(runner, argv, failure, says):
    with pytest.raises(failure, match=says) as caught:
        await answer_to(runner, Run(argv))
    assert "s3cr3t" not in str(caught.value)


async def test_a_program_that_hangs_is_given_up(runner, monkeypatch):
    monkeypatch.setattr(runner_module, "TOTAL_TIMEOUT", 0.05)
    with pytest.raises(TokenTimeout, match="/bin/sleep did not end"):
        await answer_to(runner, Run(("/bin/sleep", "60")))


async def test_a_program_that_is_given_up_ends_with_its_children(runner, tmp_path, monkeypatch):
    pids, reading, read = tmp_path / "pids", asyncio.Event(), runner_module.read_up_to

    async def noted(*args):
        reading.set()
        return await read(*args)

    monkeypatch.setattr(runner_module, "read_up_to", noted)
    script = f"sleep 60 & echo $! $$ >{pids}.new; mv {pids}.new {pids}; wait"
    waiting = asyncio.create_task(answer_to(runner, Run(("/bin/sh", "-c", script))))
    async with asyncio.timeout(10):
        await reading.wait()
        while not pids.exists():
            await asyncio.sleep(0.005)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        while not all(is_gone(int(pid)) for pid in pids.read_text().split()):
            await asyncio.sleep(0.005)


def is_gone(pid):
    """Tell whether a process has ended; one that nobody has waited for yet counts as ended."""
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123
            return stat.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


async def test_a_file_that_cannot_be_read_is_an_outage(runner, tmp_path):
    with pytest.raises(TokenUnavailable, match=r"cannot read .*: No such file or directory"):
        await answer_to(runner, Read(str(tmp_path / "missing")))
    with pytest.raises(TokenUnavailable, match="Is a directory"):
        await answer_to(runner, Read(str(tmp_path)))


# ── one-time codes ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("now", "code"),
    [(59, "287082"), (1111111109, "081804"), (1234567890, "005924"), (20000000000, "353130")],
)
async def test_a_code_is_that_of_the_moment(runner, clock, sleep, now, code):
    clock.now = now  # RFC 6238, appendix B
    assert await answer_to(runner, Code(SECRET)) == code
    assert sleep.slept == []


async def test_a_code_is_never_used_twice(runner, sleep):
    codes = [await answer_to(runner, Code(SECRET)) for _ in range(3)]
    assert len(set(codes)) == 3
    assert sleep.slept == [10, 30]  # to the beginning of the next period


async def test_codes_asked_for_at_once_are_of_different_periods(runner):
    codes = await asyncio.gather(*(answer_to(runner, Code(SECRET)) for _ in range(3)))
    assert len(set(codes)) == 3


async def test_another_secret_does_not_wait(runner, sleep):
    await answer_to(runner, Code(SECRET))
    await answer_to(runner, Code("GEZDGNBVGY3TQOJQ"))
    assert sleep.slept == []


async def test_a_clock_that_was_set_back_brings_no_code_again(runner, clock):
    first = await answer_to(runner, Code(SECRET))
    clock.advance(-60)
    assert await answer_to(runner, Code(SECRET)) != first


async def test_after_the_clock_was_set_back_an_hour_the_next_code_does_not_wait_an_hour(runner, clock, sleep):
    await answer_to(runner, Code(SECRET))
    clock.advance(-3600)
    await answer_to(runner, Code(SECRET))
    assert sleep.slept == []


async def test_what_an_issuer_publishes_is_told(clock, serve):
    async def document(request):
        issuer = str(request.url.origin())
        return web.json_response({"issuer": issuer, "token_endpoint": f"{issuer}/token"})

    url = await serve(document)
    heard = []
    async with FlowRunner(clock=clock, discovered=lambda *about: heard.append(about)) as runner:
        issuer = url.removesuffix("/")
        found = await answer_to(runner, Discover(issuer))
    assert heard == [(issuer, found)]
    assert found.token_url == f"{issuer}/token"
