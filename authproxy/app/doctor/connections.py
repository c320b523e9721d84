"""What the connections of a program say of it: whether it uses the forward proxy, and whom it trusts.

nothing came                     it does not use HTTPS_PROXY
407, and nothing after it        it does not send the user and the password that HTTPS_PROXY has
CONNECT, a handshake that fails  it does not trust our authority: it reads none of the variables
CONNECT, TLS, no request         the same, of those that look at a certificate after the handshake (Node)
CONNECT, TLS, a request          it does trust us, whatever the request was answered
CONNECT to another host          passed on unread

No I/O here. What is told of a request is its method, its path and its status.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from authproxy.app.doctor.steps import Verdict, failed, passed, skipped
from authproxy.observe.record import INTERCEPTED, RequestRecord
from authproxy.proxy.forward.interception import LEFT, NO_TLS_HERE, TLS_HINT, UNTRUSTED
from authproxy.values import is_loopback

ESTABLISHED, NO_KEY_SENT = 200, 407
REFUSED = frozenset({401, 403})  # by the upstream
UNREACHED = frozenset({502, 504})  # our word for what a host, or the network, did
MAX_TOLD = 5  # hosts, or requests, by name
NO_USE = (
    "have it use the proxy of its environment, as some libraries do only when asked (aiohttp: "
    "trust_env=True; Node before 22.21: an agent), or call the route's own URL, in <ROUTE>_URL"
)
NO_USE_HERE = "; Go and Java ask no proxy for this machine's own addresses"
NO_KEY = "have it send the user and the password in HTTPS_PROXY; Java cannot: --java"
NO_TRUST = (
    "have it trust the roots in the file that SSL_CERT_FILE names in its environment: docs/exec.md has the "
    "variables that programs read; one that reads none takes an option or a setting of its own"
)
JAVA = "; Java: --java"
OTHER_NAME = "CONNECT, the handshake (SNI) and Host have to name one host: no credential goes to another"
_AS_WHO_DISTRUSTS = "as a client that does not trust our certificate does"
NO_REQUEST = f"it closed the connection after the handshake, {_AS_WHO_DISTRUSTS}"
IN_HANDSHAKE = f"it closed the connection in the handshake, {_AS_WHO_DISTRUSTS}"
CLOSED = "the client closed the connection"
NOT_REACHED = "see whether that host is there, and can be reached from this machine"
NO_NEED = "what calls the route's own URL needs no --forward: authproxy exec will do"
SPOKE_TLS = "the program spoke https, but this route's upstream is http://"
NOTHING = "no request came in the tunnel"
NOT_AWAITED = "the program did not wait for the answer: authproxy doctor {route} shows how long that takes"
OWN_CREDENTIAL = (
    "the program sent a credential of its own, which is forwarded unchanged: set `incoming: replace` in the "
    "route's `auth`, or take it out of the program"
)


@dataclass(frozen=True, slots=True)
class Destination:
    """A route that a program may come to: `place` is where its upstream is, HOST:PORT.

    The upstream `is_secure` where it is https; `adds` says whether the route adds a credential.
    """

    name: str
    place: str
    is_secure: bool = True
    adds: bool = True


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A CONNECT to `place`, HOST:PORT: what it was answered, and what was in the way, if anything was.

    It is `intercepted` where that is a route's upstream; then `named` is the server that the client has named
    in the handshake (SNI).
    """

    place: str
    status: int = ESTABLISHED
    trouble: str | None = None
    hint: str | None = None
    intercepted: bool = False
    named: str | None = None

    @property
    def names_its_host(self) -> bool:
        """Whether the client has named the host that it has asked for."""
        host = self.place.rpartition(":")[0].strip("[]")
        return self.named is not None and self.named.lower().rstrip(".") == host

    def __str__(self) -> str:
        return self.place


@dataclass(frozen=True, slots=True)
class Sent:
    """A request. `place` is where it was for, None where it came by the route's own URL.

    It is `within` TLS, or not. `route` is None where it came to none; `trouble` is why the answer is our own,
    if it is; `added` says whether a credential was.
    """

    method: str
    path: str
    status: int
    route: str | None = None
    place: str | None = None
    trouble: str | None = None
    hint: str | None = None
    within: bool = False
    added: bool = True

    def __str__(self) -> str:
        said = f"answered {self.status}" if self.status else "was not answered"
        return f"{self.method} {self.path} {said}"


Came = Tunnel | Sent


@dataclass(slots=True)
class Connections:
    """All that came from a program, which `answered` and `secured` are told as it comes (`Watcher`)."""

    tunnels: list[Tunnel] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)

    def secured(self, place: str, named: str | None) -> None:
        """Note a handshake at the forward listener, for `place`, in which the client has `named` a server."""
        self.tunnels.append(Tunnel(place, intercepted=True, named=named))

    def answered(self, record: RequestRecord) -> None:
        """Note a request."""
        notes = record.notes
        problem = (notes.problem if notes is not None else None) or {}
        trouble = _text(problem.get("detail") or problem.get("title"))
        hint = _text(problem.get("hint"))
        if record.method == "CONNECT":
            if record.cause == LEFT:
                return  # its handshake has been noted
            self.tunnels.append(_tunnel(record, trouble, hint))
            return
        login = notes is not None and notes.login
        self.sent.append(
            Sent(
                record.method,
                record.path,
                record.status,
                record.route,
                _place(record),
                trouble,
                hint,
                within=record.listener.startswith(f"{INTERCEPTED}https:"),
                added=record.token is not None or login,
            )
        )

    def ended(self) -> None:
        """Nothing is judged before somebody asks."""

    @property
    def came(self) -> list[Came]:
        """All that came by the forward proxy."""
        return [*self.tunnels, *(each for each in self.sent if each.place is not None)]

    @property
    def keyless(self) -> list[str]:
        """Return the places for which nothing came with the key: some clients send it when asked to."""
        let_in = {each.place for each in self.came if not _lacks_key(each)}
        return [each.place for each in self.came if each.place is not None and each.place not in let_in]

    def came_for(self, route: Destination) -> list[Sent]:
        """Return what came by the forward proxy for a route, or for its upstream and came to no route."""
        return [
            each
            for each in self.sent
            if each.place is not None
            and not _lacks_key(each)
            and (each.route == route.name or (each.route is None and each.place == route.place))
        ]


def _text(said: object) -> str | None:
    return str(said) if said else None


def _tunnel(record: RequestRecord, trouble: str | None, hint: str | None) -> Tunnel:
    """Return what a CONNECT has come to, with the cause where it was let in and is over all the same."""
    if record.status != ESTABLISHED or record.forward == "tunnelled":
        return Tunnel(record.path, record.status, trouble, hint)
    if record.cause == NO_TLS_HERE:
        return Tunnel(record.path, record.status, SPOKE_TLS, TLS_HINT)
    return Tunnel(record.path, record.status, _told(record.cause or "") or None, intercepted=True)


def _told(cause: str) -> str:
    """Return why a handshake has failed, of which `cause` tells."""
    said = cause.rpartition(": ")[2]
    if said in UNTRUSTED:
        return f"it refused our certificate: {said}"
    return IN_HANDSHAKE if said == CLOSED else cause


def _place(record: RequestRecord) -> str | None:
    if record.forward == "intercepted":
        return record.listener.rpartition("//")[2]
    scheme, found, rest = record.path.partition("://")
    return rest.partition("/")[0] if found and scheme == "http" else None


def _lacks_key(each: Came) -> bool:
    return each.status == NO_KEY_SENT and each.trouble is not None


def judge_use(found: Connections, routes: Sequence[Destination]) -> Verdict:
    """Return whether a program came by the forward proxy, and for the upstream of one of `routes`."""
    direct = sum(each.place is None and each.route is not None for each in found.sent)
    also = f"; {_count(direct, 'request')} came by a route's own URL" if direct else ""
    places = list(dict.fromkeys(route.place for route in routes))
    if not found.came:
        here = any(is_loopback(place.rpartition(":")[0]) for place in places)
        what_next = NO_NEED if direct else NO_USE + (NO_USE_HERE if here else "")
        return failed(f"it does not use HTTPS_PROXY: nothing came by the forward proxy{also}", what_next)
    if keyless := found.keyless:
        cause = f"it came without the user and the password of HTTPS_PROXY, for {_listed(keyless)}{also}"
        return failed(cause, NO_KEY)
    if not any(each.place in places for each in found.came):
        return failed(
            f"it uses HTTPS_PROXY, but asked for no route's upstream{also}",
            f"run something that asks for {' or '.join(places)}",
        )
    return passed(f"it uses {'; '.join(_ways(found))}{also}")


def _ways(found: Connections) -> list[str]:
    """Return which variables a program went by, and how often."""
    let_in = [each for each in found.tunnels if each.status == ESTABLISHED]
    here = sum(each.intercepted for each in let_in)
    beyond = sum(not each.intercepted and each.trouble is None for each in let_in)
    plain = [each for each in found.sent if each.place is not None and not each.within]
    routed = sum(each.route is not None for each in plain)
    ways = [f"HTTPS_PROXY: {here} intercepted, {beyond} tunnelled"] if found.tunnels else []
    if plain:
        others = f", {len(plain) - routed} elsewhere" if len(plain) > routed else ""
        ways.append(f"HTTP_PROXY: {_count(routed, 'request')} to a route{others}")
    return ways


def judge_elsewhere(found: Connections, routes: Sequence[Destination]) -> Verdict | None:
    """Return where else than to `routes` a program went, or tried to; None for nowhere."""
    places = {route.place for route in routes}
    came: list[Came] = [each for each in found.tunnels if not each.intercepted]
    came += [each for each in found.sent if each.route is None]
    others = [each for each in came if each.place not in places and not _lacks_key(each)]
    troubles = [each for each in others if each.trouble is not None]
    told = _listed(f"{each}: {each.trouble}" for each in troubles)
    refused = [each for each in troubles if each.status not in UNREACHED]
    if refused:
        return failed(told, _hint_of(refused))
    if troubles:  # hosts are down without any fault of ours
        return skipped(told, _hint_of(troubles) or NOT_REACHED)
    return passed(_listed(each.place for each in others if each.place is not None)) if others else None


def judge_trust(place: str, found: Connections, *, java: bool = False) -> Verdict:
    """Return whether a program accepts our certificate for `place`, which is a route's upstream."""
    tunnels = [each for each in found.tunnels if each.intercepted and each.place == place]
    if not tunnels:
        return skipped(f"it did not ask for {place}")
    others = [each.named for each in tunnels if each.named is not None and not each.names_its_host]
    if others:
        return failed(f"{place}: it named another server in the handshake: {_listed(others)}", OTHER_NAME)
    troubles = [each.trouble for each in tunnels if each.trouble is not None]
    if not troubles and not any(each.within and each.place == place for each in found.sent):
        troubles = [NO_REQUEST]
    if troubles:
        return failed(f"{place}: {_listed(troubles)}", NO_TRUST if java else NO_TRUST + JAVA)
    unnamed = sum(each.named is None for each in tunnels)
    how = "it named the server (SNI)" if not unnamed else "it named no server (SNI)"
    return passed(f"{place}: our certificate was accepted, and {how}")


def judge_requests(route: Destination, found: Connections) -> Verdict:
    """Return what became of the requests to a route's upstream that came by the forward proxy."""
    tunnels = [each for each in found.tunnels if each.place == route.place and not _lacks_key(each)]
    sent = found.came_for(route)
    refused: list[Came] = [each for each in tunnels if not each.intercepted]
    for one in (*refused, *sent):
        if one.trouble is not None:
            return failed(f"{one}: {one.trouble}", one.hint)
    for each in sent:
        if each.status in REFUSED:
            own = route.adds and not each.added
            asked = f"see what the upstream does not like: authproxy doctor {route.name}"
            return failed(f"{each}", OWN_CREDENTIAL if own else asked)
    if any(each.status for each in sent):
        return passed(_listed(map(str, sent)))
    if sent:
        return failed(_listed(map(str, sent)), NOT_AWAITED.format(route=route.name))
    if tunnels and not route.is_secure:  # else it is the certificate that is in question
        return failed(f"{route.place}: {_listed(each.trouble or NOTHING for each in tunnels)}", None)
    return skipped("no request came that far")


def _hint_of(troubles: Iterable[Came]) -> str | None:
    return next((each.hint for each in troubles if each.hint), None)


def _listed(texts: Iterable[str]) -> str:
    """Return texts as a list, each once."""
    counted = Counter(texts)
    shown = [text if count == 1 else f"{text} ({count} times)" for text, count in counted.items()]
    more = len(shown) - MAX_TOLD
    return ", ".join(shown[:MAX_TOLD]) + (f", and {more} more" if more > 0 else "")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
