"""`Channel`: messages of any length between processes, whole or not at all."""

from authproxy.workers.channel import DATAGRAM, Channel

LONG = {"value": "x" * DATAGRAM * 3}


class Listener:
    """One end of a line, which notes what it hears."""

    def __init__(self, sock):
        self.heard = []
        self.channel = Channel(sock, self._hear)

    def _hear(self, channel, message):
        assert channel is self.channel
        self.heard.append(message)


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
