"""The proxy's listeners at work: one server for all their connections, each begun and ended by itself.

    sockets ─▶ ServedListener ─┐
    sockets ─▶ ServedListener ─┴─▶ ProxyServer ─▶ handler

Another configuration may want others: `prepare` does all that can fail, `change` puts them in their place.
"""

import socket
from typing import Any

from authproxy import logs
from authproxy.app.file_limits import affordable_connections
from authproxy.app.remarks import LIMITED_BY_FILES
from authproxy.app.served import ServedListener
from authproxy.app.site import Site
from authproxy.config.model import Config
from authproxy.proxy.downstream.server import Answerer, ProxyServer

LIMITED_BY_CONFIGURATION = "`limits.connections` sets the limit"

Sockets = list[tuple[str, socket.socket]]
"""Open sockets, each with the address that it was asked for."""


class ProxyListeners:
    """Has `handler` answer who connects; `server` is what it is bounded by."""

    def __init__(self, handler: Answerer, config: Config) -> None:
        self.server = ProxyServer(handler, **_bounds(config))
        self._served: list[ServedListener] = []

    @property
    def sockets(self) -> Sockets:
        """What requests are accepted on."""
        return [(each.address, each.sock) for each in self._served]

    async def begin(self, sockets: Sockets, site: Site) -> None:
        """Accept on open sockets from now on."""
        self._served = await self._created(sockets, site)
        for listener in self._served:
            await listener.begin()

    async def _created(self, sockets: Sockets, site: Site) -> list[ServedListener]:
        """Return a listener for each socket, none of which accepts anybody yet. Raises OSError."""
        created: list[ServedListener] = []
        seconds = site.config.limits.header_timeout
        try:
            for address, sock in sockets:
                listener = await ServedListener.create(
                    address, sock, self.server, tls=site.tls.listener, handshake_seconds=seconds
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
        return await self._created([*opened, *self._with_other_tls(site)], site)

    def _with_other_tls(self, site: Site) -> Sockets:
        """Return the sockets that stay, but speak TLS otherwise then; who waits on them goes on waiting."""
        tls = site.tls.listener
        seconds = site.config.limits.header_timeout if tls is not None else None
        return [
            (each.address, each.sock.dup())
            for each in self._served
            if each.address in site.config.listen
            and (each.tls is not tls or each.handshake_seconds != seconds)
        ]

    def adjust(self, config: Config) -> None:
        """Go by the limits of `config` from now on."""
        self.server.adjust(**_bounds(config))

    async def change(self, prepared: list[ServedListener], config: Config) -> None:
        """Accept on what was `prepared`, and no more on what `config` has no use for."""
        for listener in prepared:
            try:
                await listener.begin()
            except OSError as error:  # of one that is bound already
                logs.error("cannot listen", address=listener.address, cause=error.strerror)
        replaced = {each.address for each in prepared}
        kept = set(config.listen) - replaced
        stay = [each for each in self._served if each.address in kept]
        gone = [each for each in self._served if each not in stay]
        self._served = [*stay, *prepared]
        for listener in gone:
            listener.end()


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
