"""What the connections of a program say of it: whether it uses the proxy, and whom it trusts.

nothing came                     it does not use HTTPS_PROXY
CONNECT, 407                     it does not send the user and the password that HTTPS_PROXY has
CONNECT, a handshake that fails  it does not trust our authority: it reads none of the variables
CONNECT, TLS, no request         the same, of those that look at a certificate after the handshake (Node)
CONNECT, TLS, a request          all is well, if the upstream answered
CONNECT to another host          passed on unread

No I/O here. What is told of a request is its method, its path and its status.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from authproxy.app.doctor.steps import Verdict, failed, passed, skipped

MAX_TOLD = 5  # hosts, or requests, by name
NO_USE = (
    "have it use the proxy of its environment: some libraries have to be asked to (aiohttp: trust_env=True; "
    "Node before 22.21: an agent; Java: --java); or call the route's own URL, which is in <ROUTE>_URL"
)
NO_KEY = "have it send the user and the password in HTTPS_PROXY; Java cannot, it takes --java"
NOT_ASKED = "run something that asks for {places}"
NO_TRUST = (
    "have it trust the roots in the file that SSL_CERT_FILE names in its environment; which variables "
    "programs read, and what to do about those that read none, is in docs/exec.md; Java takes --java"
)
NOT_REACHED = "see whether the host is there; `unmatched: refuse` of `forward` lets no program go elsewhere"
ESTABLISHED, NO_KEY_SENT = 200, 407


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A CONNECT to `place`, HOST:PORT, and what came of it: its `status`, and what was in the way.

    It is `intercepted` where a route's upstream is there; then `named` is the server that the client has named
    in the handshake (SNI).
    """

    place: str
    status: int = ESTABLISHED
    trouble: str | None = None
    intercepted: bool = False
    named: str | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """A request to `place`; `trouble` is why the answer is our own, if it is. Without `place` it came directly.

    That is by the route's own URL. `route` is None for a host that is no route's.
    """

    route: str | None
    place: str | None
    method: str
    path: str
    status: int
    trouble: str | None = None
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Connections:
    """All that came from a program, in its order."""

    tunnels: Sequence[Tunnel] = ()
    sent: Sequence[Sent] = ()

    def requests(self, route: str) -> list[Sent]:
        """Return those for a route's upstream that came by the forward proxy."""
        return [each for each in self.sent if each.route == route and each.place is not None]


def judge_use(found: Connections, places: Iterable[str]) -> Verdict:
    """Return whether a program came by the forward proxy, and for one of `places`, the routes' upstreams."""
    direct = sum(each.place is None for each in found.sent)
    also = f"; {_count(direct, 'request')} came by a route's own URL" if direct else ""
    plain = [each for each in found.sent if each.place is not None and not each.place.endswith(":443")]
    if not found.tunnels and len(found.sent) == direct:
        return failed(f"it does not use HTTPS_PROXY: nothing came to the forward proxy{also}", NO_USE)
    let_in = [each for each in found.tunnels if each.status == ESTABLISHED]
    here = [each for each in let_in if each.intercepted]
    del plain
    if not let_in and any(each.status == NO_KEY_SENT for each in found.tunnels):
        return failed(f"it came without the key of HTTPS_PROXY{also}", NO_KEY)
    if not here and not any(each.route is not None and each.place is not None for each in found.sent):
        told = _list(each.place for each in found.tunnels)
        wanted = " or ".join(places)
        return failed(
            f"it uses HTTPS_PROXY, but asked for no route's upstream: {told}{also}", NOT_ASKED.format(places=wanted)
        )
    others = len(let_in) - len(here)
    return passed(f"it uses HTTPS_PROXY: {len(here)} intercepted, {others} tunnelled{also}")
