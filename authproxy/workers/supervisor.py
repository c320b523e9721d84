"""Several processes on one set of listeners, with one set of tokens.

    supervisor ─┬─ broker     obtains the tokens, serves the admin listener
                ├─ worker 1 ──┐
                ├─ worker 2 ──┼── ask the broker for tokens, over a socket pair each
                └─ worker 3 ──┘   and hold them as a single process would

The supervisor opens the sockets, forks, passes signals on, and puts a new process in the place of one that
dies. It never runs an event loop, so it may fork at any time. A worker's socket outlives it: connections that
wait there are taken by its successor. Each worker accepts on a socket of its own (SO_REUSEPORT).
"""

import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from authproxy import logs, stderr
from authproxy.app.listeners import Listeners, another_socket
from authproxy.capabilities import (
    SIG_BLOCK,
    SIG_UNBLOCK,
    SIGCHLD,
    WNOHANG,
    WORKERS,
    cpu_count,
    fork,
    pthread_sigmask,
    sigwait,
)
from authproxy.config.model import Config
from authproxy.errors import AuthproxyError

WATCHED = {SIGCHLD, signal.SIGINT, signal.SIGTERM}
QUICK_DEATH = 1.0  # seconds; who dies faster than this is not started again at once


def worker_count(config: Config) -> int:
    """Return how many workers `config` asks for.

    `auto` is one for each processor that we may use, or one where there cannot be several.
    """
    if config.workers != "auto":
        return config.workers
    return cpu_count() if WORKERS else 1


# ── processes ────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Child:
    """A process and what it is to do; `work` runs in it and returns its exit code."""

    name: str
    work: Callable[[], int]
    pid: int = 0
    started: float = 0.0


@dataclass(slots=True)
class Supervisor:
    """Keeps its children alive until a signal says otherwise. No event loop runs in here."""

    children: list[Child]
    sockets: list[socket.socket]
    """What the children listen on. As long as anybody has one open, connections to it are not refused."""
    stopping: bool = field(default=False, init=False)

    def run(self, ready: Callable[[], None]) -> int:
        """Start everything; return the exit code once all have ended."""
        pthread_sigmask(SIG_BLOCK, WATCHED)
        for child in self.children:
            self._fork(child)
        ready()
        failed = False
        while any(child.pid for child in self.children):
            number = sigwait(WATCHED)
            if number == SIGCHLD:
                failed = self._reap() or failed
            else:
                self._pass_on(number)
        return 1 if failed else 0

    def _fork(self, child: Child) -> None:
        child.started = time.monotonic()
        child.pid = fork()
        if child.pid == 0:
            pthread_sigmask(SIG_UNBLOCK, WATCHED)
            _end(child.work)

    def _reap(self) -> bool:
        """Take note of who died, and put another in its place; tell whether one failed during the end."""
        failed = False
        while True:
            try:
                pid, status = os.waitpid(-1, WNOHANG)
            except ChildProcessError:
                return failed
            if pid == 0:
                return failed
            child = next((each for each in self.children if each.pid == pid), None)
            if child is None:
                continue
            child.pid = 0
            if self.stopping:
                failed = failed or status != 0
                self._stop_broker()
                continue
            logs.error("process died", process=child.name, status=os.waitstatus_to_exitcode(status))
            if time.monotonic() - child.started < QUICK_DEATH:
                time.sleep(QUICK_DEATH)
            self._fork(child)

    def _pass_on(self, number: int) -> None:
        """End the workers first: what they have in flight may still need a token."""
        workers = self.children[1:]
        hurry, self.stopping = self.stopping, True
        for sock in self.sockets:
            sock.close()  # nobody will be put in a worker's place any more
        for child in workers if not hurry else self.children:
            if child.pid:
                os.kill(child.pid, number)
        self._stop_broker()

    def _stop_broker(self) -> None:
        broker, *workers = self.children
        if broker.pid and not any(worker.pid for worker in workers):
            os.kill(broker.pid, signal.SIGTERM)


def _end(work: Callable[[], int]) -> NoReturn:
    """Do a child's work and leave, past everything that is the parent's to clean up."""
    code = 1
    try:
        code = work()
    except AuthproxyError as error:
        logs.error("process failed", cause=error.detail)
    except Exception as error:  # noqa: BLE001 - the last stop
        logs.logger.error("process failed", exc_info=error)
    finally:
        stderr.finish()
        os._exit(code)


def shared_listeners(first: Listeners, count: int) -> list[list[tuple[str, socket.socket]]]:
    """Return each worker's sockets: TCP ones of its own on the same address, Unix ones in common."""
    return [
        first.proxy,
        *(
            [
                (address, sock if address.startswith("unix:") else another_socket(sock))
                for address, sock in first.proxy
            ]
            for _ in range(count - 1)
        ),
    ]
