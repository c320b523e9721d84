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
from authproxy.app.notify import NOBODY, Notify
from authproxy.capabilities import (
    ITIMER_REAL,
    SIG_BLOCK,
    SIG_UNBLOCK,
    SIGALRM,
    SIGCHLD,
    SIGHUP,
    SIGUSR1,
    WNOHANG,
    WORKERS,
    cpu_count,
    fork,
    pthread_sigmask,
    setitimer,
    sigwait,
    terminal_watch,
)
from authproxy.config.model import Config
from authproxy.errors import AuthproxyError
from authproxy.workers.heartbeats import Heartbeats

WATCHED = {SIGCHLD, SIGALRM, SIGHUP, SIGUSR1, signal.SIGINT, signal.SIGTERM} - {None}
QUICK_DEATH = 1.0  # seconds; who dies faster than this is not started again at once
LOOK_SECONDS = 0.1  # between looks whether all children have begun to serve


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
    sockets: Callable[[], list[socket.socket]]
    """What the children listen on. As long as anybody has one open, connections to it are not refused."""
    take: Callable[[], None]
    """Takes what the broker has to say, which it tells by SIGUSR1."""
    notify: Notify = NOBODY
    beats: Heartbeats | None = None
    """The children's, for `notify`."""
    stopping: bool = field(default=False, init=False)
    serving: bool = field(default=False, init=False)

    def run(self, ready: Callable[[], None], serving: Callable[[], None] = lambda: None) -> int:
        """Start everything; return the exit code once all have ended.

        With heartbeats `serving` is called when every child serves. From then on the service manager hears
        that all of them live, as long as they do.
        """
        pthread_sigmask(SIG_BLOCK, WATCHED)
        terminal_is_gone = terminal_watch()
        for child in self.children:
            self._fork(child)
        ready()
        if self.beats is not None:
            setitimer(ITIMER_REAL, LOOK_SECONDS, LOOK_SECONDS)
        failed = False
        while any(child.pid for child in self.children):
            number = sigwait(WATCHED)
            if number == SIGCHLD:
                failed = self._reap() or failed
            elif number == SIGUSR1:
                self.take()
            elif number == SIGHUP and not terminal_is_gone():
                self._have_reloaded()
            elif number == SIGALRM:
                self._look(serving)
            else:
                self._pass_on(number)
        return 1 if failed else 0

    def _look(self, serving: Callable[[], None]) -> None:
        """See whether every child has beaten since this was last so, and tell."""
        if self.beats is None or self.stopping or not self.beats.all_beat():
            return
        if self.serving:
            self.notify.alive()
            return
        self.serving = True
        seconds = self.beats.seconds or 0  # 0 ends the looks
        setitimer(ITIMER_REAL, seconds, seconds)
        serving()

    def _fork(self, child: Child) -> None:
        child.started = time.monotonic()
        child.pid = fork()
        if child.pid == 0:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, _leave)  # until its loop hears signals there is nothing to finish
            pthread_sigmask(SIG_UNBLOCK, WATCHED - {SIGHUP})  # that waits for who hears it
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

    def _have_reloaded(self) -> None:
        broker = self.children[0]
        if broker.pid and not self.stopping:
            os.kill(broker.pid, SIGHUP)

    def _pass_on(self, number: int) -> None:
        """End the workers first: what they have in flight may still need a token."""
        number = signal.SIGTERM if number == SIGHUP else number
        workers = self.children[1:]
        hurry, self.stopping = self.stopping, True
        if not hurry:
            self.notify.stopping()
        for sock in self.sockets():
            sock.close()  # nobody will be put in a worker's place any more
        for child in workers if not hurry else self.children:
            if child.pid:
                os.kill(child.pid, number)
        self._stop_broker()

    def _stop_broker(self) -> None:
        broker, *workers = self.children
        if broker.pid and not any(worker.pid for worker in workers):
            os.kill(broker.pid, signal.SIGTERM)


def _leave(*_: object) -> NoReturn:
    os._exit(0)


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
