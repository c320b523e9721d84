"""Standard error that never waits: what is written, what is dropped, and how that is told."""

import errno
import os
import threading

import pytest

from authproxy.capabilities import WORKERS
from authproxy.stderr import PIPE_BUF, DroppingWriter
from tests.support.systems import needs

GUARD = 10.0  # seconds until what hangs fails the test


class File:
    """Takes what is written; not before `open` is set, nor while `fault` is."""

    def __init__(self):
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.fault = None
        self.most = 1 << 30
        self.got = b""

    def write(self, data):
        self.entered.set()
        assert self.open.wait(GUARD)
        if self.fault is not None:
            raise OSError(self.fault, "no")
        taken = data[: self.most]
        self.got += taken
        return len(taken)


@pytest.fixture
def file():
    made = File()
    yield made
    made.fault = None
    made.open.set()


def writer(file, limit=100):
    return DroppingWriter(file, lambda lines: f"dropped {lines}\n", limit=limit, retry_seconds=0)


def test_lines_come_out_in_order(file):
    log = writer(file)
    for number in range(5):
        log.write(b"line %d\n" % number)
    log.finish(GUARD)
    assert file.got == b"line 0\nline 1\nline 2\nline 3\nline 4\n"


def test_who_writes_does_not_wait_for_who_does_not_read(file):
    file.open.clear()
    log = writer(file)
    for _ in range(1000):
        log.write(b"0123456789\n")
    log.finish(0)
    assert file.got == b""


def test_what_does_not_fit_is_dropped_and_counted_and_told_once_after_what_was_kept(file):
    file.open.clear()
    log = writer(file)
    for number in range(30):
        log.write(b"line %04d\n" % number)  # ten of them fit
    log.write(b"x\n")  # and so would this, but it would stand before what is missing
    file.open.set()
    log.finish(GUARD)
    log.write(b"later\n")
    log.finish(GUARD)
    kept = b"".join(b"line %04d\n" % number for number in range(10))
    assert file.got == kept + b"dropped 21\nlater\n"


def test_when_the_first_that_is_written_is_too_much_it_is_told_all_the_same(file):
    log = writer(file)
    log.write(b"line\n" * 30)
    log.finish(GUARD)
    log.write(b"later\n")
    log.finish(GUARD)
    assert file.got == b"dropped 30\nlater\n"


def test_a_disk_that_was_full_gets_the_number_of_lost_lines_and_later_ones(file):
    file.fault = errno.ENOSPC
    log = writer(file)
    log.write(b"one\ntwo\n")
    log.finish(GUARD)
    log.write(b"three\n")
    assert file.got == b""
    file.fault = None
    log.finish(GUARD)
    while b"dropped" not in file.got:
        file.entered.clear()
        assert file.entered.wait(GUARD)
        log.finish(GUARD)
    log.write(b"four\n")
    log.finish(GUARD)
    assert file.got == b"dropped 3\nfour\n"


def test_a_line_that_was_torn_by_a_full_disk_stays_one_of_its_own(file):
    taken = File()

    class Filling:
        def write(self, data):
            if not taken.got:
                return taken.write(data[:6])
            if file.fault is not None:
                fault, file.fault = file.fault, None
                raise OSError(fault, "no")
            return taken.write(data)

    file.fault = errno.ENOSPC
    log = DroppingWriter(Filling(), lambda lines: f"dropped {lines}\n", retry_seconds=0)
    log.write(b"one\ntwo\nthree\n")
    while not taken.got.endswith(b"dropped 2\n"):
        taken.entered.clear()
        taken.entered.wait(0.01)
    assert taken.got == b"one\ntw\ndropped 2\n"


def test_a_write_is_whole_lines_that_no_other_process_can_tear(file):
    writes = []

    class Pipe:
        def write(self, data):
            writes.append(data)
            return file.write(data)

    lines = [b"%04d" % number + b"x" * (number % 300) + b"\n" for number in range(2000)]
    lines[700] = b"y" * (3 * PIPE_BUF) + b"\n"
    lines[701] = b"z" * (PIPE_BUF - 1) + b"\n"
    file.open.clear()
    log = DroppingWriter(Pipe(), str)
    for line in lines:
        log.write(line)
    file.open.set()
    log.finish(GUARD)
    assert file.got == b"".join(lines)
    assert all(each.endswith(b"\n") and (len(each) <= PIPE_BUF or each == lines[700]) for each in writes)
    assert len(writes) < len(lines) / 2, "and not one write a line"


def test_a_descriptor_that_takes_little_at_a_time_gets_it_all(file):
    file.most = 3
    log = writer(file)
    log.write(b"0123456789\n")
    log.finish(GUARD)
    assert file.got == b"0123456789\n"


@pytest.mark.skipif(not hasattr(os, "set_blocking"), reason="pipes always block here")
def test_a_descriptor_that_others_made_non_blocking_loses_nothing():
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    text = b"0123456789\n" * 20_000
    got = b""
    with os.fdopen(writing, "wb", buffering=0) as raw, os.fdopen(reading, "rb", buffering=0) as there:
        log = DroppingWriter(raw, str)
        log.write(text)
        while len(got) < len(text):
            got += there.read(1 << 16)
        log.finish(GUARD)
        assert not os.get_blocking(writing)
    assert got == text


@needs(WORKERS)
def test_a_child_has_a_thread_of_its_own_and_writes_nothing_twice(file):
    file.open.clear()
    log = writer(file)
    log.write(b"the parent's\n")
    assert file.entered.wait(GUARD)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        file.open = threading.Event()
        file.open.set()
        log.write(b"the child's\n")
        log.finish(GUARD)
        os.write(writing, file.got)
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading, "rb") as there:
        assert there.read() == b"the child's\n"
    file.open.set()
    log.finish(GUARD)
    assert file.got == b"the parent's\n"


def test_nothing_written_is_nothing_dropped(file):
    log = writer(file)
    assert log.write(b"") == 0
    log.write(b"a\n")
    log.finish(GUARD)
    assert file.got == b"a\n"
