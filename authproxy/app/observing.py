"""What one process knows of the requests that it has answered, and who is told of each.

    ProxyHandler ─▶ subscribers ─┬─ Counters        since the start, whatever is reloaded
                                 ├─ AccessLog       if the configuration wants one
                                 ├─ Recent          the last ones, if somebody can ask for them
                                 └─ Feed ─▶ seen    while somebody watches

With several processes that serve, each has one; `Others` is how the process that is asked reaches them.
"""

from typing import TYPE_CHECKING, Any, Protocol

from authproxy import logs
from authproxy.app.requests import LocalRequests
from authproxy.observe.counters import Counters
from authproxy.observe.feed import Feed, Sink
from authproxy.observe.recent import Recent
from authproxy.observe.record import RequestRecord, Subscriber
from authproxy.tokens.token import Token

if TYPE_CHECKING:
    from authproxy.app.application import App
    from authproxy.observe.access_log import AccessLog
    from authproxy.proxy.handler import ProxyHandler

Snapshot = dict[str, Any]


class Others(Protocol):
    """The processes that serve, where this one does not: it obtains the tokens and has the admin listener."""

    async def counts(self) -> list[Snapshot]:
        """Return what each of them has counted."""
        ...

    async def ask_all(self, question: str, about: Any) -> list[Any]:
        """Return what each of them answers to a question of `LocalRequests`."""
        ...

    def watch(self, rate: int) -> None:
        """Be told of finished requests, `rate` a second at most, or not any more (0)."""
        ...

    def replaced(self, key: str, refused: Token, token: Token) -> None:
        """Have all go on with `token`."""
        ...

    def forgotten(self, key: str) -> None:
        """Have none go on with the token of the credential `key`."""
        ...

    def published(self, issuer: str, urls: tuple[str, ...]) -> None:
        """Have all know the token endpoints that `issuer` publishes."""
        ...


class Watcher(Protocol):
    """Who is told of all that comes, as it comes."""

    def answered(self, record: RequestRecord) -> None:
        """Hear of a request."""
        ...

    def secured(self, place: str, named: str | None) -> None:
        """Hear of a handshake in forward mode, for `place`; the client has `named` a server (SNI)."""
        ...

    def ended(self) -> None:
        """Hear that nothing more comes."""
        ...


class Observing:
    """Observes the requests of `app`, by whichever configuration is at work.

    `seen` is told of finished requests while somebody watches.
    """

    def __init__(self, app: "App") -> None:
        self._app = app
        self._handler: ProxyHandler | None = None
        self._access_log: AccessLog | None = None
        self._feed: Feed | None = None
        self.counters = Counters()
        self.recent = Recent(0)
        self.requests = LocalRequests(self.recent, lambda: app.config, lambda: app.server)
        self.seen: Sink | None = None

    def attach(self, handler: "ProxyHandler") -> None:
        """Observe the requests that `handler` answers; it tells `subscribers` already."""
        self._handler = handler
        self.keep_recent()

    # ── who is told ──────────────────────────────────────────────────────────────────────────────

    def subscribers(self) -> list[Subscriber]:
        """Return who is told of each request, but for those who remember the last ones."""
        from authproxy.observe.access_log import AccessLog

        subscribers: list[Subscriber] = [self.counters.request]
        log = self._app.config.log
        self.flush()
        self._access_log = None
        if log.access and logs.LEVELS[log.level] <= logs.LEVELS["info"]:
            self._access_log = AccessLog(log.format)
            subscribers.append(self._access_log)
        if self._feed is not None:
            subscribers.append(self._feed.take)
        return subscribers

    def tell(self, watcher: Watcher) -> None:
        """Have `watcher` told as well, until another configuration is at work."""
        if self._handler is not None:
            self._handler.subscribe(watcher.answered)
            self._handler.subscribers.secured = watcher.secured

    def flush(self) -> None:
        """Write what of the access log is not written yet."""
        if self._access_log is not None:
            self._access_log.flush()

    def keep_recent(self) -> None:
        """Remember as many requests as the configuration says; none where nobody can ask for them."""
        if self._handler is None:
            return
        admin = self._app.config.admin
        self._handler.unsubscribe(self.recent.add)
        self.recent.resize(admin.keep if admin is not None and self._app.is_asked else 0)
        if self.recent.keep:
            self._handler.subscribe(self.recent.add)

    def watch(self, rate: int) -> None:
        """Tell `seen` of finished requests, `rate` a second at most, or not any more (0)."""
        if self._handler is None:
            return
        if rate and self._feed is not None:
            self._feed.rate = rate
        elif self._feed is not None:
            self._handler.unsubscribe(self._feed.take)
            self._feed.close()
            self._feed = None
        elif rate and self.seen is not None:
            self._feed = Feed(self.seen, rate)
            self._handler.subscribe(self._feed.take)

    # ── who asks ─────────────────────────────────────────────────────────────────────────────────

    def answer(self, question: str, about: Any) -> Any:
        """Answer a question of another process."""
        return self.snapshot() if question == "counts" else self.requests.questions[question](about)

    async def ask_all(self, question: str, about: Any) -> list[Any]:
        """Put a question of `LocalRequests` to every process that serves."""
        if self._app.others is not None:
            return await self._app.others.ask_all(question, about)
        return [self.requests.questions[question](about)]

    def snapshot(self) -> Snapshot:
        """Return what this process has counted, its connections included, as plain data."""
        connections = [
            [key.route, state, number]
            for key, pool in self._app.site.pools.items()
            for state, number in pool.counts.items()
        ]
        return self.counters.snapshot() | {"connections": connections}

    async def snapshots(self) -> list[Snapshot]:
        """Return what each process has counted."""
        others = self._app.others
        return [self.snapshot(), *(await others.counts() if others is not None else [])]
