"""`Channel`: messages of any length between processes, whole or not at all."""

import contextlib
import os
import select
import socket

import pytest

from authproxy.workers.channel import DATAGRAM, Channel, Pieces
from tests.unit.workers.listener import LONG, Listener

# ── messages ─────────────────────────────────────────────────────────────────────────────────────


async def test_a_message_arrives_as_it_was_said(socket_pair, settle):
    here, there = socket_pair()
    listener = Listener(there)
    message = {"id": 1, "text": 'ü "\n', "none": None, "of": [1.5, {"a": True}]}
    Channel(here, print).send(message)
    await settle()
    assert listener.heard == [message]


async def test_a_message_that_is_too_long_for_one_datagram_goes_in_several(socket_pair, settle, read_raw):
    here, there = socket_pair()
    Channel(here, print).send(LONG)
    pieces = read_raw(there)
    assert len(pieces) > 3
    assert max(map(len, pieces)) < 2 * DATAGRAM  # as much as the other side takes at a time
    there_again = Listener(there)
    for piece in pieces:
        here.send(piece)
        await settle()
    assert there_again.heard == [LONG]


async def test_what_the_other_side_does_not_take_now_waits_and_keeps_its_order(socket_pair, settle):
    here, there = socket_pair()
    channel = Channel(here, print)
    messages = [{"number": number, **LONG} for number in range(30)]
    for message in messages:
        channel.send(message)  # more than a socket holds, and nobody reads yet
    await settle()
    listener = Listener(there)
    await settle()
    assert listener.heard == messages
    channel.send({"number": 30})
    await settle()
    assert listener.heard[-1] == {"number": 30}


async def test_what_a_dead_process_left_incomplete_is_not_mixed_with_what_its_successor_says(
    socket_pair, settle
):
    here, there = socket_pair()
    listener = Listener(there)
    here.send(b'1 7 1 {"a":')
    here.send(b'2 7 0 {"b": 1}')
    await settle()
    assert listener.heard == [{"b": 1}]


async def test_the_end_of_a_message_whose_beginning_another_process_took_is_dropped(
    socket_pair, settle, caplog
):
    here, there = socket_pair()
    listener = Listener(there)
    here.send(b'1 7 0 "a": 1}')
    here.send(b'1 8 0 {"b": 1}')
    await settle()
    assert listener.heard == [{"b": 1}]
    assert caplog.records == []  # it is no fault


async def test_the_pieces_of_two_messages_of_one_process_are_told_apart(socket_pair, settle):
    here, there = socket_pair()
    listener = Listener(there)
    for datagram in (b'1 7 1 {"a":', b'1 8 1 {"b":', b"1 8 0  2}"):
        here.send(datagram)
    await settle()
    assert listener.heard == [{"b": 2}]


async def test_when_the_other_end_is_gone_for_good_what_was_to_be_said_is_dropped(socket_pair, settle):
    here, there = socket_pair()
    channel = Channel(here, print)
    there.close()
    channel.send({"a": 1})
    await settle()
    assert not channel._to_send


# ── descriptors ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def pipe():
    """Return the two ends of a pipe, which are closed at the end if they are still open."""
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


def writers(read_end):
    """Tell whether anybody has the other end of a pipe open."""
    poll = select.poll()
    poll.register(read_end, select.POLLIN)
    return not poll.poll(0)


@pytest.mark.parametrize("message", [{"a": 1}, LONG], ids=["short", "long"])
async def test_descriptors_arrive_with_their_message_though_the_sender_closes_its_own(
    socket_pair, settle, pipe, message
):
    here, there = socket_pair()
    listener, (reads, writes) = Listener(there), pipe
    channel = Channel(here, print)
    channel.send(message, [writes])
    os.close(writes)
    channel.send({"b": 2})
    await settle()
    first, second = listener.heard
    [descriptor] = first.pop("descriptors")
    assert (first, second) == (message, {"b": 2})
    os.write(descriptor, b"hello")
    assert os.read(reads, 10) == b"hello"
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)
    assert not writers(reads), "nothing of it stays open with the sender"


async def test_descriptors_that_wait_are_those_that_were_meant(socket_pair, settle, pipe):
    here, there = socket_pair()
    channel, (reads, writes) = Channel(here, print), pipe
    for _ in range(30):
        channel.send(LONG)  # more than a socket holds
    channel.send({"a": 1}, [writes])
    os.close(writes)
    wrong = os.open("/dev/null", os.O_RDONLY)  # gets the number that has become free
    assert wrong == writes
    listener = Listener(there)
    await settle()
    [descriptor] = listener.heard[-1]["descriptors"]
    os.write(descriptor, b"hello")
    assert os.read(reads, 10) == b"hello"
    os.close(descriptor)
    assert not writers(reads)


async def test_descriptors_of_a_message_whose_end_never_comes_are_closed(socket_pair, settle, pipe):
    here, there = socket_pair()
    listener, (reads, writes) = Listener(there), pipe
    socket.send_fds(here, [b'1 7 1 {"a":'], [writes])
    os.close(writes)
    await settle()
    assert writers(reads)
    here.send(b'2 8 0 {"b": 1}')
    await settle()
    assert listener.heard == [{"b": 1}]
    assert not writers(reads)


async def test_descriptors_of_a_message_whose_beginning_never_came_are_closed(socket_pair, settle, pipe):
    here, there = socket_pair()
    listener, (reads, writes) = Listener(there), pipe
    socket.send_fds(here, [b'1 7 0 "a": 1}'], [writes])
    os.close(writes)
    await settle()
    assert listener.heard == []
    assert not writers(reads)


async def test_descriptors_for_nobody_are_closed(socket_pair, settle, pipe):
    here, there = socket_pair()
    channel, (reads, writes) = Channel(here, print), pipe
    for _ in range(30):
        channel.send(LONG)
    channel.send({"a": 1}, [writes])
    os.close(writes)
    assert writers(reads)
    there.close()
    await settle()
    assert not writers(reads)


async def test_one_that_cannot_be_sent_leaves_none_open(socket_pair, pipe):
    here, _ = socket_pair()
    reads, writes = pipe
    with pytest.raises(OSError, match="Bad file descriptor"):
        Channel(here, print).send({"a": 1}, [writes, 10**6])
    os.close(writes)
    assert not writers(reads)


def test_what_is_incomplete_is_closed_with_its_pieces(pipe):
    reads, writes = pipe
    pieces = Pieces()
    pieces.take(b'1 7 1 {"a":', [os.dup(writes)])
    os.close(writes)
    pieces.close()
    assert not writers(reads)
