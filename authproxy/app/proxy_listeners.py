"""The proxy's listeners at work: one server for all their connections, each begun and ended by itself.

    sockets ─▶ ServedListener ─▶ Entrance ─┬─▶ handler, of all routes that are mounted
    sockets ─▶ ServedListener ─▶ Entrance ─┼─▶ one beside it, of the route whose own listener it is
    sockets ─▶ ServedListener ─▶ Entrance ─┴─▶ that of forward mode

Another configuration may want others: `prepare` does all that can fail, `serve` and `change` put them in.
"""

import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from authproxy import logs
from authproxy.app.file_limits import affordable_connections
from authproxy.app.remarks import LIMITED_BY_FILES
from authproxy.app.served import ServedListener
from authproxy.app.site import Site
from authproxy.config.model import Config, address_of
from authproxy.proxy.downstream.server import Entrance, ProxyServer
from authproxy.proxy.handler import ProxyHandler

if TYPE_CHECKING:
    from authproxy.proxy.forward.handler import ForwardHandler

LIMITED_BY_CONFIGURATION = "`limits.connections` sets the limit"

Sockets = list[tuple[str, socket.socket]]
"""Open sockets, each with the name of its listener."""


class ProxyListeners:
    """Has `handler`, and others beside it, answer who connects; `server` is what that is bounded by."""

    def __init__(self, handler: ProxyHandler, config: Config) -> None:
        self.server = ProxyServer(handler, **_bounds(config))
        self._handler = handler
        self._own: dict[str, ProxyHandler] = {}  # by the listener,
        self._routes: dict[str, str] = {}  # and whose it is
        self._forward: ForwardHandler | None = None
        # Of listeners that are gone, each with its route, for as long as anybody is connected.
        self._gone: WeakKeyDictionary[ProxyHandler, str] = WeakKeyDictionary()
        self._served: list[ServedListener] = []

    @property
    def sockets(self) -> Sockets:
        """What requests are accepted on."""
        return [(each.address, each.sock) for each in self._served]

    async def begin(self, sockets: Sockets, site: Site) -> None:
        """Accept on open sockets from now on."""
        created = await self._created(sockets, site)
        self.serve(site, created)
        self._served = created
        for listener in self._served:
            await listener.begin()

    async def _created(self, sockets: Sockets, site: Site) -> list[ServedListener]:
        """Return a listener for each socket, none of which accepts anybody yet. Raises OSError."""
        created: list[ServedListener] = []
        seconds = site.config.limits.header_timeout
        own = {
            name: self._own.get(name) or self._handler.beside(each, name) for name, each in site.own.items()
        }
        try:
            forward = self._forward_entrance(site)
            for name, sock in sockets:
                entrance = forward if name == site.config.forward_listener else None
                listener = await ServedListener.create(
                    name,
                    sock,
                    entrance or Entrance(self.server, own.get(name, self._handler)),
                    tls=_tls(name, site),
                    handshake_seconds=seconds,
                )
                created.append(listener)
        except BaseException:
            for listener in created:
                listener.close()
            raise
        return created

    def _forward_entrance(self, site: Site) -> Entrance | None:
        """Return what makes the connections of the forward listener, if there is one."""
        if site.forward is None:
            return None
        from authproxy.proxy.forward.connection import ForwardEntrance
        from authproxy.proxy.forward.handler import ForwardHandler

        forward = self._forward or ForwardHandler(self._handler, site, site.forward, self.server)
        return ForwardEntrance(self.server, forward)

    def close(self) -> None:
        """Accept no more."""
        for listener in self._served:
            listener.close()

    # ── another configuration ────────────────────────────────────────────────────────────────────

    async def prepare(self, opened: Sockets, site: Site) -> list[ServedListener]:
        """Return what `site` takes that is not served yet; `opened` are the sockets that are new."""
        return await self._created([*opened, *self._served_otherwise(site)], site)

    def _served_otherwise(self, site: Site) -> Sockets:
        """Return the sockets that stay, but speak TLS otherwise then, or become or stop being a route's own.

        Who waits on them goes on waiting.
        """
        listeners = site.config.listeners
        return [
            (each.address, each.sock.dup())
            for each in self._served
            if each.address in listeners
            and (_speaks_otherwise(each, site) or self._changes_sides(each, site))
        ]

    def _changes_sides(self, listener: ServedListener, site: Site) -> bool:
        """Tell whether a listener is a route's own, or that of forward mode, and is not in `site`, or so."""
        answerer = _entrance(listener).answerer
        is_forward = self._forward is not None and answerer is self._forward
        if is_forward or listener.address == site.config.forward_listener:
            return is_forward != (listener.address == site.config.forward_listener)
        return (answerer is self._handler) == (listener.address in site.own)

    def adjust(self, config: Config) -> None:
        """Go by the limits of `config` from now on."""
        self.server.adjust(**_bounds(config))

    def serve(self, site: Site, prepared: Sequence[ServedListener]) -> None:
        """Have each listener that is a route's own serve by `site` from the next request on.

        Who is connected to one that is gone has one more answer: as at its route's new one, if there is one.
        """
        new = {each.address: cast("ProxyHandler", _entrance(each).answerer) for each in prepared}
        own = {
            name: self._own.get(name) or new.get(name) or self._handler.beside(each, name)
            for name, each in site.own.items()
        }
        for name, handler in self._own.items():
            if name not in own:
                self._gone[handler] = self._routes[name]
        for listener in self._served:
            if self._changes_sides(listener, site):
                _entrance(listener).close()
        for name, handler in own.items():
            handler.serve(site.own[name])
        now = {route: site.own[name] for name, route in site.config.own_listeners.items()}
        for handler, route in self._gone.items():
            handler.serve(now.get(route) or site.alone())
        self._own, self._routes = own, site.config.own_listeners
        named = self._serve_forward(site, prepared)
        self.server.own = {**own, **named}

    def _serve_forward(self, site: Site, prepared: Sequence[ServedListener]) -> Mapping[str, ProxyHandler]:
        """Have forward mode go by `site`, or end; return who answers for each origin there."""
        forward, listener = self._forward, site.config.forward_listener
        if forward is None and listener is not None:
            found = (_entrance(each).answerer for each in prepared if each.address == listener)
            forward = cast("ForwardHandler | None", next(found, None))
        if forward is None:
            return {}
        forward.serve_forward(site, site.forward)
        self._forward = forward if site.forward is not None else None
        return forward.named

    async def change(self, prepared: list[ServedListener], config: Config) -> None:
        """Accept on what was `prepared`, and no more on what `config` has no use for."""
        for listener in prepared:
            try:
                await listener.begin()
            except OSError as error:  # of one that is bound already
                logs.error("cannot listen", address=address_of(listener.address), cause=error.strerror)
        replaced = {each.address for each in prepared}
        kept = set(config.listeners) - replaced
        stay = [each for each in self._served if each.address in kept]
        gone = [each for each in self._served if each not in stay]
        self._served = [*stay, *prepared]
        for listener in gone:
            listener.end()


def _entrance(listener: ServedListener) -> Entrance:
    return cast("Entrance", listener.protocols)


def _tls(listener: str, site: Site) -> ssl.SSLContext | None:
    """Return how a listener speaks TLS; that of forward mode does not, as its clients say http://."""
    return site.tls.listener if listener != site.config.forward_listener else None


def _speaks_otherwise(listener: ServedListener, site: Site) -> bool:
    """Tell whether a listener speaks TLS otherwise than in `site`."""
    tls = _tls(listener.address, site)
    seconds = site.config.limits.header_timeout if tls is not None else None
    return listener.tls is not tls or listener.handshake_seconds != seconds


def _bounds(config: Config) -> dict[str, Any]:
    """Return what the server bounds."""
    limits, limit = config.limits, affordable_connections(config)
    return {
        "limit": limit,
        "limit_hint": LIMITED_BY_FILES if limit < limits.connections else LIMITED_BY_CONFIGURATION,
        "keepalive": limits.keepalive,
        "header_bytes": limits.header_bytes,
        "header_seconds": limits.header_timeout,
    }
