"""What no single key can tell: who could reach the proxy, and where a credential would travel.

A rule takes what was read and yields faults; it is only asked about what is otherwise in order.
"""

import contextlib
import re
import shlex
import stat
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from authproxy.capabilities import FILE_OWNERS, WORKERS
from authproxy.config.document import COMMAND_LINE, Item, scalars
from authproxy.config.model import AUTO, Access, FileKeys, Forward, ForwardCA, RedisStoreSettings
from authproxy.config.route import FRAMING_HEADERS, RouteConfig, RouteKeys
from authproxy.errors import BadTokenReply, Fault
from authproxy.grants.grant import Grant
from authproxy.grants.static import NoGrant, Static
from authproxy.masking import SHORT_SECRET, Leaf
from authproxy.net.http_proxy import proxy_for, read_proxy
from authproxy.net.own_listeners import OwnListeners
from authproxy.tokens.template import TOKEN, Template
from authproxy.tokens.token import Token
from authproxy.values import any_spelling, is_loopback, port_of, split_address

ANY_HOST = "*"
NO_CERTIFICATE = (
    "has no certificate with `tls: auto`, which is for names and addresses of this machine alone: clients "
    "have to call https://localhost; for others `tls: {cert_file: …, key_file: …}`"
)
WRITTEN_BACK = (
    "is on where requests may write: a client may send URLs of the proxy back to the upstream; "
    "`allow: {methods: [GET, HEAD]}` prevents that"
)
READS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "REPORT", "SEARCH"})
"""Methods that change nothing (RFC 9110 §9.2.1, RFC 4918 §9.1, RFC 5323, RFC 3253 §3.6)."""
METHODS = READS | {"POST", "PUT", "PATCH", "DELETE"}
OPENED_BY_A_BROWSER = "authorization_url"
INSTEAD = "{placeholder} stands in for the token; `authproxy exec --inherit NAME` hands a variable on"

Routes = Sequence[tuple[RouteConfig, Item]]
"""Routes, each with what it was read from."""

# Of a mapping whose values may be secrets, or not: headers, parameters.
COOKIES = ("header", "cookie")
PLACES = (TOKEN, "{response:")
HOP_BY_HOP = frozenset({"proxy-authorization", "proxy-authenticate", "http2-settings", "expect"})
"""What is not forwarded (RFC 9110 §7.6.1), besides what frames a message."""

_SECRET_NAME = re.compile(r"(password|passphrase|secret|token|key|authorization|cookie)\Z", re.IGNORECASE)


def file_faults(keys: FileKeys, top: Item, routes: Routes) -> Iterator[Fault]:
    """Yield a fault for each address that cannot, or should not, be listened on, the routes' own included."""
    listen = top.child("listen") or top.made(None, "listen")
    admin = top.child("admin") or top.made(None, "admin")
    places = [(address, (listen.child(index) or listen)) for index, address in enumerate(keys.listen)]
    if keys.admin is not None:
        places.append((keys.admin.listen, admin.child("listen") or admin))
    own = [(route.listen, item.child("listen") or item) for route, item in routes if route.listen]
    if keys.forward is not None:
        forward = top.child("forward") or top
        own.append((keys.forward.listen, forward.child("listen") or forward))
        yield from _forward_faults(keys.forward, keys.access, forward)
    yield from _taken(places, own)
    for address, place in [*places, *own]:
        where = split_address(address)
        if where is None or is_loopback(where[0]) or keys.allow_remote or keys.access is not None:
            continue
        yield place.fault(
            "lets other machines use the credentials; listen on 127.0.0.1, or set `access` "
            "(callers must send a key), or `allow_remote: true`"
        )
    if not keys.listen and (nowhere := next((each.name for each, _ in routes if not each.listen), "")):
        yield listen.fault(f"should name an address: the route {nowhere} has none of its own")


def _forward_faults(forward: Forward, access: Access | None, item: Item) -> Iterator[Fault]:
    """Yield a fault for a forward proxy that would take anybody anywhere."""
    if forward.unmatched == "tunnel" and not forward.is_local and access is None:
        yield (item.child("unmatched") or item).fault(
            "would let other machines go anywhere from this one, without a key; set `access` (callers must "
            "send a key), or `unmatched: refuse`, or listen on 127.0.0.1"
        )


def _taken(places: list[tuple[str, Item]], own: list[tuple[str, Item]]) -> Iterator[Fault]:
    """Yield a fault for each address that is listened on already; one of the `own` in any spelling.

    Those are where not all routes are mounted: who connects there would come to either of two listeners, and
    so to another route.
    """
    before: defaultdict[object, list[tuple[str, Item]]] = defaultdict(list)
    for index, (address, place) in enumerate([*places, *own]):
        where = split_address(address)
        if where is not None and where[1] == 0:
            continue
        is_own = index >= len(places)
        others = before[where[1] if where is not None else address]
        for other, item in others:
            if _bound(address) & _bound(other) or (is_own and _overlap(address, other)):
                yield place.fault(f"is already listened on, by `{item.key}` ({other})")
                break
        others.append((address, place))


def _overlap(one: str, other: str) -> bool:
    """Tell whether a connection to the one may come in at the other; both are on one port."""
    pairs = ((one, split_address(other)), (other, split_address(one)))
    return any(place is not None and OwnListeners([each]).named(*place) for each, place in pairs)


def certificate_warnings(
    keys: FileKeys, top: Item, routes: Iterable[tuple[RouteConfig, Item]]
) -> Iterator[Fault]:
    """Yield a warning for each address and host name for which `tls: auto` can make no certificate.

    `routes` are each with its mapping.
    """
    if keys.tls != AUTO:
        return
    listen, allowed = top.child("listen") or top, top.child("allowed_hosts") or top
    addresses = [(listen.child(index) or listen, address) for index, address in enumerate(keys.listen)]
    addresses += [(item.child("listen") or item, route.listen) for route, item in routes if route.listen]
    hosts = [(item, place[0]) for item, address in addresses if (place := split_address(address)) is not None]
    hosts += [(item.child("host") or item, route.host) for route, item in routes if route.host is not None]
    hosts += [(allowed.child(index) or allowed, host) for index, host in enumerate(keys.allowed_hosts)]
    for named, host in hosts:
        if host != ANY_HOST and not is_loopback(host, any_spelling=False):
            yield named.fault(NO_CERTIFICATE)


def forward_warnings(keys: FileKeys, routes: Routes) -> Iterator[Fault]:
    """Yield a warning for each route that nobody comes to by the forward proxy: another one has its place."""
    first: dict[tuple[str, int, str], str] = {}
    for route, item in routes if keys.forward is not None else ():
        url = urlsplit(route.upstream)
        base = url.path.rstrip("/")
        taken = first.setdefault(((url.hostname or "").rstrip("."), port_of(url), base), route.name)
        if taken != route.name:
            yield (item.child("upstream") or item).fault(
                f"is that of the route {taken} too; in forward mode {taken} gets its requests"
            )


def rewrite_warnings(routes: Routes) -> Iterator[Fault]:
    """Yield a warning for each route by which what was read with our URLs may be written back with them."""
    for route, item in routes:
        if route.rewrite is not None and route.rewrite.bodies and _may_write(route):
            rewrite = item.child("rewrite") or item
            yield (rewrite.child("bodies") or rewrite).fault(WRITTEN_BACK)


def _may_write(route: RouteConfig) -> bool:
    return route.allow is None or route.allow.methods is None or not READS.issuperset(route.allow.methods)


def method_warnings(routes: Routes) -> Iterator[Fault]:
    """Yield a warning for each method that is not spelled as clients send it (RFC 9110 §9.1)."""
    for _, route in routes:
        logins = route.child("stand_in")
        places = [route.child("allow"), *(logins.value if logins and isinstance(logins.value, list) else ())]
        listed = [methods for place in places if place and (methods := place.child("methods"))]
        for item in (each for methods in listed for each in scalars(methods)):
            if isinstance(item.value, str) and item.value not in METHODS and item.value.upper() in METHODS:
                yield item.fault(f"fits no request: methods are case-sensitive; write {item.value.upper()}")


def authority_warnings(keys: FileKeys, top: Item) -> Iterator[Fault]:
    """Yield a warning for an authority whose key others can read, or get too much by, or that ends soon."""
    if keys.forward is None or not isinstance(ca := keys.forward.ca, ForwardCA):
        return
    from authproxy.net.given_authority import UnusableCertificate, doubts

    place = top
    for key in ("forward", "ca"):
        place = place.child(key) or place
    # What is gone by now, or cannot be used, is told of when it is read for use.
    with contextlib.suppress(OSError):
        if FILE_OWNERS and Path(ca.key_file).stat().st_mode & stat.S_IROTH:
            way_out = f"chmod 600 {shlex.quote(ca.key_file)}"
            message = f"is an authority's private key that others can read: {way_out}"
            yield (place.child("key_file") or place).fault(message)
    with contextlib.suppress(OSError, UnusableCertificate):
        for doubt in doubts(Path(ca.cert_file).read_bytes(), datetime.now(UTC)):
            yield (place.child("cert_file") or place).fault(doubt)


def worker_faults(keys: FileKeys, top: Item) -> Iterator[Fault]:
    """Yield a fault for workers where there can be none."""
    if keys.workers not in {1, "auto"} and not WORKERS:
        yield (top.child("workers") or top).fault(
            f"should be 1 or auto: {WORKERS.lack}; start it several times on ports of their own instead"
        )


def store_faults(keys: FileKeys, top: Item) -> Iterator[Fault]:
    """Yield a fault for a store whose package is an extra that is not installed."""
    if isinstance(keys.token_store, RedisStoreSettings) and find_spec("redis") is None:
        place = top.child("token_store") or top
        yield (place.child("type") or place).fault(
            "needs the package redis, which is not installed: pip install 'authproxy[redis]'"
        )


def exposed_secrets(secrets: Iterable[Leaf], *, to_others: bool) -> Iterator[Fault]:
    """Yield a warning for the first secret that stands where other users can read it, if one does.

    That is the command line, and the file itself if `to_others` says so.
    """
    for place in (leaf.place for leaf in secrets if _is_literal(leaf)):
        if place.file == COMMAND_LINE:
            yield place.fault(
                "is a secret that other users see in the list of processes; write ${NAME}, in single quotes"
            )
            return
        if to_others:
            yield place.fault(
                "is a secret in a file that others can read: "
                f"chmod 600 {shlex.quote(place.file)}, or write ${{NAME}} or ${{file:PATH}} instead"
            )
            return


def _is_literal(leaf: Leaf) -> bool:
    """Tell whether a secret stands there itself, as far as its key says that it is one."""
    return not leaf.is_from_reference and bool(_secret_text(leaf))


def _secret_text(leaf: Leaf) -> str:
    """Return the secret that `leaf` is; empty where only its type says so."""
    if not isinstance(leaf.value, SecretStr):
        return ""
    text = leaf.value.get_secret_value()
    if "://" in text and "@" not in text:  # a URL without a password
        return ""
    if leaf.declared is not None and leaf.declared.name == "username":
        return ""
    if any(place in text for place in PLACES) and not Template.parse(text).own_words:
        return ""
    is_one = leaf.is_from_reference or not leaf.name or _SECRET_NAME.search(leaf.name) is not None
    return text if is_one else ""


def variable_faults(
    places: Iterable[Item], secrets: Collection[Leaf], withheld: Collection[str]
) -> Iterator[Fault]:
    """Yield a fault for each variable of an `env`, at one of `places`, that would hand a secret on.

    `withheld` are the variables of the environment from which secrets came.
    """
    texts = {text for leaf in secrets if len(text := _secret_text(leaf)) >= SHORT_SECRET}
    for place in places:
        if shared := sorted(place.variables.intersection(withheld)):
            yield place.fault(
                f"would hand ${{{shared[0]}}} on, which gives a secret of this configuration: {INSTEAD}"
            )
        elif isinstance(place.value, str) and any(text in place.value for text in texts):
            yield place.fault(f"would hand a secret of this configuration on: {INSTEAD}")


def _bound(address: str) -> set[object]:
    """Return what is listened on for `address`: for `localhost`, both of its addresses."""
    where = split_address(address)
    if where is None or not (is_loopback(where[0]) and where[0].rstrip(".").lower().endswith("localhost")):
        return {where or address}
    return {("127.0.0.1", where[1]), ("::1", where[1])}


def route_faults(route: RouteKeys, grant: Grant, item: Item, auth: Item) -> Iterator[Fault]:
    yield from credential_faults(route, grant, item, auth)
    yield from stand_in_faults(route, grant, item)
    if isinstance(grant, NoGrant):
        return
    yield from place_faults(grant, auth)
    filled = {name for name, _ in _filled(grant, auth)}
    rules = item.child("headers")
    given = rules.child("set") if rules else None
    for name in route.headers.set:
        place = given.child(name) if given else None
        if place is not None and any_spelling(name) in filled:
            yield place.key_fault("is already set by `auth`")


def stand_in_faults(route: RouteKeys, grant: Grant, item: Item) -> Iterator[Fault]:
    """Yield a fault for each login that has no token to stand in for, or that an earlier entry answers."""
    listed = item.child("stand_in")
    if listed is None or not route.stand_in:
        return
    if isinstance(grant, NoGrant):
        yield listed.fault("has no token to stand in for: the route's `grant` is none")
        return
    seen: set[tuple[str, str]] = set()
    for index, entry in enumerate(route.stand_in):
        for method in entry.methods:
            if (entry.path, method) in seen:
                place = listed.child(index) or listed
                yield (place.child("path") or place).fault(f"is answered already, for {method}")
            seen.add((entry.path, method))


def place_faults(grant: Grant, auth: Item) -> Iterator[Fault]:
    """Yield a fault for each place in which no token can go, or no field that the grant has."""
    for name, place in _filled(grant, auth):
        if name in FRAMING_HEADERS or (grant.inject is not None and name in HOP_BY_HOP):
            yield place.fault("names a header that the proxy writes itself")
    places = auth.child("inject") or auth
    in_cookie = any(each.cookie for each in grant.places)
    if in_cookie and any(each.key == COOKIES for each in grant.places):
        yield places.fault("fills the header Cookie, and a cookie in it as well")
    if isinstance(grant, Static):
        try:
            for each in grant.places:
                if not list(each.pointers):
                    each.fill(Token(grant.token.get_secret_value()))
        except BadTokenReply as error:
            yield (auth.child("token") or auth).fault(f"cannot be sent: {error.detail}")
    if grant.wanted_fields and not hasattr(grant, "response"):
        yield places.fault("wants a field of a token reply, of which this grant gets none")


def _filled(grant: Grant, auth: Item) -> Iterator[tuple[str, Item]]:
    """Yield each header in which the credential goes, in any spelling, and the item that says so."""
    listed = auth.child("inject")
    for index, place in enumerate(grant.places):
        name = "Cookie" if place.cookie is not None else place.header_name
        if name is not None:
            item = (listed.child(index) if listed else None) or auth.child("header") or auth
            yield any_spelling(name), item


def access_faults(keys: FileKeys, top: Item, routes: Iterable[tuple[Grant, Item]]) -> Iterator[Fault]:
    """Yield a fault for each header that would carry the caller's key as well as something of the proxy's.

    `routes` are each route's grant and mapping.
    """
    if keys.access is None:
        return
    access = top.child("access") or top
    place, wanted = access.child("header"), any_spelling(keys.access.header)
    if wanted in FRAMING_HEADERS:
        yield (place or access).fault("names a header that the proxy writes itself")
    for grant, item in routes:
        auth = item.child("auth") or item
        if isinstance(grant, NoGrant) or wanted not in {name for name, _ in _filled(grant, auth)}:
            continue
        yield (auth.child("inject") or auth.child("header") or place or access).fault(
            "would carry both the caller's key (`access.header`) and the upstream's token (`auth.header`); "
            "give `access` a header of its own"
        )


def credential_faults(route: RouteKeys, grant: Grant, item: Item, auth: Item) -> Iterator[Fault]:
    """Yield a fault for each URL over which a credential would travel in the clear."""
    in_query = any(each.query is not None for each in grant.places)
    if isinstance(grant, NoGrant) or (route.insecure and not in_query):
        return
    urls = _urls(route, grant, item, auth)
    for place, url in urls[:1] if route.insecure else urls:  # a query is written down by all who see it
        parts = urlsplit(url)
        # A proxy that the route names is given even what is meant for loopback: that is the proxy's then.
        proxy = proxy_for(url, route.http_proxy, {})
        hosts = [parts.hostname or "", *([proxy.host] if proxy is not None else [])]
        if parts.scheme == "http" and not all(map(is_loopback, hosts)):
            way_out = "; one in the query is never sent so" if in_query else ", or set `insecure: true`"
            yield place.fault(
                f"would carry the credential over plain http to another machine; use https{way_out}"
            )


def proxy_faults(
    route: RouteKeys, grant: Grant, item: Item, auth: Item, environ: Mapping[str, str]
) -> Iterator[Fault]:
    """Yield a fault for each URL to which the environment names a proxy that cannot be used."""
    for place, url in _urls(route, grant, item, auth):
        try:
            proxy_for(url, route.http_proxy, environ)
        except ValueError as error:
            yield place.fault(f"cannot be reached: {error}; `http_proxy: none` goes there directly")


def _urls(route: RouteKeys, grant: Grant, item: Item, auth: Item) -> list[tuple[Item, str]]:
    """Return the URLs that the route asks, each with its place."""
    urls = [(item.child("upstream") or item, route.upstream)]
    return urls + [(auth.child(key) or auth, url) for key, url in grant.urls()]


def loop_faults(keys: FileKeys, routes: Routes) -> Iterator[Fault]:
    """Yield a fault for each place that a route asks, or asks by, that is one of our own listeners."""
    listeners = [(address, "the proxy's own listener") for address in keys.listen]
    if keys.admin is not None:
        listeners.append((keys.admin.listen, "the admin listener (`admin: {listen: …}` moves it)"))
    if keys.forward is not None:
        listeners.append((keys.forward.listen, "the forward proxy's own listener"))
    listeners += [
        (each.listen, f"the listener of the route {each.name}") for each, _ in routes if each.listen
    ]
    ours = OwnListeners(address for address, _ in listeners)
    for route, item in routes:
        told = set()  # a preset's token endpoint is on the upstream's host, as a rule
        for place, host, port in _asked(route, item):
            if (host, port) in told or not ours.named(host, port):
                continue
            told.add((host, port))
            what = next(what for address, what in listeners if OwnListeners([address]).named(host, port))
            yield place.fault(f"is {what}: requests would loop back to the proxy")


def _asked(route: RouteConfig, item: Item) -> Iterator[tuple[Item, str, int]]:
    """Yield the host and the port of each place that `route` asks, or asks by, with where it says so."""
    auth = item.child("auth") or item
    asked = [(item.child("upstream") or item, urlsplit(route.upstream))]
    asked += [
        (auth.child(key) or auth, urlsplit(url))
        for key, url in route.grant.urls()
        if key != OPENED_BY_A_BROWSER
    ]
    for place, url in asked:
        yield place, url.hostname or "", port_of(url)
    if isinstance(route.http_proxy, SecretStr):
        proxy = read_proxy(route.http_proxy.get_secret_value())
        yield item.child("http_proxy") or item, proxy.host, proxy.port
