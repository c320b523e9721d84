"""What each process does: the broker, and the workers that ask it. The supervisor only starts them.

A child closes what is not its own, and ends when the supervisor is gone, however that came: a pipe that only
the supervisor holds open for writing tells it.
"""

import contextlib
import os
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from authproxy import logs
from authproxy.app.application import App
from authproxy.app.listeners import Listeners, own_listeners, shown_listeners
from authproxy.app.notify import NOBODY, Notify
from authproxy.app.reload import Read, Reloader
from authproxy.app.serving import attend, run_loop
from authproxy.app.tls import TLSContexts
from authproxy.capabilities import AF_UNIX, setpgid
from authproxy.config.model import Config
from authproxy.proxy.downstream import parser as _parser  # noqa: F401 - loaded once, for all who are forked
from authproxy.workers.broker import Broker
from authproxy.workers.broker_client import BrokerClient
from authproxy.workers.channel import Message, Pieces, receive
from authproxy.workers.heartbeats import Heartbeats
from authproxy.workers.reload import Share, State, close_shares, shared_out, with_addresses
from authproxy.workers.reload_broker import Group
from authproxy.workers.reload_supervisor import Taker
from authproxy.workers.reload_worker import Member
from authproxy.workers.supervisor import Child, Supervisor

Work = Callable[[], Coroutine[Any, Any, None]]

TAKE_SECONDS = 5.0  # that the supervisor waits for the rest of what the broker has begun to say


class Processes:
    """The broker and `count` workers that serve `config` on open listeners.

    `notify` tells the service manager that all of them live. With `retry_rejected` a credential that was
    rejected before is tried once more. `read` reads the configuration again, at SIGHUP and, with `watches`,
    when its files change.
    """

    def __init__(
        self,
        config: Config,
        listeners: Listeners,
        tls: TLSContexts,
        *,
        count: int,
        notify: Notify = NOBODY,
        retry_rejected: bool = False,
        read: Read | None = None,
        watches: bool = False,
    ) -> None:
        self._listeners = listeners
        self._retry_rejected = retry_rejected
        self._read = read
        self._watches = watches
        self._notify = notify
        # A quarter of the watchdog's time each: one that is missed may be late, and the next still in time.
        seconds = notify.watchdog / 4 if notify.watchdog is not None else None
        self._beats = Heartbeats(1 + count, seconds) if notify else None
        self._alive, self._above = os.pipe()
        self._lines = [socket.socketpair(AF_UNIX, socket.SOCK_DGRAM) for _ in range(count)]
        self._to_supervisor, self._of_supervisor = socket.socketpair(AF_UNIX, socket.SOCK_DGRAM)
        shares = shared_out(listeners.proxy, count)
        self._state = State(config, tls, shares, listeners.admin, own_listeners(config, listeners))
        self._taker = Taker(self._state)
        self._pieces = Pieces()
        self._supervisor: Supervisor | None = None
        self._pid = os.getpid()
        self._shown: dict[str, str] = {}

    def run(self, ready: Callable[[], None], serving: Callable[[], None] = lambda: None) -> int:
        """Serve until a signal says otherwise; return the exit code.

        `ready` is called once all are started, `serving` once all serve, for the service manager's sake.
        """
        children = [Child("broker", partial(self._as_child, self._broker, None))]
        for number in range(len(self._lines)):
            work = partial(self._worker, number)
            children.append(Child(f"worker {number + 1}", partial(self._as_child, work, number)))
        try:
            self._state.tls.begin()
            self._supervisor = Supervisor(children, self._sockets, self._take, self._notify, self._beats)
            return self._supervisor.run(ready, serving)
        finally:
            self._state.tls.end()
            self._listeners.proxy, self._listeners.admin = self._state.shares[0], self._state.admin

    def _sockets(self) -> list[socket.socket]:
        return [sock for share in self._state.shares for _, sock in share]

    def _take(self) -> None:
        """Take what the broker says of a reload: how it goes, and the state that it has led to."""
        sock = self._of_supervisor
        try:
            while True:
                whole = self._pieces.complete and self._taker.complete
                sock.settimeout(0 if whole else TAKE_SECONDS)
                if (message := self._pieces.take(*receive(sock))) is not None:
                    self._hear(message)
        except BlockingIOError:
            return  # that was all
        except OSError as error:  # the broker is gone; its successor begins with what we have
            self._pieces.close()
            self._pieces = Pieces()
            self._taker.drop()
            logs.warning("the supervisor has not heard the end of a reload", cause=type(error).__name__)

    def _hear(self, message: Message) -> None:
        if message["reload"] == "status":
            status = message["status"]
            if status is None:
                self._notify.reloading()
            else:
                self._notify.ready(status or None)
            return
        stopping = self._supervisor is not None and self._supervisor.stopping
        if (answer := self._taker.hear(message, stopping=stopping)) is not None:
            for piece in self._pieces.of(answer):
                self._of_supervisor.send(piece)

    def _as_child(self, work: Work, number: int | None) -> int:
        os.close(self._above)
        admin = self._state.admin[1] if self._state.admin is not None else []
        if number is None:
            self._shown = shown_listeners(self._state.shares[0])
            close_all_but([], self._sockets())
        else:
            close_all_but(self._state.shares[number], [*self._sockets(), *admin])
        setpgid(0, 0)  # Ctrl-C is for the supervisor, who passes it on
        run_loop(work())
        return 0

    def _start_heart(self, number: int) -> None:
        if self._beats is not None:
            self._beats.start(number)

    async def _broker(self) -> None:
        """Have the tokens and the admin listener."""
        state, listeners = self._state, Listeners([], self._state.admin)
        drain(self._of_supervisor)
        group: Group | None = None

        def start(app: App) -> None:
            nonlocal group
            broker = Broker(state.config, app.sources, [ours for ours, _ in self._lines])
            app.shown = self._shown
            broker.attach(app)
            broker.start()
            group = Group(broker, app, self._to_supervisor, self._pid, state.number)
            self._start_heart(0)

        def reloader_of(app: App, read: Read) -> Reloader:
            told = group if group is not None and self._notify else NOBODY
            return Reloader(app, listeners, read, share=True, others=group, notify=told)

        await attend(
            state.config,
            listeners,
            self._state.tls,
            ready=start,
            own=state.own,
            alive=self._alive,
            retry_rejected=self._retry_rejected,
            reloader_of=partial(reloader_of, read=self._read) if self._read is not None else None,
            watches=self._watches,
        )

    async def _worker(self, number: int) -> None:
        """Serve the routes on this worker's listeners, with the broker's tokens."""
        state = self._state
        client = BrokerClient(self._lines[number][1])

        def start(app: App) -> None:
            client.attach(app)
            Member(app, client, state.number)
            self._start_heart(1 + number)

        await attend(
            state.config,
            Listeners(state.shares[number]),
            self._state.tls,
            ready=start,
            own=state.own,
            inner_source=client.inner_source,
            alive=self._alive,
        )


def drain(sock: socket.socket) -> None:
    """Forget what a broker that died has said to the supervisor, and nobody has heard."""
    pieces = Pieces()
    sock.settimeout(0)
    with contextlib.suppress(OSError):
        while True:
            message = pieces.take(*receive(sock))
            if message is not None:
                close_shares([with_addresses(message)])
    pieces.close()


def close_all_but(share: Share, sockets: list[socket.socket]) -> None:
    """Close what others listen on: connections to an address are refused when nobody has it open."""
    own = [sock for _, sock in share]
    for sock in sockets:
        if sock not in own:
            sock.close()
