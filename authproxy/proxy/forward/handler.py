"""Answers at the forward listener.

    CONNECT host:port ─┬─ a route's origin ─▶ 200 ─▶ TLS, if it is https ─▶ a handler of that origin alone
                       └─ any other ─▶ a blind tunnel, or 403
    http://host/… ─────┬─ a route's origin ─▶ that route's way
                       └─ any other ─▶ forwarded as it is, or 403
    anything else ─▶ 400

Everything is judged before anything is dialled: form, `Host`, key, our own listeners, whose host it is.
"""

import asyncio
from functools import partial
from time import perf_counter, time
from typing import TYPE_CHECKING, Any, cast

from authproxy.errors import BadRequest, ConnectFailure, Forbidden
from authproxy.net.tunnel import BROKE_OFF, Tunnel
from authproxy.observe.record import INTERCEPTED, RequestRecord
from authproxy.proxy.context import Answered, RequestContext, Step, Waiting
from authproxy.proxy.downstream.server import Entrance, ProxyServer
from authproxy.proxy.forward.connection import ForwardConnection
from authproxy.proxy.forward.guard import NO_HTTPS, MisdirectedGuard, Place, host_key, place_of
from authproxy.proxy.forward.interception import (
    LEFT,
    NO_TLS_HERE,
    TLS_HANDSHAKE,
    TLS_HINT,
    UNTRUSTED,
    Distrust,
    HandshakeFailed,
    secured,
)
from authproxy.proxy.forward.site import ForwardSite, Inside, Unmatched
from authproxy.proxy.forward.tunnel import opened
from authproxy.proxy.handler import ProxyHandler
from authproxy.proxy.judge import Site, judge, told_path
from authproxy.proxy.outgoing import outgoing_of
from authproxy.proxy.plain import PlainReader
from authproxy.proxy.problem import problem_response
from authproxy.proxy.request import Request
from authproxy.proxy.router import RouteTable

if TYPE_CHECKING:
    import ssl


ESTABLISHED = b"HTTP/1.1 200 Connection Established\r\n\r\n"
NO_TUNNEL = "The tunnel came to nothing"
OTHER_SNI = "the TLS handshake named another host than CONNECT"
GONE = "no route is for this host any more"
OFF = "the forward proxy has been switched off"
NO_PLAIN_HTTP = "this host is https only: nothing is sent to it in the clear"
QUIET_TUNNEL = "nothing came in the tunnel"

Origin = tuple[str, Place]  # the scheme first


class ForwardContext(RequestContext):
    """A request to the forward listener: `place` is where it wants to go."""

    place: Place | None = None
    unmatched: Unmatched | None = None  # where that is no route's
    is_told = True

    @property
    def route_name(self) -> str | None:
        return super().route_name or None

    def record(self, ended: float) -> RequestRecord:
        """Return what is to be told of it; a host that is no route's has none."""
        made = super().record(ended)
        return made if self.unmatched is None else made._replace(route=None, facts=None)


class ConnectContext(ForwardContext):
    """A CONNECT. In a tunnel that ends here TLS is as `tls` has it, and has begun by `end` (loop time)."""

    tls: "ssl.SSLContext | None" = None
    end = 0.0


class ForwardHandler(ProxyHandler):
    """Answers what comes to the forward listener by `forward`, beside `handler`, whose subscribers it tells.

    `server` has the connections. Each origin of a route has a handler of its own, which `entrances` lead to.
    """

    def __init__(self, handler: ProxyHandler, site: Site, forward: ForwardSite, server: ProxyServer) -> None:
        super().__init__(site, handler.counters, handler.subscribers)
        self.forward: ForwardSite | None = forward
        self._sites = sites_of(forward)
        self._entrances: dict[Origin, Entrance] = {}
        self._server = server
        self._distrust = Distrust()

    def forget(self) -> None:
        """Leave every head to the parser: none is plain here."""
        self.reader = PlainReader((), limit=0)

    # ── whose host is whose ──────────────────────────────────────────────────────────────────────

    def serve_forward(self, site: Site, forward: ForwardSite | None) -> None:
        """Answer by `site` and `forward` from now on; None: not at all.

        Who is connected to a host that is no route's any more, or by a key that may be gone, has one more
        answer, and that is no.
        """
        self.serve(site)
        admitted = self.forward is None or forward is None or forward.guard.admits_all_of(self.forward.guard)
        self.forward, self._sites = forward, sites_of(forward)
        for origin, entrance in list(self._entrances.items()):
            handler = cast("ProxyHandler", entrance.answerer)
            if origin in self._sites and admitted:
                handler.serve(self._sites[origin])
            else:
                handler.serve(self._misdirected(GONE))
                entrance.close()
                del self._entrances[origin]

    @property
    def named(self) -> dict[str, ProxyHandler]:
        """Who answers for each origin, by what its requests are told to have come in at."""
        return {
            listener_of(*origin): cast("ProxyHandler", self._entrance(origin).answerer)
            for origin in self._sites
        }

    def _entrance(self, origin: Origin) -> Entrance:
        """Return where the requests to an origin come in."""
        entrance = self._entrances.get(origin)
        if entrance is not None:
            return entrance
        if origin not in self._sites:  # a reload came in between
            return self._no_entrance(origin, GONE)
        made = self.beside(self._sites[origin], listener_of(*origin))
        entrance = self._entrances[origin] = Entrance(self._server, made)
        return entrance

    def _no_entrance(self, origin: Origin, why: str) -> Entrance:
        """Return where every request is answered 421, and no second one."""
        entrance = Entrance(self._server, self.beside(self._misdirected(why), listener_of(*origin)))
        entrance.closing = True
        return entrance

    def _misdirected(self, why: str) -> Inside:
        """Return what answers 421, whatever is asked."""
        return Inside(MisdirectedGuard(why), RouteTable(()), self.site.header_bytes)

    # ── begin ────────────────────────────────────────────────────────────────────────────────────

    def start(self, request: Request) -> Step:
        """Judge the request, and send it as far as nothing has to be waited for."""
        kind = ConnectContext if request.method == "CONNECT" else ForwardContext
        context = kind(request, self.site, time(), perf_counter())
        try:
            if isinstance(context, ConnectContext):
                self._judge_tunnel(context)
                return Waiting(context)
            keep_alive = self._judge(context)
            if keep_alive is None:
                return context if self._send_at_once(context) else Waiting(context)
        except Exception as error:  # noqa: BLE001 - the one place where errors become responses
            keep_alive = self._fail(context, error)
        self._tell(context)
        return Answered(keep_alive)

    def _at_work(self) -> ForwardSite:
        """Return what is gone by. Raises `Forbidden` once forward mode is off."""
        if self.forward is None:
            raise Forbidden(OFF)
        return self.forward

    def _judge_tunnel(self, context: ConnectContext) -> None:
        """Find out where a CONNECT leads. Raises `RequestRefused`."""
        forward = self._at_work()
        if (asked := place_of(context.request.target)) is not None:
            context.path = str(asked)
        place = context.place = forward.guard.check_connect(context.request)
        forward.guard.check_proxy_key(context.request)
        forward.check(place)
        if place not in forward.secure and place not in forward.plain:
            context.unmatched = forward.way_to(place)

    def _judge(self, context: ForwardContext) -> bool | None:
        """Judge a request that names its whole URL, as `judge` does. Raises `RequestRefused`."""
        request, forward = context.request, self._at_work()
        if request.target.startswith("/"):
            context.path = told_path(request)
        place, target = forward.guard.check_absolute(request)
        context.path = f"http://{place}{target.partition('?')[0].removeprefix('*')}"
        forward.guard.check_proxy_key(request)
        forward.check(place)
        context.place = place
        site = forward.plain.get(place)
        if site is not None:
            context.site = site
            return judge(context)
        if place in forward.secure:
            raise BadRequest(NO_PLAIN_HTTP, hint=NO_HTTPS)
        context.unmatched = unmatched = forward.way_to(place)
        context.notes().forward = "forwarded"
        route = context.route = unmatched.route(place)
        request.connection.stall_seconds = route.idle_seconds
        target = route.placeholders.taken_out(context, target)
        context.outgoing = outgoing_of(context, route, target)
        return None

    # ── finish ───────────────────────────────────────────────────────────────────────────────────

    async def finish(self, context: Any) -> bool:
        """Go on with the request from where it stands; tell whether the connection can go on."""
        if not isinstance(context, ConnectContext):
            return await super().finish(context)
        try:
            keep_alive = await self._connect(context)
        except Exception as error:  # noqa: BLE001 - as in `start`
            keep_alive = self._fail(context, error)
        except BaseException:  # the task was cancelled
            self.lost(context)
            raise
        if context.is_told:
            self._tell(context)
        return keep_alive

    async def _connect(self, context: ConnectContext) -> bool:
        forward, place = self._at_work(), context.place
        if place is None:
            raise TypeError("a request that was not judged")
        outcome = "failed"
        try:
            if context.unmatched is not None:
                keep_alive, outcome = await self._tunnel(context, context.unmatched, place), "tunnelled"
            else:
                keep_alive = await self._intercept(context, forward, place)
                outcome = "intercepted" if keep_alive else "failed"
        finally:
            self.counters.tunnels[outcome,] += 1
        return keep_alive

    # ── a blind tunnel ───────────────────────────────────────────────────────────────────────────

    async def _tunnel(self, context: ConnectContext, unmatched: Unmatched, place: Place) -> bool:
        """Pass bytes on both ways until one side is gone."""
        connection, notes = cast("ForwardConnection", context.request.connection), context.notes()
        connection.opening = True
        far = await opened(unmatched.dialer(place), unmatched.timeouts.connect)
        notes.steps.append(("connect", "new", perf_counter()))
        client = connection.transport
        if far.transport is None or client is None:
            raise ConnectFailure(f"{place} closed the connection at once")
        client.write(ESTABLISHED)
        context.answering(200)
        notes.forward = "tunnelled"
        self.counters.tunnels_open[()] += 1
        with Tunnel(client, far.transport, unmatched.timeouts.idle) as tunnel:
            try:
                far.join(tunnel)
                connection.join(tunnel)
                await tunnel.closed()
                if tunnel.cut_by is not None:
                    context.cause = f"{place} {BROKE_OFF}"
            finally:
                self.counters.tunnels_open[()] -= 1
                context.sent, context.received = tunnel.moved, tunnel.taken
                self.counters.tunnel_bytes["out",] += tunnel.moved
                self.counters.tunnel_bytes["in",] += tunnel.taken
                moved = f"{tunnel.taken} bytes in, {tunnel.moved} bytes out"
                notes.steps.append(("tunnelled", moved, perf_counter()))
        return False

    # ── a host that is a route's ─────────────────────────────────────────────────────────────────

    async def _intercept(self, context: ConnectContext, forward: ForwardSite, place: Place) -> bool:
        """Have the connection go on where the requests to `place` come in; tell whether it does."""
        connection = cast("ForwardConnection", context.request.connection)
        if place in forward.secure:
            context.tls = forward.context(place)
        connection.client.write(ESTABLISHED)
        context.answering(200)
        context.end = asyncio.get_running_loop().time() + forward.handshake_seconds
        try:
            async with asyncio.timeout_at(context.end):
                first = await connection.first_bytes()
        except TimeoutError:
            return broken_off(context, QUIET_TUNNEL)
        if not first.startswith(TLS_HANDSHAKE):
            return self._go_on_plainly(context, forward, place, first)
        return await self._go_on_within_tls(context, forward, place, first)

    def _go_on_plainly(
        self, context: ConnectContext, forward: ForwardSite, place: Place, first: bytes
    ) -> bool:
        connection = cast("ForwardConnection", context.request.connection)
        client = connection.client
        if place in forward.plain:
            connection.enter(self._entrance(("http", place)), client, first)
            context.is_told = False
            return True
        error = BadRequest(NO_PLAIN_HTTP, hint="speak TLS in the tunnel")
        self._count(error)
        broken_off(context, error.detail, error.hint)
        client.write(problem_response(error, route=None, close=True, request_id=context.id))
        return False

    async def _go_on_within_tls(
        self, context: ConnectContext, forward: ForwardSite, place: Place, first: bytes
    ) -> bool:
        connection = cast("ForwardConnection", context.request.connection)
        if context.tls is None:
            self._distrust.warn(str(place), NO_TLS_HERE, TLS_HINT)
            return broken_off(context, NO_TLS_HERE, TLS_HINT)
        client, seconds = connection.client, context.end - asyncio.get_running_loop().time()
        try:
            made, landing = await secured(client, context.tls, first, seconds)
        except HandshakeFailed as error:
            connection.lost()
            hint = forward.trust_hint()
            self._distrust.note(place.host, error.detail, hint)
            told = hint if error.detail in UNTRUSTED else None
            return broken_off(context, f"no TLS with the client: {error.detail}", told)
        except BaseException:
            connection.lost()
            raise
        named = forward.sni_of(made.get_extra_info("ssl_object"))
        if self.subscribers.secured is not None:
            self.subscribers.secured(str(place), named)
        if named is not None and host_key(named) != place.host:
            entrance = self._no_entrance(("https", place), OTHER_SNI)
        else:
            entrance = self._entrance(("https", place))
        made.set_protocol(connection)
        connection.enter(entrance, made, landing.data, partial(self._left, context, forward, place))
        context.is_told = False
        return True

    def _left(self, context: ConnectContext, forward: ForwardSite, place: Place) -> None:
        """Tell of a client that has asked for nothing in its tunnel."""
        hint = forward.trust_hint()
        self._distrust.left(place.host, hint)
        broken_off(context, LEFT, hint)
        self._tell(context)


def broken_off(context: RequestContext, cause: str, hint: str | None = None) -> bool:
    """Note why nothing comes of a tunnel whose CONNECT was answered 200; the connection cannot go on."""
    context.cause, notes = cause, context.notes()
    notes.problem = {"title": NO_TUNNEL, "detail": cause}
    if hint is not None:
        notes.problem["hint"] = hint
    notes.steps.append(("refused", cause, perf_counter()))
    return False


def sites_of(forward: ForwardSite | None) -> dict[Origin, Site]:
    """Return what each origin of a route is answered by."""
    if forward is None:
        return {}
    found: dict[Origin, Site] = {("https", place): site for place, site in forward.secure.items()}
    return found | {("http", place): site for place, site in forward.plain.items()}


def listener_of(scheme: str, place: Place) -> str:
    """Return what the requests to an origin are told to have come in at."""
    return f"{INTERCEPTED}{scheme}://{place}"
