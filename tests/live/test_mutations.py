"""Damaged requests and damaged replies, by the thousand: the proxy refuses them, and lives on as before."""

import random
import re
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.support.command import RunningProxy, running_proxy, wait_until
from tests.support.launch import GUARD
from tests.support.wire import API, Message, Tokens, Upstream, Wire, chunked, connect, get, reply, request

COUNT = 1500
AT_A_TIME = 8
SECRET = "nobody-may-see-this"
PAUSE = 0.03  # seconds in which an answer may come before the client ends its half

# ── damage ───────────────────────────────────────────────────────────────────────────────────────

Corpus = Sequence[bytes]
ODD = (
    b"\x00",
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b":",
    b"\xff",
    b"\x7f",
    b",",
    b";",
    b"0",
    b"%00",
    b"\xe2\x82",
)
NUMBERS = (
    b"0",
    b"-1",
    b"+1",
    b"0x10",
    b"1_0",
    b"9" * 18,
    b"9" * 40,
    b"18446744073709551616",
    b"f" * 17,
    b"1.5",
    b"",
)
LINE_ENDS = (b"\n", b"\r", b"\r\r\n", b"\n\r", b"", b"\r\n\r\n", b"\r\n ")


def _place(rng: random.Random, data: bytes) -> tuple[int, int]:
    """Return where a short piece of `data` begins and ends."""
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.choice((1, 1, 2, 5, 20)))


def flip(rng: random.Random, data: bytes, _: Corpus) -> bytes:
    at = rng.randrange(len(data)) if data else 0
    return data[:at] + bytes(byte ^ 1 << rng.randrange(8) for byte in data[at : at + 1]) + data[at + 1 :]


def drop(rng: random.Random, data: bytes, _: Corpus) -> bytes:
    start, end = _place(rng, data)
    return data[:start] + data[end:]


def insert(rng: random.Random, data: bytes, _: Corpus) -> bytes:
    start, _ = _place(rng, data)
    return data[:start] + rng.choice((*ODD, rng.randbytes(rng.randint(1, 6)))) + data[start:]


def duplicate(rng: random.Random, data: bytes, _: Corpus) -> bytes:
    lines = data.split(b"\r\n")
    at = rng.randrange(len(lines))
    return b"\r\n".join([*lines[: at + 1], *lines[at:]])


def splice(rng: random.Random, data: bytes, corpus: Corpus) -> bytes:
    other = rng.choice(corpus)
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other)) :]


def truncate(rng: random.Random, data: bytes, _: Corpus) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def end_otherwise(rng: random.Random, data: bytes, _: Corpus) -> bytes:
    lines = data.split(b"\r\n")
    at = rng.randrange(len(lines))
    return b"\r\n".join(lines[:at]) + rng.choice(LINE_ENDS) + b"\r\n".join(lines[at:])


def count_otherwise(rng: random.Random, data: bytes, _: Corpus) -> bytes:
    numbers = list(re.finditer(rb"\d+", data))
    if not numbers:
        return data
    start, end = rng.choice(numbers).span()
    return data[:start] + rng.choice(NUMBERS) + data[end:]


DAMAGES = (flip, drop, insert, duplicate, splice, truncate, end_otherwise, count_otherwise)


def damaged(rng: random.Random, corpus: Corpus) -> bytes:
    data = rng.choice(corpus)
    for _ in range(rng.randint(1, 3)):
        data = rng.choice(DAMAGES)(rng, data, corpus)
    return data


# ── the world ────────────────────────────────────────────────────────────────────────────────────

REQUESTS = (
    request("GET", "/a/b?c=d", "Accept: */*", "User-Agent: x/1"),
    request("HEAD", "/", 'If-None-Match: "x"'),
    request("POST", "/form", "Content-Type: a/b", body=b"a=1&b=2"),
    request("PUT", "/chunked", "Transfer-Encoding: chunked") + chunked(b"hello", b"world" * 9),
    request("POST", "/", "Transfer-Encoding: chunked") + b"5;a=b\r\nhello\r\n0\r\nX-T: 1\r\n\r\n",
    request("POST", "/late", "Expect: 100-continue", body=b"hello"),
    request("GET", "/1") + request("DELETE", "/2", "Connection: X-A", "X-A: 1") + request("GET", "/3"),
    request("OPTIONS", "*"),
    request("GET", "http://localhost:80/absolute", "Proxy-Connection: close"),
    request("GET", "/own", "Authorization: Basic bWU6bWU="),
    request("GET", "/ws", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: eA=="),
    request("GET", "/old", "Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0"),
    request("GET", "/%2e%2e/%c3%a9", "Cookie: a=1", "X-Latin: \xe9", "Origin: http://localhost"),
)  # fmt: skip


def replies(mark: str) -> list[bytes]:
    """Return good answers, all of which carry `mark`."""
    line = f"X-Mark: {mark}"
    body = f"the body of {mark}".encode()
    start = f"HTTP/1.1 200 OK\r\n{line}\r\n".encode()
    hints = f"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </{mark}>\r\n\r\n".encode()
    return [
        reply(200, line, "Content-Type: a/b", body=body),
        start + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(body, body * 20),
        start + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(body, end=b"0\r\nX-T: 1\r\n\r\n"),
        start + b"Connection: close\r\n\r\n" + body,
        hints + reply(200, line, body=body),
        f"HTTP/1.1 204 No Content\r\n{line}\r\n\r\n".encode(),
        f'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n{line}\r\nContent-Length: 5\r\n\r\n'.encode(),
        f"HTTP/1.0 200 OK\r\n{line}\r\n\r\n".encode() + body,
        reply(302, line, f"Location: /{mark}", "Set-Cookie: a=1; Path=/; Domain=x", "Link: </x>; rel=next"),
        reply("401 Unauthorized", line, 'WWW-Authenticate: Bearer error="invalid_token"', body=body),
        start + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n" + body,
    ]  # fmt: skip


@contextmanager
def unharmed(upstream: Upstream, tokens: Tokens, **keys: object) -> Iterator[RunningProxy]:
    """Run a proxy; at the end it must be as it was in the beginning, and have told nobody a secret."""
    auth = {
        "grant": "client_credentials",
        "token_url": f"{tokens.url}/token",
        "client_id": "me",
        "client_secret": SECRET,
    }
    route = {"name": "api", "upstream": upstream.url, "auth": auth, **keys}
    config = {"admin": False, "log": {"level": "debug"}, "limits": {"drain": "1s"}, "routes": [route]}
    with running_proxy(config) as proxy:

        def descriptors() -> int:
            return len(list(Path(f"/proc/{proxy.pid}/fd").iterdir()))

        def alone() -> int:
            hang_up(upstream)
            return descriptors()

        assert get(proxy.url).status == 200
        in_the_beginning = alone()
        yield proxy
        assert proxy.process.poll() is None
        assert get(proxy.url).status == 200
        most = in_the_beginning + 2 * AT_A_TIME  # the pool keeps those that may be used again
        wait_until(lambda: descriptors() <= most, lambda: f"{descriptors()} descriptors, {most} at most")
        wait_until(
            lambda: alone() <= in_the_beginning, lambda: f"{alone()} descriptors, {in_the_beginning} before"
        )
        assert proxy.stop() == 0
        log = proxy.log() + proxy.output()
    assert "internal error" not in log
    assert "Traceback" not in log
    assert SECRET not in log
    assert tokens.issued.every
    assert not [token for token in tokens.issued.every if token in log]


def hang_up(upstream: Upstream) -> None:
    """Close the connections to `upstream`, so that the proxy's pool is empty."""
    for sock in list(upstream._open):
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            upstream._open.discard(sock)


def assert_told_nothing(heard: bytes, tokens: Tokens) -> None:
    assert SECRET.encode() not in heard
    assert not [token for token in tokens.issued.every if token.encode() in heard]


def all_at_once(one: Callable[[int], None]) -> None:
    """Call `one` with each number, several at a time."""
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        for _ in pool.map(one, range(COUNT)):
            pass


# ── tests ────────────────────────────────────────────────────────────────────────────────────────


def test_no_damaged_request_does_any_harm() -> None:
    with Tokens() as tokens, API(tokens.issued) as api, unharmed(api, tokens) as proxy:

        def one(number: int) -> None:
            rng = random.Random(number)
            sent = damaged(rng, REQUESTS)
            heard = say(proxy, sent, size=rng.choice((1, 7, 1 << 20)))
            statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) [A-Z]", heard)]
            assert 500 not in statuses, (sent, heard)
            assert heard == b"" or heard.startswith(b"HTTP/1.1 "), (sent, heard)
            assert_told_nothing(heard, tokens)

        all_at_once(one)
        assert len(api.requests) > COUNT // 10, "some damage is harmless"


def say(proxy: RunningProxy, sent: bytes, *, size: int) -> bytes:
    """Send `sent` in pieces, end our half, and return all that comes."""
    heard = b""
    with connect(proxy.url) as wire:
        try:
            for start in range(0, len(sent), size):
                wire.send(sent[start : start + size])
            heard = _for_a_moment(wire)
            wire.sock.shutdown(socket.SHUT_WR)
            while piece := wire.read():  # a proxy that hangs is a TimeoutError here
                heard += piece
        except TimeoutError:
            raise
        except OSError:
            pass  # it had refused, and closed, what we were still sending
    return heard


def _for_a_moment(wire: Wire) -> bytes:
    patience = wire.sock.gettimeout()
    wire.sock.settimeout(PAUSE)
    try:
        return wire.read()
    except TimeoutError:
        return b""
    finally:
        wire.sock.settimeout(patience)


def test_no_damaged_reply_does_any_harm() -> None:
    timeouts = {"connect": "5s", "response": "300ms", "idle": "300ms"}
    marks = [f"mark-{random.Random(number).randbytes(8).hex()}" for number in range(COUNT)]
    answered = threading.Event()

    def answer(came: Message, wire: Wire) -> bytes | None:
        mark = came.one("X-Mark")
        if mark is None:
            return reply(body=b"fine")
        rng = random.Random(mark)
        answered.set()
        wire.send(damaged(rng, replies(mark)))
        if rng.random() < 0.7:
            return None  # closes the connection
        wire.sock.settimeout(10 * GUARD)  # else only the proxy does, if it should
        return b""

    with Tokens() as tokens, Upstream(answer) as api, unharmed(api, tokens, timeouts=timeouts) as proxy:

        def one(number: int) -> None:
            with connect(proxy.url) as wire:
                wire.send(request("GET", "/", f"X-Mark: {marks[number]}", "Connection: close"))
                try:
                    heard = wire.rest()
                except ConnectionResetError:
                    return  # cut short, where there is no other way to tell the client
            assert heard.startswith(b"HTTP/1.1 "), heard
            head = heard.partition(b"\r\n\r\n")[0]
            if b"\r\nProxy-Status: authproxy; error=" in head:
                assert re.match(rb"HTTP/1\.1 50[234] ", head), heard
            others = set(re.findall(rb"mark-[0-9a-f]{16}", heard)) - {marks[number].encode()}
            assert not others & {mark.encode() for mark in marks}, heard
            assert_told_nothing(heard, tokens)

        all_at_once(one)
        assert answered.is_set()
