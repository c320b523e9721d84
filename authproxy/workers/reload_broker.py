"""The broker's side of a reload: it leads. `reload.py` has who says what to whom."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Iterable

from authproxy import logs
from authproxy.app.application import App
from authproxy.app.listeners import Listeners
from authproxy.app.tls import TLSContexts
from authproxy.capabilities import SIGUSR1, send_fds
from authproxy.config.model import Config
from authproxy.net.own_listeners import OwnListeners
from authproxy.workers.broker import Broker
from authproxy.workers.channel import Channel, Message
from authproxy.workers.reload import (
    NoAnswer,
    NotPrepared,
    OutcomeUnknown,
    Share,
    addresses_of,
    close_shares,
    numbers_of,
    packed,
    shared_out,
    without_sources,
)

ANSWER_SECONDS = 20.0  # for all processes to answer


class Group:
    """The other processes, as the broker sees them: `app.reload.Others`, and its `ServiceManager`.

    `supervisor` is the line to the process with the id `above`; `number` is that of the reload with whose
    outcome this broker has begun.
    """

    def __init__(self, broker: Broker, app: App, supervisor: socket.socket, above: int, number: int) -> None:
        self._broker = broker
        self._app = app
        self._supervisor = Channel(supervisor, self._hear)
        self._above = above
        self._workers = broker.reloads(self._hear)
        self._number = number
        self._awaited = ""
        self._missing: set[Channel] = set()
        self._trouble: list[str] = []
        self._answered = asyncio.Event()
        self._text = ""
        self._shares: list[Share] = []
        for channel in self._workers:  # the broker before us may have died over a reload
            channel.send(self._said("commit"))

    def reloading(self) -> None:
        """Have the supervisor tell the service manager, which listens to nobody else."""
        self._have_told(None)

    def ready(self, status: str | None = None) -> None:
        """Have the supervisor tell that it is over."""
        self._have_told(status or "")

    def _have_told(self, status: str | None) -> None:
        if os.getppid() == self._above:
            self._supervisor.send(self._said("status", status=status))
            os.kill(self._above, SIGUSR1)

    def own_share(self, opened: Listeners) -> Listeners:
        """Return what the broker itself is to serve."""
        return Listeners([], opened.admin)

    async def prepare(self, config: Config, opened: Listeners, own: OwnListeners, tls: TLSContexts) -> None:
        """Have all prepare; from its return on, they will commit. Raises `AuthproxyError`."""
        if send_fds is None or SIGUSR1 is None:
            raise NotPrepared("workers cannot be given new listeners on this system: start authproxy again")
        self._shares = shared_out(opened.proxy, len(self._workers))
        try:
            await self._have_prepared(packed(without_sources(config), own, tls))
            await self._have_taken(packed(config, own, tls), opened.admin)
        except OutcomeUnknown:
            raise  # the next broker tells the workers
        except BaseException:
            for channel in self._workers:
                channel.send(self._said("abandon"))
            raise
        finally:
            # They have theirs now. What stayed open here would swallow connections.
            close_shares(self._shares)
            self._shares = []

    async def _have_prepared(self, text: str) -> None:
        self._number = time.monotonic_ns()  # which no broker before us has used
        self._text = text
        for channel in self._workers:
            self._have_one_prepared(channel)
        await self._all_have("prepared", self._workers)

    def _have_one_prepared(self, channel: Channel) -> None:
        share = self._shares[self._workers.index(channel)]
        channel.send(
            self._said("prepare", config=self._text, addresses=addresses_of(share)), numbers_of(share)
        )

    async def _have_taken(self, text: str, admin: tuple[str, list[socket.socket]] | None) -> None:
        """Tell the supervisor, which looks at its line when it gets the signal."""
        if os.getppid() != self._above:
            raise NotPrepared("authproxy is stopping")
        for number, share in enumerate(self._shares):
            message = self._said("sockets", worker=number, addresses=addresses_of(share))
            self._supervisor.send(message, numbers_of(share))
        share = [(admin[0], sock) for sock in admin[1]] if admin is not None else []
        message = self._said("state", config=text, addresses=addresses_of(share))
        self._supervisor.send(message, numbers_of(share))
        os.kill(self._above, SIGUSR1)
        try:
            await self._all_have("taken", [self._supervisor])
        except NoAnswer as error:
            logs.error("the broker ends: the supervisor knows by which configuration the next one begins")
            os.kill(os.getpid(), signal.SIGTERM)
            raise OutcomeUnknown(error.detail) from error

    async def commit(self) -> None:
        """Have all serve by what they have prepared; who cannot is replaced."""
        self._broker.serve(self._app.config)
        for channel in self._workers:
            channel.send(self._said("commit"))
        try:
            await self._all_have("committed", self._workers)
        except NotPrepared as error:
            logs.warning("a worker has not taken the new configuration yet", cause=error.detail)

    def _said(self, what: str, **facts: object) -> Message:
        return {"reload": what, "number": self._number, **facts}

    async def _all_have(self, answer: str, channels: Iterable[Channel]) -> None:
        """Wait for `answer` from all of them; raise `NotPrepared` when one says no, or nothing."""
        self._awaited, self._missing, self._trouble = answer, set(channels), []
        self._answered.clear()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._answered.wait()
        except TimeoutError:
            raise NoAnswer("a process did not answer in time") from None
        finally:
            self._awaited = ""
        if self._trouble:
            raise NotPrepared(self._trouble[0])

    def _hear(self, channel: Channel, message: Message) -> None:
        if message["reload"] == "here":
            self._welcome(channel, message["number"])
        elif message["number"] == self._number and message["reload"] == self._awaited:
            self._note(channel, message.get("trouble"))

    def _welcome(self, channel: Channel, number: int) -> None:
        """Tell a worker that has just begun what the one before it may have died over."""
        if channel not in self._missing:
            return
        if self._awaited == "prepared":
            self._have_one_prepared(channel)
        elif self._awaited == "committed" and number == self._number:
            self._note(channel, None)

    def _note(self, channel: Channel, trouble: str | None) -> None:
        if trouble is not None:
            self._trouble.append(trouble)
        self._missing.discard(channel)
        if not self._missing or self._trouble:
            self._answered.set()
