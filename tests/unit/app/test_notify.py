"""What a service manager is told: which datagrams, in what words, and that nobody waits for it."""

import asyncio
import os
import socket
import time

import pytest

from authproxy.app import notify as module
from authproxy.app.notify import MAX_STATUS, NOBODY, Notify


class Manager:
    """A service manager's socket."""

    def __init__(self, path):
        self.path = str(path)
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(self.path)
        self.sock.settimeout(0)

    def heard(self):
        found = []
        while True:
            try:
                found.append(self.sock.recv(8192).decode())
            except BlockingIOError:
                return found


@pytest.fixture
def manager(tmp_path):
    made = Manager(tmp_path / "notify")
    yield made
    made.sock.close()


@pytest.fixture
def notify(manager):
    made = Notify(manager.path)
    yield made
    made._socket.close()


def test_each_change_is_a_datagram_of_lines(manager, notify, monkeypatch):
    monkeypatch.setattr(time, "monotonic_ns", lambda: 12_345_678_999)
    notify.ready("serving 1 route")
    notify.reloading()
    notify.ready()
    notify.status("reload refused: config.yaml:3:5")
    notify.alive()
    notify.stopping()
    assert manager.heard() == [
        "READY=1\nSTATUS=serving 1 route",
        "RELOADING=1\nMONOTONIC_USEC=12345678\nSTATUS=reading the configuration again",
        "READY=1",
        "STATUS=reload refused: config.yaml:3:5",
        "WATCHDOG=1",
        "STOPPING=1\nSTATUS=stopping: finishing what is in flight",
    ]


def test_a_status_is_one_line_that_a_datagram_can_hold(manager, notify):
    notify.status("two\nlines\r\nREADY=1 \ud800 " + "é" * 5000)
    (heard,) = manager.heard()
    assert heard.startswith("STATUS=two lines READY=1 ? é")
    assert len(heard) == len("STATUS=") + MAX_STATUS


def test_nobody_is_told_where_there_is_no_service_manager(monkeypatch):
    monkeypatch.setattr(socket, "socket", lambda *_: pytest.fail("somebody is told"))
    for tell in (NOBODY.ready, NOBODY.reloading, NOBODY.stopping, NOBODY.alive, NOBODY.watch):
        tell()
    assert not NOBODY


def test_one_that_cannot_be_reached_is_told_of_once(caplog, tmp_path):
    notify = Notify(f"{tmp_path}/nobody")
    notify.ready()
    notify.alive()
    (record,) = caplog.records
    assert record.getMessage() == "cannot notify the service manager"
    assert record.facts == {"socket": f"{tmp_path}/nobody", "cause": "No such file or directory"}
    too_long = Notify("/" + "x" * 200)
    too_long.ready()
    notify._socket.close()
    too_long._socket.close()
    assert caplog.records[1].facts["cause"] == "AF_UNIX path too long"


def test_one_that_does_not_read_holds_nobody_up(manager, notify, caplog, monkeypatch):
    monkeypatch.setattr(module, "SEND_SECONDS", 0.01)
    for _ in range(2000):
        notify.alive()
    notify.stopping()
    assert len(caplog.records) == 1
    assert set(manager.heard()) == {"WATCHDOG=1"}
    notify.alive()
    assert manager.heard() == ["WATCHDOG=1"], "once it reads again it is told again"


# ── the environment ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("pid", "microseconds", "watchdog"),
    [
        (None, "30000000", 30.0),
        ("ours", "1500000", 1.5),
        ("1", "30000000", None),
        ("", "30000000", None),
        (None, "0", None),
        (None, "soon", None),
        (None, None, None),
    ],
)
def test_the_variables_say_whom_to_tell_and_how_often_and_are_gone(pid, microseconds, watchdog):
    pid = str(os.getpid()) if pid == "ours" else pid
    environ = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_PID": pid, "WATCHDOG_USEC": microseconds, "PATH": "/bin"}
    environ = {name: value for name, value in environ.items() if value is not None}
    notify = Notify.from_environment(environ)
    assert notify
    assert notify.watchdog == watchdog
    assert environ == {"PATH": "/bin"}


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"WATCHDOG_USEC": "1000000"}])
def test_without_a_socket_nobody_is_told(environ):
    notify = Notify.from_environment(environ)
    assert not notify
    assert notify.watchdog is None


def test_where_there_are_no_unix_sockets_nobody_is_told(monkeypatch):
    monkeypatch.setattr(module, "UNIX_SOCKETS", False)
    assert not Notify.from_environment({"NOTIFY_SOCKET": "/run/x"})


def test_an_abstract_name_is_one():
    name = f"authproxy-unit-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{name}")
        notify = Notify(f"@{name}")
        notify.alive()
        assert sock.recv(100) == b"WATCHDOG=1"
        notify._socket.close()


# ── the watchdog ─────────────────────────────────────────────────────────────────────────────────


async def test_the_loop_tells_that_it_lives_twice_in_the_time_of_the_watchdog(manager, monkeypatch):
    later = []
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", lambda *what: later.append(what))
    notify = Notify(manager.path, 30.0)
    notify.watch()
    assert manager.heard() == ["WATCHDOG=1"]
    for _ in range(3):
        seconds, call, *arguments = later.pop()
        assert (seconds, later) == (15.0, [])
        call(*arguments)
    assert manager.heard() == ["WATCHDOG=1"] * 3
    notify._socket.close()


async def test_without_a_watchdog_it_does_not(manager):
    Notify(manager.path).watch()
    assert manager.heard() == []
