"""Where heads and bodies end, however the bytes are cut."""

from random import Random

import pytest

from authproxy.proxy.downstream import framing as module
from authproxy.proxy.downstream.framing import EXCESS, FAULT, HEAD, ROOM, SIZE, TRAILER, Framing, joined

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n\r\n"
BODIES = [
    b"x", b"\r\n\r\n" * 9, b"0\r\n\r\n", GET,
]  # fmt: skip
CHUNKED = [
    b"0\r\n\r\n",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"1\r\nx\r\n" * 5 + b"0\r\n\r\n",
    b"00000000000000000000a\r\n\r\n0\r\n\r\n0\r\n\r\n0000000000000000000000\r\n\r\n",
    b'24;a=b;c="d"\r\n' + b"\r\n\r\n" * 9 + b"\r\n0;x\r\nX-A: 1\r\nX-B: 2\r\n\r\n",
    b"Fe\r\n" + b"0\r\n\r\n" * 50 + b"abcd\r\n0\r\n\r\n",
]  # fmt: skip


def between(framing):
    """Whether the next byte is the first of a head."""
    return (framing.part, framing.section) == (HEAD, 0)


def ends(parts, cuts):
    """Feed the parts, cut in pieces; return where each part was found to end."""
    framing, stream = Framing(), b"".join(raw for _, raw in parts)
    kinds = iter([kind for kind, _ in parts])
    found, sizes = [], [len(raw) for _, raw in parts]
    kind, begun = next(kinds), 0
    pieces = [stream[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    at = 0
    for piece in pieces:
        start = 0
        while start < len(piece):
            end = framing.end(piece, start)
            assert end > start
            at += end - start
            start = end
            if framing.part == HEAD and not framing.section:
                found.append(at - begun)
                begun, kind = at, next(kinds, None)
                if kind == "body":
                    framing.length(sizes[len(found)])
                elif kind == "chunks":
                    framing.chunks()
    assert kind is None
    return found, sizes


@pytest.mark.parametrize("seed", range(40))
def test_every_part_ends_where_it_does_however_it_is_cut(seed):
    random = Random(seed)
    parts = []
    for _ in range(6):
        match random.randrange(3):
            case 0:
                parts.append(("head", GET))
            case 1:
                parts += [("head", POST), ("body", random.choice(BODIES))]
            case 2:
                parts += [("head", POST), ("chunks", random.choice(CHUNKED))]
    size = sum(len(raw) for _, raw in parts)
    count = random.choice([0, 1, 5, size - 1])
    found, sizes = ends(parts, sorted(random.sample(range(1, size), count)))
    assert found == sizes


@pytest.mark.parametrize("size", [b"\r\n", b"x\r\n", b";a\r\n", b"-1\r\n", b"f" * 17 + b"\r\n"])
def test_what_is_no_size_is_a_fault_and_left_to_the_parser(size):
    framing = Framing()
    framing.chunks()
    assert framing.end(size + GET, 0) == len(size + GET)
    assert framing.part == FAULT


def test_a_trailer_is_counted():
    framing = Framing()
    framing.chunks()
    framing.end(b"0\r\nX-A: 1\r\n", 0)
    framing.end(b"X-B: 2\r\n", 0)
    assert (framing.part, framing.section) == (TRAILER, 16)


def test_a_long_body_needs_no_look_until_its_last_bytes():
    framing = Framing()
    framing.length(10)
    assert framing.take_inside_body(9)
    assert not framing.take_inside_body(1)
    assert framing.end(b"x" + GET, 0) == 1
    assert between(framing)


# ── many small chunks ────────────────────────────────────────────────────────────────────────────


def chunked(*pieces, line=b"%x\r\n"):
    return b"".join(line % len(piece) + piece + b"\r\n" for piece in pieces)


def data_of(stream):
    """Return the data of chunks, and what comes behind them; they have neither extensions nor trailers."""
    data, at = b"", 0
    while True:
        end = stream.index(b"\r\n", at)
        size = int(stream[at:end], 16)
        at = end + 2 + size + 2
        assert stream[at - 2 : at] == b"\r\n"
        if not size:
            return data, stream[at:]
        data += stream[end + 2 : at - 2]


def handed_on(*pieces):
    """Follow chunks as a connection does; return what the parser gets, and how many runs were joined."""
    framing, handed, ahead, runs = Framing(), b"", b"", 0
    framing.chunks()
    for piece in pieces:
        ahead += piece
        while ahead and not between(framing):
            framing.room = ROOM
            if (end := framing.run(ahead, 0)) > 0:
                handed += joined(ahead[:end])
                runs += 1
            else:
                end = framing.end(ahead, 0)
                handed += ahead[:end]
            ahead = ahead[end:]
    return handed + ahead, runs


SMALL = [bytes(range(at, at + size)) for at in range(10) for size in range(1, 16)] + [b"\r\n1\r\n"] * 40


def test_a_run_of_small_chunks_becomes_one_wherever_it_is_cut(monkeypatch):
    monkeypatch.setattr(module, "SHORTEST_RUN", 1 << 7)  # there are few places to cut a short one
    run = [*SMALL[:30], *SMALL[-8:]]
    stream = chunked(*run, b"x" * 16, *run) + b"0\r\n\r\n"
    assert handed_on(stream)[1]
    cuts = range(len(stream) + 1)
    for handed in {handed_on(stream[:cut], stream[cut:] + GET)[0] for cut in cuts}:  # many come out alike
        assert data_of(handed) == (b"".join([*run, b"x" * 16, *run]), GET)


@pytest.mark.parametrize("cut", [b"7c", b"7c5\r", b"7c5\r\n", b"7c5\r\nhell"])
def test_what_only_looks_like_a_run_is_none(cut):
    chunk = b"7c5\r\nhello\r\n" + b"5\r\nhello\r\n" * 198 + b"ab\r\n"
    framing = Framing()
    framing.chunks()
    framing.end(cut, 0)
    assert framing.run(chunk[len(cut) :], 0) == 0
    assert framing.end(chunk[len(cut) :] + b"1\r\nx\r\n", 0) == len(chunk[len(cut) :]) + 6
    assert framing.part == SIZE


@pytest.mark.parametrize("size", ["%X", "0%x"])
def test_small_chunks_may_have_their_sizes_spelled_in_other_ways(size):
    stream = chunked(*SMALL, line=size.encode() + b"\r\n") + b"0\r\n\r\n"
    handed, runs = handed_on(stream)
    assert data_of(handed) == (b"".join(SMALL), b"")
    assert bool(runs) == (size == "%X")


@pytest.mark.parametrize("bad", [b"2\r\nabc\r\n", b"2\nab\r\n", b"2\r\nab\n", b"g\r\nab\r\n", b"0\r\n\r\n"])
def test_a_run_ends_before_what_is_no_small_chunk(bad):
    framing = Framing()
    framing.chunks()
    run = chunked(*[b"ab"] * 200)
    assert framing.run(run + bad + run, 0) == len(run)


@pytest.mark.parametrize(
    "chunk", [b"1\r\nx\r\n", b"01\r\nx\r\n", b"1;a\r\nx\r\n", b"10\r\n" + b"x" * 16 + b"\r\n"]
)
def test_no_more_chunks_are_looked_at_than_there_is_room_for(chunk):
    framing = Framing()
    framing.chunks()
    assert framing.end(chunk * 2 * ROOM, 0) == len(chunk) * ROOM
    assert framing.end(chunk, 0) == framing.room == 0
    framing.room = ROOM
    assert framing.run(chunk * 60_000, 0) <= ROOM * 64
    assert framing.room >= 0


LONG = [
    b"1;" + b"a" * 2000,
    b"0" * 2000,
    b"0" * 1000 + b"1;" + b"a" * 1000,
    (b"1;" + b"a" * 100 + b"\r\nx\r\n") * 20,
]


@pytest.mark.parametrize("stream", LONG)
@pytest.mark.parametrize("size", [1, 7, 3000])
def test_chunks_that_are_little_but_framing_are_too_much_however_they_are_cut(stream, size):
    framing = Framing(1000)
    framing.chunks()
    for start in range(0, len(stream), size):
        framing.end(stream[start : start + size], 0)
    assert framing.part == EXCESS


@pytest.mark.parametrize(
    "chunk",
    [b"1\r\nx\r\n", b"00000001;abc\r\nx\r\n", b"40;signature=" + b"f" * 64 + b"\r\n" + b"x" * 64 + b"\r\n"],
)
def test_small_chunks_are_no_excess_however_many_there_are(chunk):
    framing = Framing(1000)
    framing.chunks()
    for _ in range(2000):
        framing.room = ROOM
        assert framing.end(chunk, 0) == len(chunk)
    assert framing.part == SIZE
