"""Several processes on one set of listeners, with one set of tokens.

    supervisor ─┬─ keeper     earns the tokens, serves the admin listener
                ├─ worker 1 ──┐
                ├─ worker 2 ──┼── ask the keeper for tokens, over a socket pair each
                └─ worker 3 ──┘   and hold them as a single process would

The supervisor opens the sockets, forks, passes signals on, and puts a new process in the place of one that
dies. It never runs an event loop, so it may fork at any time. A worker's socket outlives it: connections that
wait there are taken by its successor. Each worker accepts on a socket of its own (SO_REUSEPORT).
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from authproxy import errors, logs, stderr
from authproxy.app import Listeners
from authproxy.config.schema import Config
from authproxy.config.schema import Route as RouteConfig
from authproxy.errors import AuthproxyError, TokenError, TokenTimeout, TokenUnavailable
from authproxy.proxy.listening import another_socket
from authproxy.sources import TokenSources
from authproxy.tokens.token import Token

DATAGRAM = 32 << 10  # bytes of a message in one datagram; longer ones go in several
ANSWER_SECONDS = 60.0  # a worker waits this long for the keeper; a token request takes 30 s at most
COUNT_SECONDS = 1.0  # how long a reader of `/metrics` waits for the workers' counts
WATCHED = {signal.SIGCHLD, signal.SIGINT, signal.SIGTERM}
QUICK_DEATH = 1.0  # seconds; who dies faster than this is not started again at once

Message = dict[str, Any]


def worker_count(config: Config) -> int:
    """Return how many workers `config` asks for; `auto` is one for each processor we may use."""
    return len(os.sched_getaffinity(0)) if config.workers == "auto" else config.workers


# ── tokens between processes ─────────────────────────────────────────────────────────────────────


class Keeper:
    """Answers the workers' questions for tokens."""

    def __init__(self, config: Config, sources: TokenSources, channels: list[socket.socket]) -> None:
        self._routes = {route.key: route for route in config.routes}
        self._sources = sources
        self._channels = channels
        self._lines: list[Line] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._counted: dict[int, Message] = {}  # by worker, the dead included: their counts still count
        self._awaited = 0
        self._all_counted = asyncio.Event()

    async def counts(self) -> list[Message]:
        """Return what each worker has counted, those that died included."""
        self._awaited = len(self._lines)
        self._all_counted.clear()
        for line in self._lines:
            line.send({"count": True})
        with contextlib.suppress(TimeoutError):  # who does not answer in time has its last count
            async with asyncio.timeout(COUNT_SECONDS):
                await self._all_counted.wait()
        return list(self._counted.values())

    def start(self) -> None:
        """Listen to the workers; ask those who asked a keeper before us to ask again."""
        self._lines = [Line(channel, self._hear) for channel in self._channels]
        for line in self._lines:
            line.send({"again": True})

    def _hear(self, line: "Line", question: Message) -> None:
        if "counts" in question:
            self._counted[question["who"]] = question["counts"]
            self._awaited -= 1
            if self._awaited <= 0:
                self._all_counted.set()
            return
        task = asyncio.create_task(self._answer(line, question))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, line: "Line", question: Message) -> None:
        """Answer in any case: a worker that hears nothing has its client wait."""
        try:
            token = await self._token(question)
            answer: Message = {"token": [token.value, token.expires_at, token.issued_at]}
        except TokenError as error:
            answer = {"error": _told(error)}
        except Exception as error:  # noqa: BLE001 - as above
            logs.logger.error("token renewal failed", exc_info=error)
            answer = {"error": _told(TokenUnavailable("something went wrong inside authproxy"))}
        line.send({"id": question["id"]} | answer)

    async def _token(self, question: Message) -> Token:
        refused = question.get("instead_of")
        stack = self._sources.stack(self._routes[str(question["key"])])
        assert stack is not None  # noqa: S101 - a worker asks only for what needs a token
        return await stack.top.token(instead_of=Token(refused) if isinstance(refused, str) else None)


class KeptSource:
    """A worker's source: the keeper, asked over `channel`."""

    def __init__(self, channel: "Channel", key: str) -> None:
        self._channel = channel
        self._key = key

    async def token(self, *, instead_of: Token | None = None) -> Token:
        refused = instead_of.value if instead_of is not None else None
        answer = await self._channel.ask({"key": self._key, "instead_of": refused})
        if "error" in answer:
            raise _heard(answer["error"])
        value, expires_at, issued_at = answer["token"]
        return Token(value, expires_at=expires_at, issued_at=issued_at)


def _told(error: TokenError) -> Message:
    """Return `error` as it is told to a worker."""
    kept = {name: getattr(error, name) for name in ("detail", "hint", "error", "retry_after")}
    return {"kind": type(error).__name__, "kept": kept, "title": error.title, "rejects": error.rejects}


def _heard(told: Message) -> TokenError:
    """Return the error that `_told` told of."""
    error: TokenError = getattr(errors, told["kind"])(**told["kept"])
    error.title, error.rejects = told["title"], told["rejects"]
    return error


class Channel:
    """A worker's end of its line to the keeper."""

    def __init__(self, sock: socket.socket) -> None:
        self.counts: Callable[[], Message] | None = None  # what this worker has counted
        self._waiting: dict[int, tuple[Message, asyncio.Future[Message]]] = {}
        # A predecessor may have asked on this line: its answers must not be taken for ours.
        self._next = self._who = time.monotonic_ns()
        self._line = Line(sock, self._hear)

    def bottom(self, route: RouteConfig) -> KeptSource:
        """Return what a worker's `CachedSource` stands on."""
        return KeptSource(self, route.key)

    async def ask(self, question: Message) -> Message:
        """Return the keeper's answer. Raises `TokenTimeout`."""
        self._next += 1
        number = self._next
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        question = {"id": number, **question}
        self._waiting[number] = question, future
        try:
            self._line.send(question)
            async with asyncio.timeout(ANSWER_SECONDS):
                return await future
        except TimeoutError:
            raise TokenTimeout("the process that keeps the tokens did not answer in time") from None
        finally:
            del self._waiting[number]

    def _hear(self, line: "Line", answer: Message) -> None:
        if "count" in answer:
            if self.counts is not None:
                line.send({"counts": self.counts(), "who": self._who})
        elif "again" in answer:  # a new keeper: the old one took our questions with it
            for question, _ in self._waiting.values():
                line.send(question)
        elif (waiting := self._waiting.get(int(str(answer["id"])))) is not None and not waiting[1].done():
            waiting[1].set_result(answer)


class Line:
    """One end of a datagram socket pair, for messages of any length; `hear` gets those that come.

    Each datagram is a piece of a message: WHO NUMBER LEFT and its bytes, LEFT being how many pieces follow.
    Both ends outlive the process that writes: what one that died has left incomplete is never heard of. What
    the socket does not take now waits here, so nothing is lost while the other side is slow.
    """

    def __init__(self, sock: socket.socket, hear: Callable[["Line", Message], None]) -> None:
        self._sock = sock
        self._hear = hear
        self._loop = asyncio.get_running_loop()
        self._who = time.monotonic_ns()
        self._number = 0
        self._to_send: deque[bytes] = deque()
        self._incomplete: tuple[bytes, list[bytes]] = (b"", [])  # of whom and which, and its pieces
        sock.setblocking(False)  # noqa: FBT003 - the standard library's way
        self._loop.add_reader(sock, self._read)

    def send(self, message: Message) -> None:
        """Send `message`, now or as soon as the other side has taken what was sent before."""
        self._number += 1
        data = json.dumps(message).encode()
        pieces = [data[start : start + DATAGRAM] for start in range(0, len(data), DATAGRAM)]
        waits = bool(self._to_send)
        for left, piece in zip(reversed(range(len(pieces))), pieces, strict=True):
            self._to_send.append(b"%d %d %d %b" % (self._who, self._number, left, piece))
        if not waits:
            self._write()
            if self._to_send:
                self._loop.add_writer(self._sock, self._write_more)

    def _write_more(self) -> None:
        self._write()
        if not self._to_send:
            self._loop.remove_writer(self._sock)

    def _write(self) -> None:
        try:
            while self._to_send:
                self._sock.send(self._to_send[0])
                self._to_send.popleft()
        except BlockingIOError:
            pass
        except ConnectionError:  # the other end is gone for good
            self._to_send.clear()

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while data := self._sock.recv(2 * DATAGRAM):
                self._take(data)

    def _take(self, data: bytes) -> None:
        who, number, left, piece = data.split(b" ", 3)
        message = who + b" " + number
        of, pieces = self._incomplete
        pieces = [*pieces, piece] if of == message else [piece]
        if left != b"0":
            self._incomplete = message, pieces
            return
        self._incomplete = b"", []
        try:
            whole = json.loads(b"".join(pieces))
        except ValueError:
            return  # its first pieces went to a process that is gone
        self._hear(self, whole)


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
        signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
        for child in self.children:
            self._fork(child)
        ready()
        failed = False
        while any(child.pid for child in self.children):
            number = signal.sigwait(WATCHED)
            if number == signal.SIGCHLD:
                failed = self._reap() or failed
            else:
                self._pass_on(number)
        return 1 if failed else 0

    def _fork(self, child: Child) -> None:
        child.started = time.monotonic()
        child.pid = os.fork()
        if child.pid == 0:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
            _end(child.work)

    def _reap(self) -> bool:
        """Take note of who died, and put another in its place; tell whether one failed during the end."""
        failed = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
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
                self._stop_keeper()
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
        self._stop_keeper()

    def _stop_keeper(self) -> None:
        keeper, *workers = self.children
        if keeper.pid and not any(worker.pid for worker in workers):
            os.kill(keeper.pid, signal.SIGTERM)


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
