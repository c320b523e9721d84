"""What the connections of a program say of it: whether it uses the forward proxy, and whom it trusts.

nothing came                     it does not use HTTPS_PROXY
CONNECT, 407                     it does not send the user and the password that HTTPS_PROXY has
CONNECT, a handshake that fails  it does not trust our authority: it reads none of the variables
CONNECT, TLS, no request         the same, of those that look at a certificate after the handshake (Node)
CONNECT, TLS, a request          all is well, if the upstream answered
CONNECT to another host          passed on unread

No I/O here. What is told of a request is its method, its path and its status.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from authproxy.app.doctor.steps import Verdict, failed, passed, skipped
from authproxy.observe.record import RequestRecord
from authproxy.proxy.forward.interception import UNTRUSTED

ESTABLISHED, FORBIDDEN, NO_KEY_SENT = 200, 403, 407
REFUSED = frozenset({401, 403})  # by the upstream
MAX_TOLD = 5  # hosts, or requests, by name
NO_USE = (
    "have it use the proxy of its environment: some libraries have to be asked to (aiohttp: trust_env=True; "
    "Node before 22.21: an agent; Java: --java); or have it call the route's own URL, in <ROUTE>_URL"
)
NO_KEY = "have it send the user and the password in HTTPS_PROXY; Java cannot: --java"
NO_TRUST = (
    "have it trust the roots in the file that SSL_CERT_FILE names in its environment: docs/exec.md has the "
    "variables that programs read; one that reads none takes an option or a setting of its own; Java: --java"
)
OTHER_NAME = "CONNECT, the handshake (SNI) and Host have to name one host: no credential goes to another"
NO_REQUEST = "it closed the connection after the handshake, as who does not trust our certificate"
IN_HANDSHAKE = "it closed the connection in the handshake, as who does not trust our certificate"
CLOSED = "the client closed the connection"
NOT_REACHED = "see whether that host is there, and can be reached from this machine"
NOT_LET = "`forward: {unmatched: tunnel}` lets it go there"
NO_NEED = "what calls the route's own URL needs no --forward: authproxy exec will do"


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A CONNECT to `place`, HOST:PORT: what it was answered, and what was in the way, if anything was.

    It is `intercepted` where that is a route's upstream; then `named` is the server that the client has named
    in the handshake (SNI).
    """

    place: str
    status: int = ESTABLISHED
    trouble: str | None = None
    intercepted: bool = False
    named: str | None = None

    @property
    def names_its_host(self) -> bool:
        """Whether the client has named the host that it has asked for."""
        host = self.place.rpartition(":")[0].strip("[]")
        return self.named is not None and self.named.lower().rstrip(".") == host


@dataclass(frozen=True, slots=True)
class Sent:
    """A request. `place` is where it was for, None where it came by the route's own URL.

    `route` is None for a host that is no route's, and for what came to none; `trouble` is why the answer is
    our own, if it is.
    """

    method: str
    path: str
    status: int
    route: str | None = None
    place: str | None = None
    trouble: str | None = None
    hint: str | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.path} answered {self.status}"


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
        problem = (record.notes.problem if record.notes is not None else None) or {}
        trouble, hint = problem.get("detail") or problem.get("title"), problem.get("hint")
        if record.method == "CONNECT":
            here = record.status == ESTABLISHED and record.forward is None
            why = _told(record.cause or "") if here else trouble
            self.tunnels.append(
                Tunnel(record.path, record.status, str(why) if why else None, intercepted=here)
            )
            return
        self.sent.append(
            Sent(
                record.method,
                record.path,
                record.status,
                record.route,
                _place(record),
                str(trouble) if trouble else None,
                str(hint) if hint else None,
            )
        )

    def came_for(self, route: str) -> list[Sent]:
        """Return the requests for a route's upstream that came by the forward proxy."""
        return [each for each in self.sent if each.route == route and each.place is not None]


def _told(cause: str) -> str:
    """Return why a handshake has failed, of which `cause` tells."""
    said = cause.rpartition(": ")[2]
    if said in UNTRUSTED:
        return f"it refused our certificate: {said}"
    return IN_HANDSHAKE if said == CLOSED else cause


def _place(record: RequestRecord) -> str | None:
    if record.forward == "intercepted" and record.facts is not None:
        return record.facts.listener.rpartition("//")[2]
    return record.path.removeprefix("http://").partition("/")[0] if record.forward is not None else None


def judge_use(found: Connections, places: Iterable[str]) -> Verdict:
    """Return whether a program came by the forward proxy, and for one of `places`, the routes' upstreams."""
    direct = sum(each.place is None and each.route is not None for each in found.sent)
    also = f"; {_count(direct, 'request')} came by a route's own URL" if direct else ""
    plain = [each for each in found.sent if each.place is not None]
    if not found.tunnels and not plain:
        what_next = NO_NEED if direct else NO_USE
        return failed(f"it does not use HTTPS_PROXY: nothing came to the forward proxy{also}", what_next)
    let_in = [each for each in found.tunnels if each.status == ESTABLISHED]
    if not let_in and not plain and any(each.status == NO_KEY_SENT for each in found.tunnels):
        return failed(f"it came without the user and the password of HTTPS_PROXY{also}", NO_KEY)
    here = sum(each.intercepted for each in let_in)
    if not here and not any(each.route is not None for each in plain):
        wanted = " or ".join(places)
        return failed(
            f"it uses HTTPS_PROXY, but asked for no route's upstream{also}",
            f"run something that asks for {wanted}",
        )
    return passed(f"it uses HTTPS_PROXY: {here} intercepted, {len(let_in) - here} tunnelled{also}")


def judge_elsewhere(found: Connections) -> Verdict | None:
    """Return where else a program went by the forward proxy; None for nowhere."""
    tunnels = [each for each in found.tunnels if not each.intercepted and each.status != NO_KEY_SENT]
    plain = [each for each in found.sent if each.route is None]
    troubles = [(each.status, f"{each.place}: {each.trouble}") for each in tunnels if each.trouble]
    troubles += [(each.status, f"{each}: {each.trouble}") for each in plain if each.trouble]
    told = _listed(text for _, text in troubles)
    if any(status == FORBIDDEN for status, _ in troubles):
        return failed(told, NOT_LET)
    if troubles:  # hosts are down without any fault of ours
        return skipped(told, NOT_REACHED)
    places = [each.place for each in tunnels] + [each.place for each in plain if each.place is not None]
    return passed(_listed(places)) if places else None


def judge_trust(place: str, found: Connections) -> Verdict:
    """Return whether a program accepts our certificate for `place`, which is a route's upstream."""
    tunnels = [each for each in found.tunnels if each.intercepted and each.place == place]
    if not tunnels:
        return skipped(f"it did not ask for {place}")
    others = [each.named for each in tunnels if each.named is not None and not each.names_its_host]
    if others:
        return failed(f"{place}: it named another server in the handshake: {_listed(others)}", OTHER_NAME)
    troubles = [each.trouble for each in tunnels if each.trouble is not None]
    if not troubles and not any(each.place == place for each in found.sent):
        troubles = [NO_REQUEST]
    if troubles:
        return failed(f"{place}: {_listed(troubles)}", NO_TRUST)
    unnamed = sum(each.named is None for each in tunnels)
    how = "it named the server (SNI)" if not unnamed else "it named no server (SNI)"
    return passed(f"{place}: our certificate was accepted, and {how}")


def judge_requests(route: str, found: Connections) -> Verdict:
    """Return what became of the requests to a route's upstream that came by the forward proxy."""
    sent = found.came_for(route)
    for each in sent:
        if each.trouble is not None:
            return failed(f"{each}: {each.trouble}", each.hint)
    for each in sent:
        if each.status in REFUSED:
            return failed(f"{each}", f"see what the upstream does not like: authproxy doctor {route}")
    return passed(_listed(map(str, sent))) if sent else skipped("no request came that far")


def _listed(texts: Iterable[str]) -> str:
    """Return texts as a list, each once."""
    counted = Counter(texts)
    shown = [text if count == 1 else f"{text} ({count} times)" for text, count in counted.items()]
    more = len(shown) - MAX_TOLD
    return ", ".join(shown[:MAX_TOLD]) + (f", and {more} more" if more > 0 else "")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
