"""Where heads and bodies end, however the bytes are cut."""

from random import Random

import pytest

from authproxy.proxy.downstream.framing import FAULT, HEAD, TRAILER, Framing

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
    assert framing.is_part_of_body(9)
    assert not framing.is_part_of_body(1)
    assert framing.end(b"x" + GET, 0) == 1
    assert framing.between
