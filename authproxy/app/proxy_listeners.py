"""The proxy's listeners at work: one server for all their connections, each begun and ended by itself.

    sockets ─▶ ServedListener ─▶ Entrance ─┬─▶ handler, of all routes that are mounted
    sockets ─▶ ServedListener ─▶ Entrance ─┴─▶ one beside it, of the route whose own listener it is

Another configuration may want others: `prepare` does all that can fail, `serve` and `change` put them in.
"""

import socket
from collections.abc import Iterable
from typing import Any, cast
from weakref import WeakKeyDictionary

from authproxy import logs
from authproxy.app.file_limits import affordable_connections
from authproxy.app.remarks import LIMITED_BY_FILES
from authproxy.app.served import ServedListener
from authproxy.app.site import Site
from authproxy.config.model import Config, address_of
from authproxy.proxy.downstream.server import Entrance, ProxyServer
from authproxy.proxy.handler import ProxyHandler

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
            for name, sock in sockets:
                entrance = Entrance(self.server, own.get(name, self._handler))
                listener = await ServedListener.create(
                    name, sock, entrance, tls=site.tls.listener, handshake_seconds=seconds
                )
                created.append(listener)
        except BaseException:
            for listener in created:
                listener.close()
            raise
        return created

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
        tls = site.tls.listener
        seconds = site.config.limits.header_timeout if tls is not None else None
        listeners = site.config.listeners
        return [
            (each.address, each.sock.dup())
            for each in self._served
            if each.address in listeners
            and (each.tls is not tls or each.handshake_seconds != seconds or self._changes_sides(each, site))
        ]

    def _changes_sides(self, listener: ServedListener, site: Site) -> bool:
        """Tell whether a listener is a route's own, and is not in `site`, or the other way round."""
        return (_entrance(listener).answerer is self._handler) == (listener.address in site.own)

    def adjust(self, config: Config) -> None:
        """Go by the limits of `config` from now on."""
        self.server.adjust(**_bounds(config))

    def serve(self, site: Site, prepared: Iterable[ServedListener]) -> None:
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
                _entrance(listener).closing = True
        for name, handler in own.items():
            handler.serve(site.own[name])
        now = {route: site.own[name] for name, route in site.config.own_listeners.items()}
        for handler, route in self._gone.items():
            handler.serve(now.get(route) or site.alone())
        self._own, self._routes = own, site.config.own_listeners
        self.server.own = dict(own)

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
