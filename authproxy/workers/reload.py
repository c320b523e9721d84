"""A reload in several processes: all prepare, then all change.

    broker ── prepare ──▶ workers     each gets the configuration, and sockets of its own where some are new
           ◀─ prepared ──
           ── new state ▶ supervisor  from now on who is put in another's place begins with the new one
           ◀─ taken ─────
           ── commit ───▶ workers
           ◀─ committed ─

Until the supervisor has taken it, any fault has all go on as before. A worker that dies in between is
replaced by the supervisor; one that is told to commit what it has not prepared ends itself for that.

A configuration travels pickled: it comes from a process of ours, over a socket pair that no other has.
"""

import asyncio
import base64
import os
import pickle
import signal
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from authproxy import logs
from authproxy.app.application import App, Change
from authproxy.app.listeners import Listeners, another_socket
from authproxy.app.tls import tls_contexts
from authproxy.capabilities import SIGUSR1
from authproxy.config.model import Config
from authproxy.errors import AuthproxyError
from authproxy.net.own_listeners import OwnListeners
from authproxy.workers.broker import Broker
from authproxy.workers.broker_client import BrokerClient
from authproxy.workers.channel import Channel, Message

ANSWER_SECONDS = 20.0  # for all processes to answer

Share = list[tuple[str, socket.socket]]
"""The listeners of one worker, each with its address."""


class NotPrepared(AuthproxyError):
    """A process cannot serve the new configuration."""


@dataclass(slots=True)
class State:
    """What processes are started with: the configuration, as the number of reloads says, and the sockets.

    `own` are the listeners of all processes.
    """

    config: Config
    shares: list[Share]
    admin: tuple[str, list[socket.socket]] | None
    own: OwnListeners
    number: int = 0


# ── what travels ─────────────────────────────────────────────────────────────────────────────────


def packed(config: Config, own: OwnListeners) -> str:
    """Return both as text. What reads secrets again stays behind: the broker alone does that."""
    routes = tuple(replace(route, reread=None) for route in config.routes)
    return base64.b64encode(pickle.dumps((replace(config, routes=routes), own))).decode("ascii")


def unpacked(text: str) -> tuple[Config, OwnListeners]:
    """Return what `packed` got."""
    config, own = pickle.loads(base64.b64decode(text))  # noqa: S301 - our own process has sent it
    return config, own


def with_addresses(message: Message) -> Share:
    """Return the sockets that came with `message`, each with its address."""
    descriptors = message.get("descriptors", [])
    return [
        (address, socket.socket(fileno=descriptor))
        for address, descriptor in zip(message["addresses"], descriptors, strict=True)
    ]


def shared_out(opened: Share, count: int) -> list[Share]:
    """Return each worker's sockets: TCP ones of its own on the same address, Unix ones in common.

    Raises `ListenError`.
    """
    more = [
        [(address, sock if address.startswith("unix:") else another_socket(sock)) for address, sock in opened]
        for _ in range(count - 1)
    ]
    return [opened, *more]


# ── the broker ───────────────────────────────────────────────────────────────────────────────────


class Group:
    """The other processes, as the broker sees them: `app.reload.Others`."""

    def __init__(self, broker: Broker, app: App, supervisor: socket.socket, number: int) -> None:
        self._broker = broker
        self._app = app
        self._supervisor = Channel(supervisor, self._hear)
        self._workers = broker.reloads(self._hear)
        self._number = number
        self._awaited = ""
        self._missing: set[Channel] = set()
        self._trouble: list[str] = []
        self._answered = asyncio.Event()
        self._to_close: list[Share] = []

    def own_share(self, opened: Listeners) -> Listeners:
        """Return what the broker itself is to serve."""
        return Listeners([], opened.admin)

    async def prepare(self, config: Config, opened: Listeners, own: OwnListeners) -> None:
        """Have all prepare; from its return on, they will commit. Raises `AuthproxyError`."""
        self._number += 1
        shares = shared_out(opened.proxy, len(self._workers))
        self._to_close = shares
        text = packed(config, own)
        try:
            await self._have_prepared(text, shares)
            await self._have_taken(text, shares, opened.admin)
        except BaseException:
            self._abandon()
            raise

    async def _have_prepared(self, text: str, shares: list[Share]) -> None:
        for channel, share in zip(self._workers, shares, strict=True):
            channel.send(self._said("prepare", config=text, addresses=[a for a, _ in share]), _numbers(share))
        await self._all_have("prepared", self._workers)

    async def _have_taken(
        self, text: str, shares: list[Share], admin: tuple[str, list[socket.socket]] | None
    ) -> None:
        """Tell the supervisor, which looks at its line when it gets the signal."""
        for number, share in enumerate(shares):
            message = self._said("sockets", worker=number, addresses=[address for address, _ in share])
            self._supervisor.send(message, _numbers(share))
        share = [(admin[0], sock) for sock in admin[1]] if admin is not None else []
        message = self._said("state", config=text, addresses=[address for address, _ in share])
        self._supervisor.send(message, _numbers(share))
        os.kill(os.getppid(), SIGUSR1)
        await self._all_have("taken", [self._supervisor])

    async def commit(self) -> None:
        """Have all serve by what they have prepared; who cannot is replaced."""
        self._broker.serve(self._app.config)
        self._close_copies()
        for channel in self._workers:
            channel.send(self._said("commit"))
        try:
            await self._all_have("committed", self._workers)
        except AuthproxyError as error:
            logs.warning("a worker has not taken the new configuration yet", cause=error.detail)

    def _abandon(self) -> None:
        """Have all go on as before."""
        for channel in self._workers:
            channel.send(self._said("abandon"))
        self._close_copies()

    def _close_copies(self) -> None:
        """Close what the others have now: what stayed open here would swallow connections."""
        for share in self._to_close:
            for _, sock in share:
                sock.close()
        self._to_close = []

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
            raise NotPrepared("a process did not answer in time") from None
        if self._trouble:
            raise NotPrepared(self._trouble[0])

    def _hear(self, channel: Channel, message: Message) -> None:
        if message["number"] != self._number or message["reload"] != self._awaited:
            return  # of an earlier reload
        if trouble := message.get("trouble"):
            self._trouble.append(trouble)
        self._missing.discard(channel)
        if not self._missing or self._trouble:
            self._answered.set()


def _numbers(share: Share) -> list[int]:
    return [sock.fileno() for _, sock in share]


# ── a worker ─────────────────────────────────────────────────────────────────────────────────────


class Member:
    """A worker's side; `number` is that of the reload whose configuration it began with."""

    def __init__(self, app: App, client: BrokerClient, number: int) -> None:
        self._app = app
        self._client = client
        self._number = number
        self._change: tuple[int, Change] | None = None
        self._task: asyncio.Task[None] | None = None
        self._work: dict[str, Callable[[Message], Any]] = {
            "prepare": self._prepare,
            "commit": self._commit,
            "abandon": self._abandon,
        }
        client.reloads = self._hear

    def _hear(self, message: Message) -> None:
        before = self._task

        async def in_turn() -> None:
            if before is not None:
                await before
            await self._work[message["reload"]](message)

        self._task = asyncio.create_task(in_turn())

    async def _prepare(self, message: Message) -> None:
        number, opened = message["number"], Listeners(with_addresses(message))
        trouble = None
        try:
            config, own = unpacked(message["config"])
            tls = await asyncio.to_thread(tls_contexts, config, self._app.site.tls)
            self._change = number, await self._app.prepare(config, opened, tls, own)
        except (AuthproxyError, OSError) as error:
            for sock in opened.sockets:
                sock.close()
            trouble = error.detail if isinstance(error, AuthproxyError) else error.strerror or "failed"
        self._client.tell({"reload": "prepared", "number": number, "trouble": trouble})

    async def _commit(self, message: Message) -> None:
        number = message["number"]
        if self._change is not None and self._change[0] == number:
            change, self._change, self._number = self._change[1], None, number
            await self._app.commit(change)
        elif number != self._number:  # we came too late to prepare; who comes after us does not
            logs.info("a worker ends, to begin again with the new configuration")
            os.kill(os.getpid(), signal.SIGTERM)
            return
        self._client.tell({"reload": "committed", "number": number})

    async def _abandon(self, message: Message) -> None:
        if self._change is not None and self._change[0] == message["number"]:
            change, self._change = self._change[1], None
            await self._app.abandon(change)


# ── the supervisor ───────────────────────────────────────────────────────────────────────────────


class Taker:
    """The supervisor's side: it takes the new state, and closes what nobody listens on any more."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._new: dict[int, Share] = {}

    def hear(self, message: Message) -> Message | None:
        """Take a message; return the answer once the state is whole."""
        share = with_addresses(message)
        if message["reload"] == "sockets":
            self._new[message["worker"]] = share
            return None
        config, own = unpacked(message["config"])
        state = self._state
        for number, kept in enumerate(state.shares):
            gone = [each for each in kept if each[0] not in config.listen]
            for _, sock in gone:
                sock.close()
            state.shares[number] = [each for each in kept if each not in gone] + self._new.get(number, [])
        self._take_admin(config, share)
        state.config, state.own, state.number = config, own, message["number"]
        self._new = {}
        return {"reload": "taken", "number": message["number"]}

    def _take_admin(self, config: Config, share: Share) -> None:
        state = self._state
        if not share and config.admin is not None:
            return  # it stays where it is
        if state.admin is not None:
            for sock in state.admin[1]:
                sock.close()
        state.admin = (share[0][0], [sock for _, sock in share]) if share else None
