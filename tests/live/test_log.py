"""A log that nobody reads, that is full or that is not there: requests go on, and what is lost is counted."""

import fcntl
import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import running_proxy, wait_until
from tests.support.launch import GUARD
from tests.support.wire import Upstream, connect, get, request

PLAIN = {"grant": "static", "token": "never-changes"}
LONG = "x" * 8000  # of a path: lines so long that a few hundred are more than may wait
COUNT = 400

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="wants Linux's pipes and devices")


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as made:
        yield made


def settings(upstream: Upstream, **more: Any) -> dict[str, Any]:
    return {"routes": [{"name": "api", "upstream": upstream.url, "auth": PLAIN}], **more}


class Pipe:
    """A pipe that holds little, and that is read when it is told so."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        fcntl.fcntl(self.writing, fcntl.F_SETPIPE_SZ, 4096)
        self.got = b""
        self._reader = threading.Thread(target=self._read, daemon=True)

    def read(self) -> None:
        self._reader.start()

    def _read(self) -> None:
        while piece := os.read(self.reading, 1 << 16):
            self.got += piece

    def to_its_end(self) -> list[str]:
        """Return all its lines, once nobody can write to it any more."""
        os.close(self.writing)
        self._reader.join(GUARD)
        assert not self._reader.is_alive()
        os.close(self.reading)
        return self.got.decode().splitlines()


def ask_often(url: str, count: int = COUNT) -> None:
    with connect(url) as wire:
        for number in range(count):
            assert wire.send(request("GET", f"/{number}/{LONG}")).answer().status == 200


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("style", ["text", "json"])
def test_a_pipe_that_nobody_reads_holds_no_request_up_and_tells_later_what_it_missed(
    upstream: Upstream, style: str, workers: int
) -> None:
    pipe = Pipe()
    config = settings(upstream, log={"format": style}, workers=workers)

    def accounted_for() -> int:
        # Long lines of two workers may stand in each other, but no byte is lost, and short ones stay whole.
        told = re.findall(rb"log lines dropped\D+(\d+)", pipe.got)
        return sum(map(int, told)) + pipe.got.count(b"x") // len(LONG)

    with running_proxy(config, stderr=pipe.writing) as proxy:
        for _ in range(workers):
            ask_often(proxy.url)
        assert os.get_blocking(pipe.writing), "the pipe is its readers' and other writers' too"
        pipe.read()
        wait_until(lambda: accounted_for() == COUNT * workers, "lines are missing, and nobody says so")
        assert b"log lines dropped" in pipe.got
        assert get(proxy.url, "/afterwards").status == 200
        wait_until(lambda: b"/afterwards" in pipe.got, "later lines are lost")
        assert proxy.stop() == 0
    pipe.to_its_end()
    assert accounted_for() == COUNT * workers


def test_a_pipe_that_nobody_reads_does_not_keep_the_process_alive(upstream: Upstream) -> None:
    pipe = Pipe()
    with running_proxy(settings(upstream), stderr=pipe.writing) as proxy:
        ask_often(proxy.url)
        assert proxy.stop() == 0
    pipe.read()
    assert "token loaded" in pipe.to_its_end()[0]


def test_a_worker_that_dies_is_replaced_though_nobody_reads_the_log(upstream: Upstream) -> None:
    pipe = Pipe()
    with running_proxy(settings(upstream, workers=2), stderr=pipe.writing) as proxy:
        os.set_blocking(pipe.writing, False)
        with suppress(BlockingIOError):
            while True:
                os.write(pipe.writing, b"x" * 4095 + b"\n")
        os.set_blocking(pipe.writing, True)
        children = Path(f"/proc/{proxy.pid}/task/{proxy.pid}/children")
        before = set(children.read_text().split())
        for pid in before:
            os.kill(int(pid), signal.SIGKILL)
        wait_until(lambda: len(set(children.read_text().split()) - before) == 3, "nobody takes their place")
        assert get(proxy.url).status == 200
        assert proxy.stop() == 0
    pipe.read()
    pipe.to_its_end()


def test_a_full_disk_holds_no_request_up(upstream: Upstream) -> None:
    with (
        Path("/dev/full").open("wb", buffering=0) as full,
        running_proxy(settings(upstream), stderr=full.fileno()) as proxy,
    ):
        ask_often(proxy.url, 50)
        assert proxy.stop() == 0


def test_a_log_whose_reader_is_gone_holds_no_request_up(upstream: Upstream) -> None:
    pipe = Pipe()
    with running_proxy(settings(upstream), stderr=pipe.writing) as proxy:
        os.close(pipe.reading)
        ask_often(proxy.url, 50)
        assert proxy.stop() == 0
    os.close(pipe.writing)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_closed_standard_error_is_never_a_connection_of_somebody(upstream: Upstream, workers: int) -> None:
    closed = ("sh", "-c", 'exec "$@" 2>&-', "sh")
    with running_proxy(settings(upstream, workers=workers), before=closed) as proxy:
        ask_often(proxy.url, 50)
        assert Path(f"/proc/{proxy.pid}/fd/2").readlink() == Path(os.devnull)
        assert proxy.stop() == 0


def test_workers_do_not_tear_each_others_lines(upstream: Upstream) -> None:
    pipe = Pipe()
    config = settings(upstream, log={"format": "json"}, workers=2)
    with running_proxy(config, stderr=pipe.writing) as proxy:
        for _ in range(32):  # so that each worker gets some
            with connect(proxy.url) as wire:
                for number in range(40):
                    assert wire.send(request("GET", f"/{number}/{'x' * 300}")).answer().status == 200
        pipe.read()
        wait_until(lambda: pipe.got.count(b'"event": "request"') >= 32 * 40, "lines are lost or torn")
        assert proxy.stop() == 0
    asked = [json.loads(line) for line in pipe.to_its_end()]
    assert len([line for line in asked if line["event"] == "request"]) == 32 * 40
