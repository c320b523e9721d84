"""The way through an HTTP proxy, which is the other end of a socket pair here."""

import asyncio
import socket

import pytest

from authproxy.errors import BadReply, ConnectFailure
from authproxy.net.http_proxy import read_proxy
from authproxy.net.http_tunnel import MAX_HEAD, open_tunnel

PROXY = read_proxy("http://joe:s3cr3t@proxy.example:3128")
CREDENTIAL = b"Proxy-Authorization: Basic am9lOnMzY3IzdA=="


@pytest.fixture
def ends():
    here, there = socket.socketpair()
    for sock in (here, there):
        sock.settimeout(0)
    yield here, there
    here.close()
    there.close()


async def opened(ends, *pieces, host="up.example", port=443, proxy=PROXY, hangs_up=False):
    """Open a tunnel through a proxy that answers with `pieces`; return what it was asked."""
    here, there = ends
    task = asyncio.create_task(open_tunnel(here, proxy, host, port))
    for piece in pieces:
        there.send(piece)
        for _ in range(3):
            await asyncio.sleep(0)
    if hangs_up:
        there.shutdown(socket.SHUT_WR)
    await task
    return there.recv(1 << 16)


OK = b"HTTP/1.1 200 Connection established\r\n\r\n"


@pytest.mark.parametrize(
    ("host", "authority"),
    [("up.example", b"up.example:443"), ("::1", b"[::1]:443"), ("10.0.0.1", b"10.0.0.1:443")],
)
async def test_the_proxy_is_asked_for_the_upstream_and_told_who_asks(ends, host, authority):
    asked = await opened(ends, OK, host=host)
    assert asked == b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n%b\r\n\r\n" % (authority, authority, CREDENTIAL)


async def test_a_proxy_without_a_password_is_not_told_one(ends):
    assert b"Authorization" not in await opened(ends, OK, proxy=read_proxy("http://proxy.example:3128"))


@pytest.mark.parametrize(
    "pieces",
    [
        [OK],
        [b"HTTP/1.0 200\r\n\r\n"],
        [b"HTTP/1.1 299 So\r\nA: 1\r\nB: 2\r\n\r\n"],
        [b"H", b"TTP/1.", b"1 200 OK\r\nA:", b" 1\r\n\r", b"\n"],
        [b"HTTP/1.1 100 Continue\r\n\r\n", OK],
        [b"HTTP/1.1 103 Early\r\nA: 1\r\n\r\n" + b"HTTP/1.1 100 Continue\r\n\r\n" + OK],
    ],
)
async def test_any_2xx_opens_the_tunnel_in_whatever_pieces_and_after_interim_answers(ends, pieces):
    await opened(ends, *pieces)


@pytest.mark.parametrize("status", [101, 302, 403, 502])
async def test_any_other_answer_is_a_refusal_that_names_the_proxy_without_its_password(ends, status):
    with pytest.raises(ConnectFailure) as caught:
        await opened(ends, b"HTTP/1.1 %d No\r\n\r\n" % status)
    assert f"answered {status} to CONNECT up.example:443" in caught.value.detail
    assert "proxy.example" in caught.value.detail
    assert "s3cr3t" not in caught.value.detail


async def test_a_407_says_what_is_missing(ends):
    with pytest.raises(ConnectFailure) as caught:
        await opened(ends, b"HTTP/1.1 407 Who?\r\n\r\n")
    assert "wants a user and a password" in caught.value.hint


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"SSH-2.0-OpenSSH\r\n", "did not answer in HTTP"),
        (b"<html>", "did not answer in HTTP"),
        (b"HTTP/2.0 200 OK\r\n\r\n", "did not answer in HTTP"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "did not answer in HTTP"),
        (OK + b"HTTP/1.1 200 OK\r\n", "more than its answer"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"x" * (MAX_HEAD + 5000), "too long"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, "too long"),
    ],
)
async def test_what_is_no_answer_of_a_proxy_opens_nothing(ends, answer, says):
    with pytest.raises(BadReply, match=says):
        await opened(ends, answer)


@pytest.mark.parametrize("pieces", [[], [b"HTTP/1.1 200 OK\r\n"]])
async def test_a_proxy_that_hangs_up_opens_nothing(ends, pieces):
    with pytest.raises(BadReply, match="closed the connection"):
        await opened(ends, *pieces, hangs_up=True)


async def test_a_proxy_that_is_gone_opens_nothing(ends):
    here, there = ends
    there.close()
    with pytest.raises(BadReply, match="closed the connection"):
        await open_tunnel(here, PROXY, "up.example", 443)


async def test_where_the_other_end_may_speak_first_what_it_says_is_kept(ends):
    here, there = ends
    task = asyncio.create_task(open_tunnel(here, PROXY, "up.example", 22, may_begin=True))
    there.send(OK + b"SSH-2.0")
    assert await task == b"SSH-2.0"
