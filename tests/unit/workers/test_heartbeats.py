"""Heartbeats of forked processes: who has beaten since when. One process is forked."""

import asyncio
import os

from authproxy.workers.heartbeats import Heartbeats


async def test_all_beat_when_each_has_and_then_each_has_to_again():
    beats = Heartbeats(2, None)
    assert not beats.all_beat()
    beats.start(0)
    assert not beats.all_beat()
    beats.start(1)
    assert (beats.all_beat(), beats.all_beat()) == (True, False)


async def test_a_heart_beats_as_long_as_its_loop_runs(monkeypatch):
    later = []
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", lambda *what: later.append(what))
    beats = Heartbeats(1, 0.25)
    beats.start(0)
    assert beats.all_beat()
    ((seconds, call, *arguments),) = later
    assert seconds == 0.25
    call(*arguments)
    assert beats.all_beat()
    assert len(later) == 2


def test_the_one_that_forked_sees_it():
    beats = Heartbeats(1, None)
    pid = os.fork()
    if pid == 0:
        beats.start(0)
        os._exit(0)
    os.waitpid(pid, 0)
    assert beats.all_beat()
