"""Upgrades: after a 101 the proxy is a byte tunnel, with the credential in the handshake."""

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from signal import SIGTERM

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response

from tests.support.async_command import RunningProxy, running_proxy

HANDSHAKE = (
    b"GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: %s\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
ROTATING = {"grant": "command", "command": ["date", "+%s%N"]}  # another token each time
STATIC = {"grant": "static", "token": "the-token"}


class Echo:
    """A WebSocket server that sends back what it gets; it refuses the first `refusals` handshakes."""

    def __init__(self, refusals: int = 0, status: HTTPStatus = HTTPStatus.UNAUTHORIZED) -> None:
        self.authorizations: list[str | None] = []
        self.gone = asyncio.Event()
        self._refusals = refusals
        self._status = status

    def judge(self, connection: ServerConnection, request: Request) -> Response | None:
        self.authorizations.append(request.headers.get("Authorization"))
        if len(self.authorizations) <= self._refusals:
            return connection.respond(self._status, "no\n")
        return None

    async def speak(self, connection: ServerConnection) -> None:
        try:
            async for message in connection:
                await connection.send(message)
        except ConnectionClosed:
            pass
        finally:
            self.gone.set()


@asynccontextmanager
async def tunnel(echo: Echo, auth: dict[str, object], **route: object) -> AsyncIterator[str]:
    """Serve `echo` behind the proxy; yield the WebSocket URL."""
    async with serve(echo.speak, "127.0.0.1", 0, process_request=echo.judge, max_size=None) as server:
        port = server.sockets[0].getsockname()[1]
        upstream = {"name": "ws", "upstream": f"http://127.0.0.1:{port}", "auth": auth, **route}
        async with running_proxy({"routes": [upstream]}) as proxy:
            yield proxy.url.replace("http:", "ws:")


@asynccontextmanager
async def raw(script: bytes, *, half_close: bool = False) -> AsyncIterator[tuple[str, asyncio.Queue[bytes]]]:
    """Serve an upstream that answers a head with `script`, and then hands on what it gets."""
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    at_work: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        at_work.add(asyncio.current_task())
        heard.put_nowait(await reader.readuntil(b"\r\n\r\n"))
        writer.write(script)
        if half_close:
            writer.write_eof()
        while data := await reader.read(1 << 16):
            heard.put_nowait(data)
        heard.put_nowait(b"")
        if not half_close:
            writer.write(b"last words")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        route = {"name": "raw", "upstream": f"http://127.0.0.1:{port}", "auth": STATIC}
        async with running_proxy({"routes": [route]}) as proxy:
            yield proxy.url.removeprefix("http://"), heard
        async with asyncio.timeout(20):
            await asyncio.gather(*at_work)


async def opened(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = address.split(":")
    return await asyncio.open_connection(host, int(port))


async def test_messages_go_both_ways_with_the_credential_in_the_handshake() -> None:
    echo = Echo()
    async with tunnel(echo, STATIC) as url, connect(f"{url}/chat") as client:
        await client.send("hello")
        assert await client.recv() == "hello"
    assert echo.authorizations == ["Bearer the-token"]


async def test_a_large_message_arrives_whole() -> None:
    big = os.urandom(5_000_000)
    async with tunnel(Echo(), STATIC) as url, connect(url, max_size=None) as client:
        await client.send(big)
        assert await client.recv() == big


async def test_a_handshake_that_is_answered_401_is_repeated_with_another_token() -> None:
    echo = Echo(refusals=1)
    async with tunnel(echo, ROTATING) as url, connect(url) as client:
        await client.send("hello")
        assert await client.recv() == "hello"
    first, second = echo.authorizations
    assert first != second


async def test_a_refused_upgrade_is_passed_on() -> None:
    echo = Echo(refusals=9, status=HTTPStatus.FORBIDDEN)
    async with tunnel(echo, STATIC) as url:
        with pytest.raises(InvalidStatus) as refused:
            await connect(url)
    assert refused.value.response.status_code == 403
    assert refused.value.response.body == b"no\n"


async def test_a_client_that_goes_away_takes_the_upstreams_end_along() -> None:
    echo = Echo()
    async with tunnel(echo, STATIC) as url:
        client = await connect(url)
        client.transport.abort()
        async with asyncio.timeout(20):
            await echo.gone.wait()


async def test_a_silent_tunnel_is_closed_after_timeouts_idle() -> None:
    echo = Echo()
    async with tunnel(echo, STATIC, timeouts={"idle": "300ms"}) as url:
        client = await connect(url, ping_interval=None)
        async with asyncio.timeout(20):
            await client.wait_closed()


SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\nX-More: 1\r\n\r\n"


async def test_any_protocol_may_be_switched_to_and_early_bytes_are_not_lost() -> None:
    async with raw(SWITCH % b"telnet" + b"welcome") as (address, heard):
        reader, writer = await opened(address)
        writer.write(HANDSHAKE % b"telnet")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert b"\r\nUpgrade: telnet\r\n" in head
        assert b"\r\nX-More: 1\r\n" in head
        assert await reader.readexactly(7) == b"welcome"
        sent = await heard.get()
        assert b"\r\nConnection: Upgrade\r\nUpgrade: telnet\r\n" in sent
        assert b"\r\nAuthorization: Bearer the-token\r\n" in sent
        writer.write(b"\x00\xff raw")
        assert await heard.get() == b"\x00\xff raw"
        writer.close()


async def test_the_client_may_end_its_half_first() -> None:
    async with raw(SWITCH % b"websocket") as (address, heard):
        reader, writer = await opened(address)
        writer.write(HANDSHAKE % b"websocket")
        await reader.readuntil(b"\r\n\r\n")
        await heard.get()
        writer.write_eof()
        assert await heard.get() == b""
        assert await reader.read() == b"last words"
        writer.close()


async def test_the_upstream_may_end_its_half_first() -> None:
    async with raw(SWITCH % b"websocket" + b"all said", half_close=True) as (address, heard):
        reader, writer = await opened(address)
        writer.write(HANDSHAKE % b"websocket")
        await reader.readuntil(b"\r\n\r\n")
        await heard.get()
        assert await reader.read() == b"all said"
        writer.write(b"but I go on")
        assert await heard.get() == b"but I go on"
        writer.close()


@pytest.mark.parametrize("who", ["the upstream", "the client"])
async def test_who_breaks_off_breaks_it_off_for_the_other_too(who: str) -> None:
    async with switching() as (_, address, far):
        reader, writer = await switched(address)
        async with asyncio.timeout(20):
            writer.write(b"hello")
            assert await far.heard.get() == b"hello"
            if who == "the client":
                reset(writer)
                assert await far.heard.get() == "reset"
            else:
                far.breaks_off.set()
                with pytest.raises(ConnectionResetError):
                    await reader.read()
        writer.close()


def reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection as a process that is killed does."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def descriptors_of(proxy: RunningProxy, at_most: int = 1 << 20) -> int:
    """Return how many descriptors `proxy` has; wait until there are no more than `at_most`."""
    async with asyncio.timeout(20):
        while (count := len(list(Path(f"/proc/{proxy.pid}/fd").iterdir()))) > at_most:
            await asyncio.sleep(0.02)
    return count


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads /proc")
@pytest.mark.parametrize("end", ["the client closes", "the client is gone", "silence", "half and half"])
async def test_nothing_is_left_of_a_tunnel_that_is_over(end: str) -> None:
    async with switching(idle="300ms" if end == "silence" else "5m") as (proxy, address, _):
        before = await descriptors_of(proxy)

        async def one() -> None:
            reader, writer = await switched(address)
            if end == "the client is gone":
                writer.transport.abort()
            if end == "half and half":
                writer.write_eof()
            if end in {"silence", "half and half"}:
                assert await reader.read() == b""
            writer.close()

        await asyncio.gather(*[one() for _ in range(20)])
        await descriptors_of(proxy, at_most=before)


@pytest.mark.parametrize(
    "protocol",
    [
        b"h2c", b"h2", b"H2C", b"h2c-14", b"h2-16", b"h3", b"h3-29", b"hq-interop", b"QUIC", b"quic/1",
        b"HTTP", b"http/0.9", b"HTTP/1.1", b"HTTP/2.0", b"HTTP/2", b"HTTP/3.0", b"https/1.1",
        b"TLS/1.0", b"TLS/1.2", b"tls", b"TLS/1.3, HTTP/1.1",
        b"websocket, h2c", b"websocket,\tHTTP/3.0 , x", b"x,TLS/1.2",
    ],
)  # fmt: skip
async def test_there_is_no_tunnel_for_http_itself(protocol: bytes) -> None:
    """In a tunnel of HTTP/2 nobody would judge the requests."""
    async with raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") as (address, heard):
        reader, writer = await opened(address)
        writer.write(HANDSHAKE % protocol)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        assert b"upgrade" not in (await heard.get()).lower()
        writer.close()


@pytest.mark.parametrize("protocol", [b"SPDY/3.1", b"tcp", b"h", b"tlsish", b"httpd-log/1", b"x/h2c"])
async def test_what_only_looks_a_little_like_http_is_passed_on(protocol: bytes) -> None:
    async with raw(SWITCH % protocol) as (address, heard):
        reader, writer = await opened(address)
        writer.write(HANDSHAKE % protocol)
        assert (await reader.readline()).startswith(b"HTTP/1.1 101 ")
        assert b"\r\nUpgrade: %b\r\n" % protocol in await heard.get()
        writer.close()


# ── the drain ────────────────────────────────────────────────────────────────────────────────────


class Far:
    """What the other end of a tunnel hears, and how that ends: with b"", or with a reset."""

    def __init__(self) -> None:
        self.heard = asyncio.Queue[bytes | str]()
        self.talks_on = False
        self.breaks_off = asyncio.Event()
        self.at_work: set[asyncio.Task[None]] = set()

    def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self.listen(reader, writer))
        self.at_work.add(task)
        task.add_done_callback(self.at_work.discard)

    async def listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCH % b"x")
        talk = asyncio.create_task(talking(writer)) if self.talks_on else None
        breaking = asyncio.create_task(self.break_off(writer))
        try:
            while data := await reader.read(1 << 16):
                self.heard.put_nowait(data)
            if talk is not None:
                await asyncio.sleep(0.3)  # and talks on, which must not be answered with a reset
            self.heard.put_nowait("reset" if writer.transport.is_closing() else b"")
        except ConnectionError:
            self.heard.put_nowait("reset")
        finally:
            breaking.cancel()
            if talk is not None:
                talk.cancel()
            writer.close()

    async def break_off(self, writer: asyncio.StreamWriter) -> None:
        await self.breaks_off.wait()
        reset(writer)


async def talking(writer: asyncio.StreamWriter) -> None:
    """Write without end."""
    while True:
        writer.write(b"more ")
        await asyncio.sleep(0.001)


@asynccontextmanager
async def switching(
    *, idle: str = "5m", drain: str = "30s", workers: int = 1
) -> AsyncIterator[tuple[RunningProxy, str, Far]]:
    """Serve an upstream that switches; yield the proxy before it, that one's address, and the far end."""
    far = Far()
    server = await asyncio.start_server(far, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        route = {"name": "raw", "upstream": f"http://127.0.0.1:{port}", "auth": STATIC}
        config = {
            "limits": {"drain": drain},
            "workers": workers,
            "routes": [{**route, "timeouts": {"idle": idle}}],
        }
        async with running_proxy(config) as proxy:
            yield proxy, proxy.url.removeprefix("http://"), far
        async with asyncio.timeout(20):
            await asyncio.gather(*far.at_work)


async def switched(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await opened(address)
    writer.write(HANDSHAKE % b"x")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    return reader, writer


async def refuses_connections(address: str) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await opened(address)
                writer.close()
            except ConnectionRefusedError:
                return
            except ConnectionResetError:
                pass  # it came in the very moment
            await asyncio.sleep(0.02)


async def ended(proxy: RunningProxy) -> int:
    """Wait for the end of `proxy`, which has been told to end; return its exit code."""
    return await proxy.wait()  # without a signal: one that comes amid the end would change the code


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_websocket_goes_on_during_the_drain_and_is_ended_when_that_runs_out(workers: int) -> None:
    echo = Echo()
    async with serve(echo.speak, "127.0.0.1", 0, process_request=echo.judge) as server:
        port = server.sockets[0].getsockname()[1]
        route = {"name": "ws", "upstream": f"http://127.0.0.1:{port}", "auth": STATIC}
        config = {"limits": {"drain": "3s"}, "workers": workers, "routes": [route]}
        async with running_proxy(config) as proxy:
            url = proxy.url.replace("http:", "ws:")
            clients = [await connect(url) for _ in range(4)]
            proxy.signal(SIGTERM)
            await refuses_connections(url.removeprefix("ws://"))
            for _ in range(5):
                await asyncio.sleep(0.1)
                for client in clients:
                    await client.send("still here")
                    assert await client.recv() == "still here"
            for client in clients:
                with pytest.raises(
                    ConnectionClosed
                ):  # 1006: nobody but the server can say goodbye in its words
                    await asyncio.wait_for(client.recv(), 20)
            async with asyncio.timeout(20):
                await echo.gone.wait()
            assert await ended(proxy) == 0


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "both talk on"])
async def test_when_the_drain_runs_out_both_sides_are_told_by_an_end_and_not_by_a_reset(
    *, busy: bool
) -> None:
    async with switching(drain="700ms") as (proxy, address, far):
        far.talks_on = busy
        reader, writer = await switched(address)
        writer.write(b"hello")
        assert await far.heard.get() == b"hello"
        talk = asyncio.create_task(talking(writer)) if busy else None
        proxy.signal(SIGTERM)
        async with asyncio.timeout(20):
            while await reader.read(1 << 16):  # raises when the connection is reset
                pass
            if talk is not None:
                talk.cancel()
            writer.close()
            while (last := await far.heard.get()) not in {b"", "reset"}:
                pass
            assert last == b""
        assert await ended(proxy) == 0


async def test_a_tunnel_that_ends_by_itself_ends_the_drain() -> None:
    async with switching(drain="10m") as (proxy, address, _far):
        _, writer = await switched(address)
        proxy.signal(SIGTERM)
        await refuses_connections(address)
        writer.close()
        assert await ended(proxy) == 0


async def test_a_second_signal_does_not_wait_for_tunnels() -> None:
    async with switching(drain="10m") as (proxy, address, _far):
        reader, writer = await switched(address)
        proxy.signal(SIGTERM)
        await refuses_connections(address)
        proxy.signal(SIGTERM)
        assert await ended(proxy) == 0
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
