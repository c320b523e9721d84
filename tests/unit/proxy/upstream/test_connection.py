"""One connection to an upstream, its transport faked: what it makes of each reply."""

import asyncio

import pytest

from authproxy.errors import BadReply, ConnectFailure, RequestTimeout, ResponseTimeout
from authproxy.net.http_proxy import HTTPProxy
from authproxy.proxy.upstream import connection as module
from authproxy.proxy.upstream.connection import MAX_HEAD, TURN, ClosedUnanswered, Connection
from authproxy.proxy.upstream.forwarding import Forwarding
from authproxy.proxy.upstream.reply import HIGH_WATER, MAX_HELD

OK = b"HTTP/1.1 200 OK\r\n"


class Transport:
    """Notes what is done to it; tells its connection in the loop's next round that it is gone."""

    def __init__(self, connection):
        self.connection = connection
        self.written = b""
        self.reading = True
        self.gone = False
        self.untaken = 0

    def set_write_buffer_limits(self, high):
        pass

    def write(self, data):
        self.written += data

    def get_write_buffer_size(self):
        return self.untaken

    def pause_reading(self):
        assert self.reading
        self.reading = False

    def resume_reading(self):
        assert not self.reading
        self.reading = True

    def can_write_eof(self):
        return True

    def abort(self):
        self.lose(None)

    def lose(self, error):
        if not self.gone:
            self.gone = True
            asyncio.get_running_loop().call_soon(self.connection.connection_lost, error)


class Time:
    """Stands in for the loop's clock and timers; time passes when a test says so."""

    def __init__(self):
        self.now = 0.0
        self.timers = []

    def time(self):
        return self.now

    def call_at(self, when, callback):
        timer = Timer(when, callback, self.timers)
        self.timers.append(timer)
        return timer

    def call_soon(self, callback):
        return asyncio.get_running_loop().call_soon(callback)

    def create_future(self):
        return asyncio.get_running_loop().create_future()

    def passes(self, seconds):
        """Let time pass, and what is due happen on the way."""
        end = self.now + seconds
        while due := [timer for timer in self.timers if timer.when <= end]:
            timer = min(due, key=lambda timer: timer.when)
            self.timers.remove(timer)
            self.now = timer.when
            timer.callback()
        self.now = end


class Timer:
    def __init__(self, when, callback, timers):
        self.when = when
        self.callback = callback
        self.timers = timers

    def cancel(self):
        self.timers.remove(self)


class World:
    """A connection, its transport, and what its pool hears."""

    def __init__(self, **keys):
        self.idle, self.lost = 0, 0
        self.connection = Connection("http://up.example", on_idle=self.on_idle, on_lost=self.on_lost, **keys)
        self.time = self.connection._loop = Time()
        self.transport = Transport(self.connection)
        self.connection.connection_made(self.transport)
        self.shown = 0

    def on_idle(self, connection):
        assert connection is self.connection
        self.idle += 1

    def on_lost(self, connection):
        assert connection is self.connection
        self.lost += 1

    def ask(self, method="GET", *, more=False, response=60, idle=60, **keys):
        head = f"{method} / HTTP/1.1\r\n\r\n".encode()
        reply = self.connection.begin(
            head, method=method, response_seconds=response, idle_seconds=idle, more=more, **keys
        )
        reply.watcher = self.watch
        return reply

    def watch(self, _):
        self.shown += 1

    def hear(self, *pieces):
        for piece in pieces:
            self.connection.data_received(piece)

    async def hang_up(self, error=None):
        self.transport.lose(error)
        await asyncio.sleep(0)


@pytest.fixture(autouse=True, params=["read plainly", "read by the parser"])
def reads(request, monkeypatch):
    """Whoever reads the head of a reply: all that is promised here holds."""
    if request.param == "read by the parser":
        monkeypatch.setattr(module, "read_reply", lambda _head: None)
    return request.param


@pytest.fixture
async def world():
    return World()


async def body_of(reply):
    whole = b""
    while parts := await reply.read():
        whole += b"".join(parts)
    return whole


# ── whole replies ────────────────────────────────────────────────────────────────────────────────


async def test_a_request_is_written_and_its_reply_read(world):
    reply = world.ask()
    assert world.transport.written == b"GET / HTTP/1.1\r\n\r\n"
    assert repr(world.connection) == "<Connection http://up.example busy>"
    world.hear(b"HTTP/1.1 201 Gut so\r\nx-A: 1\r\nContent-Length: 2\r\nX-a: 2\r\n\r\nok")
    await reply.head()
    assert (reply.status, reply.reason, reply.length) == (201, b"Gut so", 2)
    assert reply.headers == [(b"x-A", b"1"), (b"Content-Length", b"2"), (b"X-a", b"2")]
    assert reply.complete
    assert await body_of(reply) == b"ok"
    assert (world.idle, world.lost, world.shown) == (1, 0, 1)
    assert repr(world.connection) == "<Connection http://up.example idle>"
    assert repr(reply) == "<Reply 201 complete>"


@pytest.mark.parametrize(
    ("method", "reply", "body"),
    [
        ("GET", OK + b"Content-Length: 0\r\n\r\n", b""),
        ("GET", OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n1;x=y\r\n!\r\n0\r\n\r\n", b"ok!"),
        ("GET", OK + b"transfer-encoding: Chunked\r\n\r\n0\r\nX-T: 1\r\n\r\n", b""),
        ("HEAD", OK + b"Content-Length: 1000\r\n\r\n", b""),
        ("HEAD", OK + b"Transfer-Encoding: chunked\r\n\r\n", b""),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        ("GET", b"HTTP/1.1 304 Not Modified\r\n\r\n", b""),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n", b""),
        ("GET", b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok", b"ok"),
        (
            "GET",
            b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 2 + OK + b"Content-Length: 2\r\n\r\nok",
            b"ok",
        ),
        ("GET", b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        ("GET", b"HTTP/1.1 599 Odd\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    ],
)
@pytest.mark.parametrize("cut", ["whole", "byte by byte"])
async def test_a_whole_reply_leaves_the_connection_for_the_next(world, method, reply, body, cut):
    for count in (1, 2):
        heard = world.ask(method)
        world.hear(*([reply] if cut == "whole" else [reply[i : i + 1] for i in range(len(reply))]))
        await heard.head()
        assert heard.complete
        assert await body_of(heard) == body
        assert (world.idle, world.connection.closed) == (count, False)


async def test_an_interim_reply_leaves_nothing_behind(world):
    reply = world.ask()
    world.hear(b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n")
    assert reply.status == 0
    world.hear(OK + b"Content-Length: 0\r\n\r\n")
    assert (reply.reason, reply.headers) == (b"OK", [(b"Content-Length", b"0")])


async def test_trailers_are_dropped(world):
    reply = world.ask()
    world.hear(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-T: 1\r\nSet-Cookie: a\r\n\r\n")
    assert reply.complete
    assert reply.headers == [(b"Transfer-Encoding", b"chunked")]


@pytest.mark.parametrize(
    ("method", "reply"),
    [
        ("GET", OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nok"),
        ("GET", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        ("HEAD", OK + b"Connection: close\r\n\r\n"),
    ],
)
async def test_a_connection_that_is_not_to_be_kept_is_closed(world, method, reply):
    heard = world.ask(method)
    world.hear(reply)
    assert heard.complete
    assert world.connection.closed
    assert (world.idle, world.lost) == (0, 1)
    await asyncio.sleep(0)
    assert world.lost == 1  # told once


async def test_a_body_of_known_length_in_many_pieces_leaves_the_connection_good(world):
    first = world.ask()
    world.hear(OK + b"Content-Length: 12\r\n\r\nHTTP", b"/1.1 ", b"200")
    assert await body_of(first) == b"HTTP/1.1 200"
    assert (first.complete, world.idle, world.connection.closed) == (True, 1, False)
    second = world.ask()
    world.hear(OK + b"Content-Length: 2\r\n\r\nok")
    assert await body_of(second) == b"ok"
    assert world.idle == 2


async def test_more_than_the_announced_length_in_a_later_piece_ends_the_connection(world):
    reply = world.ask()
    world.hear(OK + b"Content-Length: 4\r\n\r\n", b"on", b"e!" + OK)
    assert await body_of(reply) == b"one!"
    assert (reply.complete, world.connection.closed, world.lost) == (True, True, 1)


async def test_a_body_without_a_length_ends_with_the_connection(world):
    reply = world.ask()
    world.hear(OK + b"\r\n", b"one ", b"two")
    await reply.head()
    assert (reply.complete, reply.length) == (False, None)
    assert await reply.read() == [b"one ", b"two"]
    await world.hang_up()
    assert await body_of(reply) == b""
    assert reply.complete


# ── faulty replies ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "reply",
    [
        b"garbage\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"\x15\x03\x01\x00\x02\x02",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.5 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 1000 OK\r\n\r\n",
        b"HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",  # unasked
        b"HTTP/1.1 101 Switching\r\n\r\n",
        OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n",
        OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n",
        OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n",
        OK + b"Content-Length: +2\r\n\r\n",
        OK + b"Content-Length: 0x2\r\n\r\n",
        OK + b"Content-Length: 1_0\r\n\r\n",
        OK + b"Content-Length: 2, 2\r\n\r\n",
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"Content-Length: 99999999999999999999999\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        OK + b"Transfer-Encoding: gzip\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 O\0K\r\n\r\n",
        OK + b"X-A: a\0b\r\n\r\n",
        OK + b"X-A: a\r\n b\r\n\r\n",
        OK + b"X-A: a\rb\r\n\r\n",
        OK + b"X-A: a\nX-B: b\r\n\r\n",
        OK + b"X A: b\r\n\r\n",
        OK + b"X-A : b\r\n\r\n",
        OK + b": b\r\n\r\n",
    ],
)
@pytest.mark.parametrize("cut", ["whole", "byte by byte"])
async def test_a_head_that_is_not_http_1_1_is_502(world, reply, cut):
    heard = world.ask()
    world.hear(*([reply] if cut == "whole" else [reply[i : i + 1] for i in range(len(reply))]))
    with pytest.raises(BadReply, match=r"http://up\.example (sent a faulty reply|did not answer in HTTP)"):
        await heard.head()
    assert world.connection.closed
    assert (world.idle, world.lost, world.shown) == (0, 1, 1)


@pytest.mark.parametrize(
    ("head", "fault"),
    [
        (b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n", "Duplicate Content-Length"),
        (b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", "Transfer-Encoding .* Content-Length"),
        (b"Transfer-Encoding: gzip\r\n\r\n", "a transfer encoding other than chunked"),
        (b"X-A: s3cr3t\r\n b\r\n\r\n", "Unexpected whitespace after header value"),
        (b"X-A: s3cr3t\nX-B: b\r\n\r\n", "Missing expected CR"),
        (b"X-A: s3cr3t\x01\r\n\r\n", "Invalid header value char"),
    ],
)
async def test_a_faulty_reply_is_told_with_its_fault_and_a_hint(world, head, fault):
    heard = world.ask()
    world.hear(OK + head)
    with pytest.raises(BadReply, match=f"sent a faulty reply: {fault}") as caught:
        await heard.head()
    assert "for the upstream to mend" in caught.value.hint
    assert "s3cr3t" not in caught.value.detail


@pytest.mark.parametrize(
    "rest",
    [b"x\r\nok\r\n", b"2\r\nokay\r\n", b"-1\r\n", b"\r\n", b"2;\0\r\nok\r\n", b"ffffffffffffffffff\r\n"],
)
async def test_a_broken_chunk_breaks_the_body_off(world, rest):
    reply = world.ask()
    world.hear(OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
    await reply.head()
    world.hear(rest)
    with pytest.raises(BadReply, match="sent a faulty reply"):
        await body_of(reply)
    assert world.connection.closed


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 10\r\n\r\none", b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n"]
)
@pytest.mark.parametrize("error", [None, ConnectionResetError()])
async def test_a_body_that_ends_too_early_is_not_taken_for_whole(world, framing, error):
    reply = world.ask()
    world.hear(OK + framing)
    assert await reply.read() == [b"one"]
    await world.hang_up(error)
    with pytest.raises(BadReply, match="broke off its body"):
        await reply.read()
    assert not reply.complete
    assert repr(reply) == "<Reply 200 failed>"


async def test_a_reset_in_a_body_without_a_length_is_not_its_end(world):
    reply = world.ask()
    world.hear(OK + b"\r\none")
    await world.hang_up(ConnectionResetError())
    assert await reply.read() == [b"one"]  # what has come is not lost
    with pytest.raises(BadReply):
        await reply.read()


@pytest.mark.parametrize(
    ("method", "reply", "extra"),
    [
        ("GET", OK + b"Content-Length: 2\r\n\r\nok", b"more"),
        ("GET", OK + b"Content-Length: 2\r\n\r\nok", OK + b"Content-Length: 0\r\n\r\n"),
        ("GET", OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", b"HTTP"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", b"ok"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", b"ok"),
        ("HEAD", OK + b"Content-Length: 2\r\n\r\n", b"ok"),
        ("HEAD", OK + b"Transfer-Encoding: chunked\r\n\r\n", b"2\r\nok\r\n0\r\n\r\n"),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
async def test_more_than_a_reply_ends_the_connection_but_not_the_reply(world, method, reply, extra, at_once):
    heard = world.ask(method)
    world.hear(*([reply + extra] if at_once else [reply, extra]))
    assert heard.complete
    assert (await body_of(heard)) in {b"", b"ok"}
    assert world.connection.closed
    assert world.lost == 1
    assert world.shown == 1  # whoever watches is told in any case


async def test_a_word_before_the_question_ends_the_connection(world):
    world.hear(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
    assert world.connection.closed
    assert world.lost == 1


@pytest.mark.parametrize("endless", [b"X-A: " + b"a" * 1000 + b"\r\n", b"HTTP/1.1 103 Early\r\n\r\n"])
async def test_a_head_without_an_end_is_given_up(world, endless):
    reply = world.ask()
    if endless.startswith(b"X"):
        world.hear(OK)
    for _ in range(2 * MAX_HEAD // len(endless)):
        world.hear(endless)
    with pytest.raises(BadReply, match="too long a header section"):
        await reply.head()


# ── a connection that closes ─────────────────────────────────────────────────────────────────────


async def test_a_new_connection_that_closes_unanswered_is_a_bad_reply(world):
    reply = world.ask()
    await world.hang_up()
    with pytest.raises(BadReply, match="without an answer") as caught:
        await reply.head()
    assert not isinstance(caught.value, ClosedUnanswered)


async def test_a_kept_connection_that_turns_out_dead_can_be_told_from_that(world):
    world.ask()
    world.hear(OK + b"Content-Length: 0\r\n\r\n")
    reply = world.ask()
    await world.hang_up(ConnectionResetError())
    with pytest.raises(ClosedUnanswered):
        await reply.head()
    assert world.shown == 2


@pytest.mark.parametrize("begun", [b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_one_byte_of_an_answer_is_an_answer(world, begun):
    world.ask()
    world.hear(OK + b"Content-Length: 0\r\n\r\n")
    reply = world.ask()
    world.hear(begun)
    await world.hang_up()
    with pytest.raises(BadReply) as caught:
        await reply.head()
    assert not isinstance(caught.value, ClosedUnanswered)


async def test_an_idle_connection_that_closes_tells_its_pool(world):
    world.ask()
    world.hear(OK + b"Content-Length: 0\r\n\r\n")
    await world.hang_up()
    assert (world.lost, world.connection.closed) == (1, True)


async def test_a_reply_that_is_given_up_closes_its_connection(world):
    reply = world.ask()
    world.hear(OK + b"Content-Length: 5\r\n\r\n")
    reply.close()
    reply.close()
    world.hear(b"late")
    assert world.connection.closed
    await asyncio.sleep(0)
    assert world.lost == 1


async def test_a_whole_reply_that_is_closed_keeps_its_connection(world):
    reply = world.ask()
    world.hear(OK + b"Content-Length: 0\r\n\r\n")
    reply.close()
    assert not world.connection.closed


# ── back-pressure ────────────────────────────────────────────────────────────────────────────────


async def test_an_upstream_that_is_faster_than_its_reader_waits(world):
    reply = world.ask(idle=60)
    piece = b"x" * (HIGH_WATER // 2)
    world.hear(OK + b"Content-Length: 99999999\r\n\r\n", piece, piece)
    assert world.transport.reading
    world.hear(b"x")
    assert not world.transport.reading
    world.time.passes(1000)  # the client is slow, not the upstream
    assert not world.connection.closed
    assert sum(map(len, await reply.read())) == HIGH_WATER + 1
    assert world.transport.reading
    world.time.passes(60)  # now it is the upstream
    with pytest.raises(BadReply, match="nothing of its body"):
        await reply.read()


@pytest.mark.parametrize("at_once", [1, 1000])
async def test_tiny_chunks_are_held_in_few_pieces(world, at_once):
    reply = world.ask()
    world.hear(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    said = 0
    while world.transport.reading and said < 50_000:
        world.hear(b"2\r\nxx\r\n" * at_once)
        said += at_once
    assert len(reply.parts) <= MAX_HELD + 1
    assert at_once == 1 or said == 50_000, "1,000 that come together are one"
    parts = await reply.read()
    assert b"".join(parts) == b"xx" * said
    assert len(parts) <= 100
    assert world.transport.reading


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


async def test_tiny_chunks_that_come_at_once_are_parsed_bit_by_bit_and_in_order(world):
    reply = world.ask()
    world.hear(
        CHUNKED + b"".join(b"2\r\n%02d\r\n" % (number % 100) for number in range(30_000)) + b"0\r\n\r\n"
    )
    assert not world.transport.reading
    size = 0
    while not reply.complete:
        assert sum(map(len, reply.parts)) - size <= TURN
        size = sum(map(len, reply.parts))
        await asyncio.sleep(0)
    assert await body_of(reply) == b"".join(b"%02d" % (number % 100) for number in range(30_000))
    assert world.transport.reading
    assert (world.idle, world.lost, world.shown) == (1, 0, 1)
    again = world.ask()
    world.hear(OK + b"Content-Length: 2\r\n\r\nok")
    assert await body_of(again) == b"ok"


async def test_what_comes_while_tiny_chunks_have_yet_to_be_parsed_comes_behind_them(world):
    reply = world.ask()
    world.hear(CHUNKED + b"1\r\nx\r\n" * 9000, b"1\r\ny\r\n0\r\n\r\n")
    assert await body_of(reply) == b"x" * 9000 + b"y"


async def test_tiny_chunks_to_a_client_that_is_slow_are_held_until_it_reads(world):
    reply = world.ask()
    world.hear(CHUNKED + b"1000\r\n" + b"x" * 4096 + b"\r\n")
    world.hear(b"400\r\n" + b"x" * 1024 + b"\r\n")
    while world.transport.reading:
        world.hear(b"1\r\nx\r\n" * 40_000)
        while world.connection._turn is not None:
            await asyncio.sleep(0)
    assert sum(map(len, reply.parts)) <= HIGH_WATER + 40_000
    await reply.read()
    assert world.transport.reading


@pytest.mark.parametrize("end", [b"0\r\n\r\n", b""])
async def test_tiny_chunks_that_came_before_the_end_of_the_connection_count(world, end):
    reply = world.ask()
    world.hear(CHUNKED + b"1\r\nx\r\n" * 40_000 + end)
    await world.hang_up()
    parts = b"".join(reply.parts)
    assert parts == b"x" * 40_000
    assert reply.complete == bool(end)
    assert (reply.failure is None) == bool(end)


@pytest.mark.parametrize("error", [None, ConnectionResetError()])
@pytest.mark.parametrize(
    "lines",
    [b"HTTP/1.1 102 Processing\r\n\r\n" * 5000 + OK, OK + b"X: y\r\n" * 12_000],
    ids=["interim", "many"],
)
async def test_a_head_that_takes_turns_is_shown_when_the_connection_is_lost_meanwhile(world, lines, error):
    reply = world.ask()
    world.hear(lines + b"Content-Length: 2\r\n\r\nok")
    assert world.connection._turn is not None
    await world.hang_up(error)
    assert reply.complete
    assert world.shown == 1


@pytest.mark.parametrize("size", [TURN - 1000, TURN], ids=["amid a turn", "with a turn"])
async def test_a_reply_behind_one_that_ends_ends_the_connection_at_once(world, size):
    reply = world.ask()
    last = b"0\r\n\r\n"
    count = (size - 100) // len(b"1\r\nx\r\n")
    first = CHUNKED + b"1\r\nx\r\n" * count
    first += b"1;".ljust(size - len(first) - len(b"\r\nx\r\n" + last), b"e") + b"\r\nx\r\n" + last
    assert len(first) == size
    world.hear(first * 3)
    assert world.transport.gone, "before the next request could be sent"
    assert await body_of(reply) == b"x" * (count + 1)


async def test_a_text_of_many_lines_whose_length_is_known_is_there_at_once(world):
    reply = world.ask()
    text = b"a line\n" * 20_000
    world.hear(OK + b"Content-Length: %d\r\n\r\n" % len(text) + text)
    assert reply.complete
    assert b"".join(reply.parts) == text
    assert world.shown == 1


async def test_a_paused_connection_reads_again_for_the_next_exchange(world):
    reply = world.ask()
    size = HIGH_WATER + 1
    world.hear(OK + b"Content-Length: %d\r\n\r\n" % size + b"x" * size)
    assert reply.complete
    assert world.transport.reading


async def test_an_upload_waits_for_an_upstream_that_is_slow(world):
    world.ask("POST", more=True)
    assert await world.connection.send(b"one ")
    world.connection.pause_writing()
    sending = asyncio.create_task(world.connection.send(b"two"))
    await asyncio.sleep(0)
    assert not sending.done()
    world.connection.resume_writing()
    assert await sending
    assert world.transport.written.endswith(b"\r\n\r\none two")


async def test_an_upload_to_an_upstream_that_goes_away_ends(world):
    world.ask("POST", more=True)
    world.connection.pause_writing()
    sending = asyncio.create_task(world.connection.send(b"one"))
    await asyncio.sleep(0)
    await world.hang_up()
    assert not await sending
    assert not await world.connection.send(b"two")
    assert world.transport.written.endswith(b"one")


async def test_an_answer_before_the_request_is_out_ends_upload_and_connection(world):
    reply = world.ask("POST", more=True)
    world.hear(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
    assert reply.complete
    assert world.connection.closed
    assert world.idle == 0
    assert not await world.connection.send(b"more")


async def test_an_upload_that_fails_is_told_to_whoever_waits_for_the_reply(world):
    reply = world.ask("POST", more=True)
    world.connection.fail(ValueError("the client is to blame"))
    with pytest.raises(ValueError, match="to blame"):
        await reply.head()
    assert (world.lost, world.shown) == (1, 1)


# ── deadlines ────────────────────────────────────────────────────────────────────────────────────


async def test_an_upstream_that_says_nothing_is_504(world):
    reply = world.ask(response=10)
    world.time.passes(9.9)
    assert not world.connection.closed
    world.time.passes(0.1)
    with pytest.raises(ResponseTimeout, match="did not answer within 10 s"):
        await reply.head()
    assert world.connection.closed
    assert world.shown == 1


async def test_interim_replies_do_not_prolong_the_wait(world):
    reply = world.ask(response=10)
    world.time.passes(9)
    world.hear(b"HTTP/1.1 103 Early\r\n\r\n")
    world.time.passes(1)
    with pytest.raises(ResponseTimeout):
        await reply.head()


async def test_a_body_that_stops_is_broken_off(world):
    reply = world.ask(idle=30)
    world.hear(OK + b"Content-Length: 5\r\n\r\none")
    world.time.passes(30)
    assert await reply.read() == [b"one"]
    with pytest.raises(BadReply, match="sent nothing of its body for 30 s"):
        await reply.read()


async def test_a_body_that_keeps_coming_is_not(world):
    reply = world.ask(response=10, idle=30)
    world.hear(OK + b"Content-Length: 5\r\n\r\n")
    for _ in range(5):
        world.time.passes(29)
        world.hear(b"x")
    assert await body_of(reply) == b"xxxxx"


async def test_a_client_that_stops_in_its_body_is_408(world):
    reply = world.ask("POST", more=True, idle=30)
    assert await world.connection.send(b"x")
    world.time.passes(29)
    assert await world.connection.send(b"x")
    world.time.passes(30)
    with pytest.raises(RequestTimeout, match=r"the client sent nothing of its body to .* for 30 s"):
        await reply.head()


async def test_an_upstream_that_does_not_take_an_upload_is_504(world):
    reply = world.ask("POST", more=True, idle=30)
    world.time.passes(29)
    sending = await stalled(world)
    world.time.passes(29)
    assert not reply.failure
    world.time.passes(1)
    with pytest.raises(ResponseTimeout, match=r"http://up\.example took nothing of the upload for 30 s"):
        await reply.head()
    assert not await sending


async def test_an_upstream_that_takes_an_upload_slowly_is_waited_for(world):
    reply = world.ask("POST", more=True, idle=30)
    sending = await stalled(world)
    for _ in range(5):
        world.transport.untaken -= 1
        world.time.passes(30)
    assert not reply.failure
    world.time.passes(30)
    assert isinstance(reply.failure, ResponseTimeout)
    assert not await sending


async def test_an_upstream_that_takes_the_end_of_an_upload_slowly_is_waited_for(world):
    reply = world.ask("POST", more=True, response=30)
    world.transport.untaken = 1000
    world.connection.sent(30)
    for _ in range(5):
        world.transport.untaken -= 200
        world.time.passes(30)
    assert not reply.failure
    world.time.passes(30)
    assert isinstance(reply.failure, ResponseTimeout)


async def test_the_time_that_an_upstream_took_is_not_the_clients(world):
    reply = world.ask("POST", more=True, idle=30)
    sending = await stalled(world)
    world.time.passes(29)
    world.connection.resume_writing()
    assert await sending
    world.time.passes(29)
    assert not reply.failure
    world.time.passes(1)
    assert isinstance(reply.failure, RequestTimeout)


async def stalled(world):
    """Have a piece of the upload wait for the upstream."""
    world.connection.pause_writing()
    world.transport.untaken = 1000
    sending = asyncio.create_task(world.connection.send(b"x"))
    await asyncio.sleep(0)
    return sending


async def test_an_upload_beside_the_answer_keeps_it_going(world):
    reply = world.ask("POST", more=True, idle=30)
    world.hear(OK + b"Content-Length: 99\r\n\r\n")
    for _ in range(5):
        world.time.passes(29)
        assert await world.connection.send(b"x")
    assert not reply.failure
    world.time.passes(30)
    assert isinstance(reply.failure, BadReply)


async def test_an_upload_beside_an_answer_that_nobody_reads_sets_no_deadline(world):
    reply = world.ask("POST", more=True, idle=30)
    world.hear(OK + b"Content-Length: 9999999\r\n\r\n" + b"x" * (HIGH_WATER + 1))
    assert not world.transport.reading
    assert await world.connection.send(b"x")
    world.time.passes(1000)
    assert not reply.failure


async def test_an_upload_that_ends_with_its_connection_leaves_no_timer(world):
    world.ask("POST", more=True, idle=30)
    sending = await stalled(world)
    world.connection.abort()
    assert not await sending
    assert world.time.timers == []


@pytest.mark.parametrize("exchanges", [0, 1])
async def test_an_upload_that_goes_on_is_not_ended_on_a_kept_connection_either(world, exchanges):
    for _ in range(exchanges):
        world.ask()
        world.hear(OK + b"Content-Length: 0\r\n\r\n")
    reply = world.ask("POST", more=True, idle=30)
    for _ in range(5):
        world.time.passes(29)
        assert await world.connection.send(b"x")
    world.connection.sent(10)
    world.time.passes(9)
    world.hear(OK + b"Content-Length: 0\r\n\r\n")
    assert reply.complete


async def test_once_the_request_is_out_the_answer_is_awaited(world):
    reply = world.ask("POST", more=True, idle=300)
    world.connection.sent(10)
    world.time.passes(10)
    with pytest.raises(ResponseTimeout, match="did not answer within 10 s"):
        await reply.head()


async def test_an_idle_connection_has_no_deadline(world):
    world.ask(response=10, idle=30)
    world.hear(OK + b"Content-Length: 0\r\n\r\n")
    world.time.passes(1000)
    assert not world.connection.closed
    reply = world.ask(response=10)
    world.time.passes(10)
    with pytest.raises(ResponseTimeout):
        await reply.head()


async def test_a_shorter_deadline_than_the_last_one_is_kept_too(world):
    world.ask(response=300)
    world.hear(OK + b"Content-Length: 0\r\n\r\n")
    reply = world.ask(response=10)
    world.time.passes(10)
    with pytest.raises(ResponseTimeout):
        await reply.head()


async def test_a_thousand_exchanges_need_one_timer(world):
    for _ in range(1000):
        world.ask()
        world.hear(OK + b"Content-Length: 0\r\n\r\n")
        assert len(world.time.timers) == 1
    world.connection.abort()
    assert world.time.timers == []


# ── other protocols ──────────────────────────────────────────────────────────────────────────────

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"


class Pipe:
    def __init__(self):
        self.heard = []

    def __getattr__(self, name):
        return lambda *what: self.heard.append((name, *what))


async def test_a_switch_that_was_asked_for_makes_the_connection_a_pipe(world):
    reply, pipe = world.ask(may_switch=True), Pipe()
    world.hear(SWITCH + b"first", b"second")
    await reply.head()
    assert (reply.status, world.shown) == (101, 1)
    assert reply.join(lambda transport: pipe) is pipe
    world.hear(b"HTTP/1.1 not parsed any more")
    world.connection.pause_writing()
    world.connection.resume_writing()
    assert world.connection.eof_received()
    await world.hang_up()
    assert pipe.heard == [
        ("feed", "upstream", b"first"),
        ("feed", "upstream", b"second"),
        ("feed", "upstream", b"HTTP/1.1 not parsed any more"),
        ("pause", "upstream"),
        ("resume", "upstream"),
        ("end", "upstream"),
        ("close",),
    ]
    assert (world.idle, world.lost) == (0, 1)


async def test_an_early_switch_is_told_of_when_the_request_is_out(world):
    reply, pipe = world.ask("POST", more=True, may_switch=True), Pipe()
    world.hear(SWITCH + b"first", b"second")
    assert reply.status == 0
    assert await world.connection.send(b"the rest")
    world.connection.sent(60)
    assert reply.status == 101
    reply.join(lambda transport: pipe)
    assert pipe.heard == [("feed", "upstream", b"first"), ("feed", "upstream", b"second")]


async def test_what_comes_after_an_early_switch_does_not_pile_up(world):
    reply = world.ask("POST", more=True, may_switch=True)
    world.hear(SWITCH, b"x" * HIGH_WATER)
    assert world.transport.reading
    world.hear(b"x")
    assert not world.transport.reading
    world.connection.sent(60)
    reply.join(lambda transport: Pipe())
    assert world.transport.reading


async def test_an_early_switch_does_not_stop_the_clock_for_the_client(world):
    reply = world.ask("POST", more=True, idle=5, may_switch=True)
    world.hear(SWITCH, b"x" * (HIGH_WATER + 1))
    world.time.passes(6)
    with pytest.raises(RequestTimeout):
        await reply.head()


async def test_a_switch_that_was_declined_is_an_ordinary_reply(world):
    reply = world.ask(may_switch=True)
    world.hear(OK + b"Content-Length: 0\r\n\r\n")
    assert reply.complete
    assert world.idle == 1


async def test_a_switch_that_is_gone_already_is_a_failure(world):
    reply = world.ask(may_switch=True)
    world.hear(SWITCH)
    await world.hang_up()
    with pytest.raises(BadReply):
        reply.join(lambda transport: Pipe())


# ── a proxy at the other end ─────────────────────────────────────────────────────────────────────


@pytest.fixture
async def proxied():
    return World(forwarding=Forwarding(HTTPProxy("proxy", 3128, "me", "s3cr3t"), "http://up.example:81"))


BASIC = b"Proxy-Authorization: Basic bWU6czNjcjN0\r\n"


@pytest.mark.parametrize(
    ("target", "whole"),
    [
        (b"/", b"http://up.example:81/"),
        (b"/a/b?c=d%20e", b"http://up.example:81/a/b?c=d%20e"),
        (b"//a", b"http://up.example:81//a"),
        (b"*", b"http://up.example:81"),  # RFC 9112 §3.2.4
    ],
)
async def test_a_proxy_is_told_the_whole_url(proxied, target, whole):
    for count in (1, 2):
        proxied.transport.written = b""
        proxied.connection.begin(
            b"PUT %b HTTP/1.1\r\nHost: up.example:81\r\n\r\nbody\r\n/" % target,
            method="PUT", response_seconds=60, idle_seconds=60, more=False,
        )  # fmt: skip
        assert proxied.transport.written == (
            b"PUT %b HTTP/1.1\r\n%bHost: up.example:81\r\n\r\nbody\r\n/" % (whole, BASIC)
        )
        proxied.hear(OK + b"Content-Length: 0\r\n\r\n")
        assert proxied.idle == count


async def test_a_407_of_a_proxy_is_not_passed_on_as_the_upstreams(proxied):
    reply = proxied.ask()
    proxied.hear(b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\nContent-Length: 2\r\n\r\nno")
    with pytest.raises(ConnectFailure, match=r"the HTTP proxy http://proxy:3128 answered 407 to") as caught:
        await reply.head()
    assert "user and a password" in caught.value.hint
    assert "s3cr3t" not in f"{caught.value} {caught.value.hint}"
    assert (proxied.connection.closed, proxied.lost, proxied.shown) == (True, 1, 1)


async def test_a_407_of_an_upstream_is_its_own(world):
    reply = world.ask()
    world.hear(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")
    assert (reply.status, reply.complete) == (407, True)
