"""A reload in several processes: all prepare, then all change.

    broker ── prepare ──▶ workers     each gets the configuration, and sockets of its own where some are new
           ◀─ prepared ──
           ── new state ▶ supervisor  from now on who is put in another's place begins with the new one
           ◀─ taken ─────
           ── commit ───▶ workers
           ◀─ committed ─

The broker's side is in `reload_broker.py`, a worker's in `reload_worker.py`, the supervisor's in
`reload_supervisor.py`; here is what travels between them.

Until the supervisor has taken it, any fault has all go on as before. What the supervisor has is what holds:
a broker that does not hear whether it was taken ends itself, and whoever takes a broker's place has all
workers go by what it was started with. A worker that begins in between says so, and is asked to prepare;
one that is told to commit what it has not prepared ends itself, as its successor begins with that.

A configuration travels pickled: it comes from a process of ours, over a socket pair that no other has.
"""

import base64
import pickle
import socket
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from authproxy import logs
from authproxy.app.listeners import PassedSocket
from authproxy.app.sockets import another_socket
from authproxy.app.tls import TLSContexts
from authproxy.config.model import Config
from authproxy.errors import AuthproxyError
from authproxy.net.own_listeners import OwnListeners
from authproxy.workers.channel import Message

if TYPE_CHECKING:
    from authproxy.app.forward_authority import Exported

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


class Packed(NamedTuple):
    """What travels: a configuration, the listeners of all processes, the authority of `forward`."""

    config: Config
    own: OwnListeners
    authority: "Exported | None" = None


def packed(config: Config, own: OwnListeners, tls: TLSContexts) -> str:
    """Return them as text, the authority being that of `tls`."""
    authority = tls.forward.exported() if tls.forward is not None else None
    return base64.b64encode(pickle.dumps(Packed(config, own, authority))).decode("ascii")


def without_sources(config: Config) -> Config:
    """Return what workers need to know: the broker alone reads secrets again."""
    return replace(config, routes=tuple(replace(route, reread=None) for route in config.routes))


def unpacked(text: str) -> Packed:
    """Return what `packed` got."""
    found: Packed = pickle.loads(base64.b64decode(text))  # noqa: S301 - our own process has sent it
    return found


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


def numbers_of(share: Share) -> list[int]:
    """Return the descriptors of its sockets."""
    return [sock.fileno() for _, sock in share]


def addresses_of(share: Share) -> list[str]:
    """Return what its sockets were asked for, each."""
    return [address for address, _ in share]


def trouble_of(error: Exception) -> str:
    """Return what the broker is told of `error`."""
    if isinstance(error, AuthproxyError):
        return error.detail
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    logs.logger.error("reloading failed", exc_info=error)
    return "something went wrong inside authproxy"
