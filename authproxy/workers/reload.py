"""A reload in several processes: all prepare, then all change.

    broker ── prepare ──▶ workers     each gets the configuration, and sockets of its own where some are new
           ◀─ prepared ──
           ── new state ▶ supervisor  from now on who is put in another's place begins with the new one
           ◀─ taken ─────
           ── commit ───▶ workers
           ◀─ committed ─

Until the supervisor has taken it, any fault has all go on as before. What the supervisor has is what holds:
a broker that does not hear whether it was taken ends itself, and whoever takes a broker's place has all
workers go by what it was started with. A worker that begins in between says so, and is asked to prepare;
one that is told to commit what it has not prepared ends itself, as its successor begins with that.

A configuration travels pickled: it comes from a process of ours, over a socket pair that no other has.
"""

import asyncio
import base64
import os
import pickle
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace

from authproxy import logs
from authproxy.app.application import App, Change
from authproxy.app.file_limits import raise_file_limit
from authproxy.app.listeners import Listeners, PassedSocket, another_socket
from authproxy.app.tls import TLSContexts, tls_contexts
from authproxy.capabilities import SIGUSR1, send_fds
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


class NoAnswer(NotPrepared):
    """A process has not said whether it can."""


class OutcomeUnknown(NotPrepared):
    """The supervisor has not said whether it begins processes with the new configuration."""


@dataclass(slots=True)
class State:
    """What processes are started with: the configuration, its TLS, and the sockets.

    `own` are the listeners of all processes; `number` is that of the reload that has led here.
    """

    config: Config
    tls: TLSContexts
    shares: list[Share]
    admin: tuple[str, list[socket.socket]] | None
    own: OwnListeners
    number: int = 0


# ── what travels ─────────────────────────────────────────────────────────────────────────────────


def packed(config: Config, own: OwnListeners) -> str:
    """Return both as text."""
    return base64.b64encode(pickle.dumps((config, own))).decode("ascii")


def without_sources(config: Config) -> Config:
    """Return what workers need to know: the broker alone reads secrets again."""
    return replace(config, routes=tuple(replace(route, reread=None) for route in config.routes))


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
    """Return each worker's sockets: its own on the same TCP address; Unix and passed ones in common.

    Raises `ListenError`.
    """
    shares = [opened]
    try:
        for _ in range(count - 1):
            shares.append(share := [])
            for address, sock in opened:
                share.append((address, sock if _is_common(address, sock) else another_socket(sock)))
    except BaseException:
        close_shares(shares[1:])
        raise
    return shares


def _is_common(address: str, sock: socket.socket) -> bool:
    return address.startswith("unix:") or isinstance(sock, PassedSocket)


def close_shares(shares: Iterable[Share]) -> None:
    """Close all sockets in them."""
    for share in shares:
        for _, sock in share:
            sock.close()


# ── the broker ───────────────────────────────────────────────────────────────────────────────────


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

    async def prepare(self, config: Config, opened: Listeners, own: OwnListeners) -> None:
        """Have all prepare; from its return on, they will commit. Raises `AuthproxyError`."""
        if send_fds is None or SIGUSR1 is None:
            raise NotPrepared("workers cannot be given new listeners on this system: start authproxy again")
        self._shares = shared_out(opened.proxy, len(self._workers))
        try:
            await self._have_prepared(config, own)
            await self._have_taken(config, own, opened.admin)
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

    async def _have_prepared(self, config: Config, own: OwnListeners) -> None:
        self._number = time.monotonic_ns()  # which no broker before us has used
        self._text = packed(without_sources(config), own)
        for channel in self._workers:
            self._have_one_prepared(channel)
        await self._all_have("prepared", self._workers)

    def _have_one_prepared(self, channel: Channel) -> None:
        share = self._shares[self._workers.index(channel)]
        channel.send(self._said("prepare", config=self._text, addresses=_addresses(share)), _numbers(share))

    async def _have_taken(
        self, config: Config, own: OwnListeners, admin: tuple[str, list[socket.socket]] | None
    ) -> None:
        """Tell the supervisor, which looks at its line when it gets the signal."""
        if os.getppid() != self._above:
            raise NotPrepared("authproxy is stopping")
        for number, share in enumerate(self._shares):
            message = self._said("sockets", worker=number, addresses=_addresses(share))
            self._supervisor.send(message, _numbers(share))
        share = [(admin[0], sock) for sock in admin[1]] if admin is not None else []
        message = self._said("state", config=packed(config, own), addresses=_addresses(share))
        self._supervisor.send(message, _numbers(share))
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


def _numbers(share: Share) -> list[int]:
    return [sock.fileno() for _, sock in share]


def _addresses(share: Share) -> list[str]:
    return [address for address, _ in share]


# ── a worker ─────────────────────────────────────────────────────────────────────────────────────


class Member:
    """A worker's side; `number` is that of the reload with whose outcome it began."""

    def __init__(self, app: App, client: BrokerClient, number: int) -> None:
        self._app = app
        self._client = client
        self._number = number
        self._change: tuple[int, Change] | None = None
        self._task: asyncio.Task[None] | None = None
        self._work: dict[str, Callable[[Message], Awaitable[None]]] = {
            "prepare": self._prepare,
            "commit": self._commit,
            "abandon": self._abandon,
        }
        client.tell({"reload": "here", "number": number})
        client.reloads(self._hear)

    def _hear(self, message: Message) -> None:
        before = self._task

        async def in_turn() -> None:
            if before is not None:
                await asyncio.wait([before])
            await self._work[message["reload"]](message)

        self._task = asyncio.create_task(in_turn(), name=f"reload: {message['reload']}")

    async def _prepare(self, message: Message) -> None:
        self._drop()
        number, opened = message["number"], Listeners(with_addresses(message))
        trouble = None
        try:
            config, own = unpacked(message["config"])
            tls = await asyncio.to_thread(tls_contexts, config, self._app.site.tls)
            self._change = number, await self._app.prepare(config, opened, tls, own)
        except Exception as error:  # noqa: BLE001 - the broker waits for an answer
            for sock in opened.sockets:
                sock.close()
            trouble = _trouble(error)
        self._client.tell({"reload": "prepared", "number": number, "trouble": trouble})

    async def _commit(self, message: Message) -> None:
        """Serve by what was prepared for this number; if we have begun with it, go on."""
        number = message["number"]
        if self._change is not None and self._change[0] == number:
            change, self._change = self._change[1], None
            await self._serve(change, number)
        self._drop()
        if self._number == number:
            self._client.tell({"reload": "committed", "number": number})
        elif not self._app.draining:  # who comes after us begins with it
            logs.info("a worker ends, to begin again with the new configuration")
            os.kill(os.getpid(), signal.SIGTERM)

    async def _serve(self, change: Change, number: int) -> None:
        try:
            await self._app.commit(change)
        except Exception as error:  # noqa: BLE001 - what does not go by it must not go on
            _trouble(error)
            self._app.abandon(change)
            return
        self._number = number
        self._app.let_go()

    async def _abandon(self, message: Message) -> None:
        if self._change is not None and self._change[0] == message["number"]:
            self._drop()

    def _drop(self) -> None:
        """Close what was prepared and will not be wanted any more."""
        if self._change is not None:
            change, self._change = self._change[1], None
            self._app.abandon(change)


def _trouble(error: Exception) -> str:
    """Return what the broker is told of `error`."""
    if isinstance(error, AuthproxyError):
        return error.detail
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    logs.logger.error("reloading failed", exc_info=error)
    return "something went wrong inside authproxy"


# ── the supervisor ───────────────────────────────────────────────────────────────────────────────


class Taker:
    """The supervisor's side: it takes the new state, and closes what nobody listens on any more."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._number = 0
        self._new: dict[int, Share] = {}

    @property
    def complete(self) -> bool:
        """Whether nothing more of a state is to come."""
        return not self._new

    def hear(self, message: Message, *, stopping: bool = False) -> Message | None:
        """Take a message; return the answer once the state is whole. Nothing is taken while `stopping`."""
        share = with_addresses(message)
        if message["number"] != self._number:  # a broker that died has left the rest unsaid
            self.drop()
            self._number = message["number"]
        if message["reload"] == "sockets":
            self._new[message["worker"]] = share
            return None
        answer = {"reload": "taken", "number": self._number}
        try:
            if stopping:
                raise NotPrepared("authproxy is stopping")
            config, own = unpacked(message["config"])
            tls = tls_contexts(config, self._state.tls)
        except (AuthproxyError, OSError) as error:
            close_shares([share])
            self.drop()
            return {**answer, "trouble": _trouble(error)}
        self._take(config, tls, own, share)
        return answer

    def _take(self, config: Config, tls: TLSContexts, own: OwnListeners, admin: Share) -> None:
        state = self._state
        for number, before in enumerate(state.shares):
            kept = [each for each in before if each[0] in config.listen]
            close_shares([[each for each in before if each not in kept]])
            state.shares[number] = kept + self._new.get(number, [])
        self._new = {}
        self._take_admin(config, admin)
        state.config, state.tls, state.own, state.number = config, tls, own, self._number
        # Whoever is started from now on begins with these.
        logs.set_up(config.log.level, config.log.format)
        raise_file_limit(config)

    def _take_admin(self, config: Config, share: Share) -> None:
        state = self._state
        if not share and config.admin is not None:
            return  # it stays where it is
        if state.admin is not None:
            close_shares([[(state.admin[0], sock) for sock in state.admin[1]]])
        state.admin = (share[0][0], [sock for _, sock in share]) if share else None

    def drop(self) -> None:
        """Forget what has come of a state whose end will not come."""
        close_shares(self._new.values())
        self._new = {}
