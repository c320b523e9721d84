"""What each process does: the broker, and the workers that ask it. The supervisor only starts them.

A child closes what is not its own, and ends when the supervisor is gone, however that came: a pipe that only
the supervisor holds open for writing tells it.
"""

import os
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from authproxy.app.application import App
from authproxy.app.listeners import Listeners, listening_urls, own_listeners
from authproxy.app.serving import attend, run_loop
from authproxy.app.tls import TLSContexts
from authproxy.capabilities import AF_UNIX
from authproxy.config.model import Config
from authproxy.proxy.downstream import parser as _parser  # noqa: F401 - loaded once, for all who are forked
from authproxy.workers.broker import Broker
from authproxy.workers.broker_client import BrokerClient
from authproxy.workers.supervisor import Child, Supervisor, shared_listeners

Share = list[tuple[str, socket.socket]]  # the listeners of one worker, each with its address
Work = Callable[[], Coroutine[Any, Any, None]]


class Processes:
    """The broker and `count` workers that serve `config` on open listeners.

    With `retry_rejected` a credential that was rejected before is tried once more.
    """

    def __init__(
        self,
        config: Config,
        listeners: Listeners,
        tls: TLSContexts,
        *,
        count: int,
        retry_rejected: bool = False,
    ) -> None:
        self._config = config
        self._admin = listeners.admin
        self._tls = tls
        self._retry_rejected = retry_rejected
        self._alive, self._above = os.pipe()
        self._lines = [socket.socketpair(AF_UNIX, socket.SOCK_DGRAM) for _ in range(count)]
        self._own = own_listeners(config, listeners)
        self._listening = listening_urls(config, listeners.proxy)
        self._shares = shared_listeners(listeners, count)
        self._sockets = [sock for share in self._shares for _, sock in share]

    def run(self, ready: Callable[[], None]) -> int:
        """Serve until a signal says otherwise; call `ready` once all are started; return the exit code."""
        children = [Child("broker", partial(self._as_child, self._broker, []))]
        for number, share in enumerate(self._shares):
            work = partial(self._worker, number, share)
            children.append(Child(f"worker {number + 1}", partial(self._as_child, work, share)))
        return Supervisor(children, self._sockets).run(ready)

    def _as_child(self, work: Work, share: Share) -> int:
        os.close(self._above)
        close_all_but(share, self._sockets)
        os.setpgid(0, 0)  # Ctrl-C is for the supervisor, who passes it on
        run_loop(work())
        return 0

    async def _broker(self) -> None:
        """Have the tokens and the admin listener."""

        def start(app: App) -> None:
            broker = Broker(self._config, app.sources, [ours for ours, _ in self._lines])
            app.listening = self._listening
            broker.attach(app)
            broker.start()

        await attend(
            self._config,
            Listeners([], self._admin),
            self._tls,
            ready=start,
            own=self._own,
            alive=self._alive,
            retry_rejected=self._retry_rejected,
        )

    async def _worker(self, number: int, share: Share) -> None:
        """Serve the routes on `share`, with the broker's tokens."""
        channel = BrokerClient(self._lines[number][1])

        def start(app: App) -> None:
            channel.attach(app)

        await attend(
            self._config,
            Listeners(share),
            self._tls,
            ready=start,
            own=self._own,
            inner_source=channel.inner_source,
            alive=self._alive,
        )


def close_all_but(share: Share, sockets: list[socket.socket]) -> None:
    """Close what others listen on: connections to an address are refused when nobody has it open."""
    own = [sock for _, sock in share]
    for sock in sockets:
        if sock not in own:
            sock.close()
