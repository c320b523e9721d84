"""From a route of the configuration to one that is ready for requests.

RouteConfig ─┬─ pools of connections, header rules, rewriting
             ├─ credential: the source of its tokens, where they go, what refuses one
             ├─ placeholders, logins that are answered here
             └─ what is told of its requests
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import unquote

from pydantic import SecretStr

from authproxy.app.credentials import TokenSources
from authproxy.app.nested_mounts import NestedMounts
from authproxy.app.tls import TLSContexts
from authproxy.config.model import Config
from authproxy.config.route import RouteConfig
from authproxy.grants.grant import Grant
from authproxy.grants.static import Basic
from authproxy.masking import leaves
from authproxy.net.dial import Dialer, Origin
from authproxy.net.http_proxy import HTTPProxy, proxy_for
from authproxy.net.own_listeners import OwnListeners
from authproxy.observe.observed import Observed
from authproxy.observe.record import RouteFacts
from authproxy.proxy.allow import Allow
from authproxy.proxy.guard import plain_host
from authproxy.proxy.headers import RequestHeaders, ResponseHeaders
from authproxy.proxy.hiding import Hiding
from authproxy.proxy.injection import Injection
from authproxy.proxy.login_redirects import LoginRedirects
from authproxy.proxy.placeholders import Placeholders, placeholders
from authproxy.proxy.renewal import Credential
from authproxy.proxy.rewrite import Rewriting
from authproxy.proxy.route import Route
from authproxy.proxy.router import upstream_target
from authproxy.proxy.send import Sender
from authproxy.proxy.stand_in import Login, Pointers, StandIn
from authproxy.proxy.token_endpoint import TokenEndpoints
from authproxy.proxy.upstream.pool import Pool
from authproxy.tokens.source import CachingSource
from authproxy.tokens.token import Token
from authproxy.values import any_spelling, split_url

if TYPE_CHECKING:
    from authproxy.app.site import Site
    from authproxy.proxy.body_rewriting import BodyRewriting

NO_SECRETS = frozenset(
    {"accept", "accept-encoding", "accept-language", "cache-control", "content-type", "origin", "user-agent"}
)
"""Headers that one sets to what is no secret, in lower case; of any other nobody knows."""
STATIC = {"Static": "a static token", "Basic": "a static user name and password"}
"""What is sent of the grants that stand in the configuration, in words."""
USUAL_TYPE = "Bearer"
PLAINLY = ("Accept-Encoding", "identity")
TOKEN_ENDPOINTS = frozenset({"token_url", "url"})
"""Keys of a grant whose URLs are asked for a token."""


@dataclass(frozen=True, slots=True)
class PoolKey:
    """What a pool was made for: an equal one serves as well."""

    route: str
    origin: Origin
    proxy: HTTPProxy | None
    tunnel: bool
    limit: int
    connect_seconds: float


def _first_pointer(response: object, name: str) -> str | None:
    """Return the first place where `name` is looked for in a token reply; None where it is in no document."""
    pointers = getattr(response, name, None)
    first = pointers[0] if isinstance(pointers, tuple) and pointers else pointers
    return first if isinstance(first, str) else None


def injection_of(grant: Grant) -> Injection:
    """Return where the tokens of `grant` go."""
    headers, query, cookies = {}, {}, {}
    for place in grant.places:
        if place.query is not None:
            query[place.query] = place.fill
        elif place.cookie is not None:
            cookies[place.cookie] = place.fill
        else:
            headers[place.header_name or ""] = place.fill
    schemes = [place.scheme for place in grant.places if place.scheme is not None]
    setting = "inject" if grant.inject is not None else "grant" if isinstance(grant, Basic) else "scheme"
    return Injection(headers, query, cookies, schemes[0] if schemes else None, setting)


def _goes_by(route: RouteConfig) -> tuple[object, ...]:
    """Return what a credential depends on."""
    return route.grant, route.retry, route.upstream, route.preserve_host, route.runs_commands


def _sent_by(credential: Credential | None) -> Callable[[Token], Iterable[str]]:
    """Return what tells of a token what is sent of it: its own fields as well."""
    if credential is None:
        return lambda _token: ()
    values = credential.injection.values
    return lambda token: filter(None, [token.value, *values(token), *dict(token.fields).values()])


def _hiding(credential: Credential | None) -> Hiding | None:
    if credential is None or not credential.injection.edits:
        return None
    injection = credential.injection
    return Hiding(query=injection.query, cookies=injection.cookies, sent=injection.recent)


def _response_headers(
    route: RouteConfig, rewriting: Rewriting | None, hiding: Hiding | None = None
) -> ResponseHeaders:
    return ResponseHeaders(
        set_pairs=[(name, value.get_secret_value()) for name, value in route.response_headers.set.items()],
        remove=route.response_headers.remove,
        rewriting=rewriting,
        hiding=hiding,
    )


class RouteBuilder:
    """Makes routes, and remembers the pools and credentials that they got."""

    def __init__(
        self,
        config: Config,
        sources: TokenSources,
        own: OwnListeners,
        tls: TLSContexts,
        *,
        observed: Observed,
        before: "Site | None",
        planned: OwnListeners,
    ) -> None:
        self.pools: dict[PoolKey, Pool] = {}
        self.credentials: dict[str, Credential] = {}
        self._observed = observed
        self._hosts = frozenset(split_url(route.upstream).netloc.lower() for route in config.routes)
        self._config = config
        self._sources = sources
        self._own = own
        self._tls = tls
        self._planned = planned
        self._before = before
        self._mounts = NestedMounts(config.routes)
        self._marks = placeholders(config.configured or config.routes)
        self._owners = {
            self._marks[each.name]: each.name for each in reversed(config.routes) if each.grant.needs_token
        }
        self._routes_before = {each.name: each for each in before.config.routes} if before is not None else {}

    def route(self, route: RouteConfig, *, listener: str = "", intercepted: bool = False) -> Route:
        """Return a route as it is mounted; or as it is at its own `listener`, where all paths are its.

        Or, where what goes to its upstream is `intercepted`, as it is there: below the base path alone, and
        names are real.
        """
        path, host = ("/", None) if listener else (route.path, route.host)
        config, tls = self._config, self._tls.upstreams.get(route.name)
        url = split_url(route.upstream)
        origin = Origin(
            url.hostname or "", url.port or (443 if tls else 80), tls=tls, server_name=route.tls.server_name
        )
        credential = self._credential(route)
        strip = path if route.strip_path and path != "/" else ""
        base = url.path.rstrip("/")
        if intercepted:  # what is taken off is put on again, and names are real
            route, path, strip = replace(route, rewrite=None), unquote(base) or "/", base
        rewriting = None
        if route.rewrite is not None and route.rewrite.headers:
            rewriting = Rewriting(
                str(origin),
                base=base,
                path=path,
                strip=strip,
                preserve_host=route.preserve_host,
                secure=config.tls is not None,
                closed=frozenset() if listener else self._mounts.below(route, route),
            )
        bodies = self._bodies(route, listener)
        hiding = _hiding(credential)
        made = Route(
            name=route.name,
            host=plain_host(host) if host else None,
            path=path,
            strip=strip,
            base=base,
            sender=self._sender(route, origin),
            request_headers=self._request_headers(route, origin, credential, bodies),
            response_headers=_response_headers(route, rewriting, hiding),
            credential=credential,
            incoming=route.grant.incoming,
            allow=Allow(methods=route.allow.methods, paths=route.allow.paths, hint=route.allow.hint)
            if route.allow
            else None,
            keep_body=route.retry.max_body if route.retry else 0,
            idle_seconds=route.timeouts.idle,
            stand_in=self._stand_in(route),
            placeholders=Placeholders(
                self._marks[route.name] if credential is not None else None, self._owners
            ),
            token_endpoints=self._token_endpoints(route),
            bodies=bodies,
            facts=RouteFacts(
                name=route.name,
                url_of=lambda path: f"{origin}{upstream_target(path, strip=strip, base=base)}",
                secret_headers=frozenset(self._secret_headers(route)),
                secrets=tuple(self._secrets(route)),
                bodies=route.inspect.bodies or 0,
                hosts=self._hosts,
                budget=self._observed.bodies,
                base=base,
                listener=listener,
                sent=_sent_by(credential),
            ),
            standing=self._observed.standings.of(route.name, route.key),
        )
        if hiding is None:
            return made
        shown = _response_headers(route, rewriting)
        return replace(made, unhidden=replace(made, response_headers=shown))

    def _request_headers(
        self,
        route: RouteConfig,
        origin: Origin,
        credential: Credential | None,
        bodies: "BodyRewriting | None",
    ) -> RequestHeaders:
        access = [self._config.access.header] if self._config.access else []
        pairs = [(name, value.get_secret_value()) for name, value in route.headers.set.items()]
        if bodies is not None:  # one that is encoded could not be read
            pairs = [pair for pair in pairs if any_spelling(pair[0]) != any_spelling(PLAINLY[0])] + [PLAINLY]
        return RequestHeaders(
            credentials=credential.injection.headers if credential else (),
            host=None if route.preserve_host else origin.authority,
            set_pairs=pairs,
            remove=[*route.headers.remove, *access],
            restored=bodies.tags.restored if bodies is not None else None,
        )

    def _bodies(self, route: RouteConfig, listener: str) -> "BodyRewriting | None":
        """Return what rewrites the bodies of answers; None where they are left alone."""
        if route.rewrite is None or not route.rewrite.bodies:
            return None
        from authproxy.app.body_targets import body_rewriting

        untouched = self._observed.counters.untouched

        def count(reason: str) -> None:
            untouched[route.name, reason] += 1

        return body_rewriting(
            self._config, route, listener=listener, own=self._own, mounts=self._mounts, untouched=count
        )

    def no_placeholders(self) -> Placeholders:
        """Return what refuses those of every route: where none of them is asked."""
        return Placeholders(None, self._owners)

    def _stand_in(self, route: RouteConfig) -> StandIn | None:
        """Return what answers the route's logins; None where none is answered here."""
        if not route.stand_in:
            return None
        response = getattr(route.grant, "response", None)
        at = {name: _first_pointer(response, name) for name in Pointers.__slots__}
        return StandIn(
            [Login(each.path, frozenset(each.methods), each.shape, each.lifetime) for each in route.stand_in],
            mark=self._marks[route.name],
            pointers=Pointers(**{name: pointer for name, pointer in at.items() if pointer is not None}),
            token_type=route.grant.scheme or USUAL_TYPE,
        )

    def _token_endpoints(self, route: RouteConfig) -> TokenEndpoints | None:
        """Return where nobody else logs in through the route; None where somebody may, or nobody can."""
        grant, published = route.grant, self._sources.published
        if grant.incoming == "replace":
            return None
        urls = [url for key, url in grant.urls() if key in TOKEN_ENDPOINTS]
        issuer = next((url for key, url in grant.urls() if key == "issuer"), None)
        found = TokenEndpoints(
            route.upstream, urls, None if issuer is None else lambda: published.get(issuer, ())
        )
        return found or None

    def _secret_headers(self, route: RouteConfig) -> Iterable[str]:
        """Return the headers that hold credentials here, in lower case."""
        if self._config.access is not None:
            yield self._config.access.header.lower()
        if route.grant.needs_token:
            yield from (place.header_name.lower() for place in route.grant.places if place.header_name)

    def _secrets(self, route: RouteConfig) -> Iterable[str]:
        """Return what is sent besides the token that an answer should not show, nor our own word of it."""
        for rules in (route.headers, route.response_headers):
            for name, value in rules.set.items():
                if name.lower() not in NO_SECRETS:
                    yield value.get_secret_value()
        if self._config.access is not None:
            yield from (key.get_secret_value() for key in self._config.access.tokens)
        for leaf in leaves(route.grant):
            if isinstance(leaf.value, SecretStr):
                yield leaf.value.get_secret_value()

    def _sender(self, route: RouteConfig, origin: Origin) -> Sender:
        proxy = proxy_for(route.upstream, route.http_proxy, own=self._planned)
        # A proxy that forwards writes the upstream's `Host` itself, and lets no upgrade through.
        forwards = proxy is not None and origin.tls is None and not route.preserve_host

        def pool(*, tunnel: bool) -> Pool:
            connect_seconds = route.timeouts.connect
            key = PoolKey(route.name, origin, proxy, tunnel, route.max_connections, connect_seconds)
            found = self._before.pools.get(key) if self._before is not None else None
            if found is None:
                found = self.pools.get(key)  # of the same route, at another listener
            if found is None:
                dialer = Dialer(origin, proxy=proxy, tunnel=tunnel, own=self._own)
                found = Pool(dialer, limit=route.max_connections, connect_seconds=connect_seconds)
            self.pools[key] = found
            return found

        return Sender(
            pool(tunnel=not forwards),
            response_seconds=route.timeouts.response,
            idle_seconds=route.timeouts.idle,
            upgrades=pool(tunnel=True) if forwards else None,
        )

    def _credential(self, route: RouteConfig) -> Credential | None:
        stack = self._sources.stack(route)
        if stack is None:
            return None
        made = self.credentials.get(route.name)  # the same at each listener
        if made is None:
            made = self._known(route, stack.outer) or self._new(route, stack.outer)
        self.credentials[route.name] = made
        return made

    def _known(self, route: RouteConfig, source: CachingSource) -> Credential | None:
        """Return the credential of the same route in the site before, if nothing about it has changed."""
        if self._before is None or self._routes_before.get(route.name) is None:
            return None
        known, then = self._before.credentials.get(route.name), self._routes_before[route.name]
        same = _goes_by(then) == _goes_by(route)
        return known if same and known is not None and known.source is source else None

    def _new(self, route: RouteConfig, source: CachingSource) -> Credential:
        retry, upstream = route.retry, split_url(route.upstream)
        origin = f"{upstream.scheme}://{upstream.netloc}"
        patterns = retry.redirects if retry else ()
        redirects = LoginRedirects(patterns, origin, preserve_host=route.preserve_host)
        return Credential(
            source,
            injection=injection_of(route.grant),
            statuses=frozenset(retry.statuses) if retry else frozenset(),
            redirects=redirects,
            idempotent_only=retry is not None and retry.methods == "idempotent",
            cooldown=retry.cooldown if retry else 0,
            asks_freely=route.grant.in_configuration and not route.runs_commands,
            static=STATIC.get(type(route.grant).__name__),
            standing=self._observed.standings.of(route.name, route.key),
        )
