"""Closing: whoever listens gets all of it, and nobody is waited for forever."""

import heapq
import socket
import struct

import pytest

from authproxy.net import lingering_close as lingering
from authproxy.net.lingering_close import (
    MAX_SECONDS,
    QUIET,
    LingeringClose,
    close_or_abort,
    reset_on_close,
)

STALL = 60.0


class Loop:
    """An event loop's clock and timers."""

    def __init__(self):
        self.now = 0.0
        self._due = []

    def time(self):
        return self.now

    def call_later(self, seconds, callback, *args):
        heapq.heappush(self._due, (self.now + seconds, len(self._due), callback, args))

    def passes(self, seconds, meanwhile=lambda: None):
        """Let time pass, second by second, and have `meanwhile` called in each."""
        for _ in range(int(seconds)):
            meanwhile()
            self.now += 1
            while self._due and self._due[0][0] <= self.now:
                _, _, callback, args = heapq.heappop(self._due)
                callback(*args)


class Transport:
    def __init__(self, *, left=0, half_closes=True):
        self.left = left
        self.half_closes = half_closes
        self.said = []

    def can_write_eof(self):
        return self.half_closes

    def write_eof(self):
        self.said.append("eof")

    def close(self):
        self.said.append("close")

    def abort(self):
        self.said.append("abort")

    def is_closing(self):
        return bool({"close", "abort"} & set(self.said))

    def get_write_buffer_size(self):
        return self.left

    def takes(self, size):
        self.left = max(0, self.left - size)


@pytest.fixture
def loop(monkeypatch):
    made = Loop()
    monkeypatch.setattr(lingering.asyncio, "get_running_loop", lambda: made)
    return made


def test_our_half_ends_at_once_and_a_quiet_side_is_closed_soon(loop):
    transport = Transport()
    LingeringClose(transport, STALL)
    assert transport.said == ["eof"]
    loop.passes(QUIET)
    assert transport.said == ["eof", "close"]


def test_one_that_sends_is_heard_out_but_not_for_ever(loop):
    transport = Transport()
    seen_off = LingeringClose(transport, STALL)
    loop.passes(MAX_SECONDS - QUIET, lambda: seen_off.hear(b"x"))
    assert transport.said == ["eof"]
    loop.passes(2 * QUIET, lambda: seen_off.hear(b"x"))
    assert transport.said == ["eof", "close"]


def test_one_that_takes_its_answer_slowly_is_given_the_time(loop):
    transport = Transport(left=1000)
    LingeringClose(transport, STALL)
    loop.passes(900, lambda: transport.takes(1))
    assert transport.said == ["eof"]
    loop.passes(100 + 2 * QUIET, lambda: transport.takes(1))
    assert transport.said == ["eof", "close"]


def test_one_that_takes_nothing_is_cut_off(loop):
    transport = Transport(left=1000)
    seen_off = LingeringClose(transport, STALL)
    loop.passes(STALL - QUIET, lambda: seen_off.hear(b"x"))
    assert transport.said == ["eof"]
    loop.passes(2 * QUIET, lambda: seen_off.hear(b"x"))
    assert transport.said == ["eof", "abort"]


def test_one_that_is_gone_already_is_left_alone(loop):
    transport = Transport()
    LingeringClose(transport, STALL)
    transport.said.append("close")  # it ended its half, so the transport closed by itself
    loop.passes(MAX_SECONDS)
    assert transport.said == ["eof", "close"]


def test_tls_has_no_half_to_end_and_is_closed(loop):
    transport = Transport(half_closes=False)
    LingeringClose(transport, STALL)
    assert transport.said == ["close"]


@pytest.mark.parametrize(("pace", "end"), [(0, ["close", "abort"]), (1, ["close"])])
def test_what_is_left_after_closing_is_waited_for_while_it_is_taken(loop, pace, end):
    transport = Transport(left=1000)
    close_or_abort(transport, STALL)
    loop.passes(900, lambda: transport.takes(pace))
    assert transport.said[:2] == end


@pytest.mark.parametrize(("half_closes", "said"), [(True, ["reset"]), (False, ["reset", "abort"])])
def test_an_end_that_means_all_is_there_can_be_withheld_within_tls_at_once(half_closes, said):
    class Socket(Transport):
        def get_extra_info(self, _name):
            return self

        def setsockopt(self, *option):
            assert option == (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.said.append("reset")

    transport = Socket(half_closes=half_closes)
    reset_on_close(transport)
    assert transport.said == said
