"""What the connections of a program say of it: whether it uses the proxy, and whom it trusts.

nothing came                     it does not use HTTPS_PROXY
CONNECT, 407                     it does not send the user and the password that HTTPS_PROXY has
CONNECT, a handshake that fails  it does not trust our authority: it reads none of the variables
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
NO_TRUST = (
    "have it trust the roots in the file that SSL_CERT_FILE names in its environment; which variables "
    "programs read, and what to do about those that read none, is in docs/exec.md; Java takes --java"
)
NO_NAME = "it names no server in the handshake (SNI); that does here, but not everywhere"


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A CONNECT to `place`, HOST:PORT, and what came of it.

    `status` is what it was answered, `refusal` why, if that is not 200. It is `intercepted` where a route's
    upstream is there; then `named` is the server that the client named (SNI), and `failure` says why there was
    no handshake.
    """

    place: str
    status: int = 200
    refusal: str | None = None
    intercepted: bool = False
    named: str | None = None
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """A request; `trouble` is why the answer is our own, if it is. It came `direct` by the route's own URL."""

    route: str | None
    method: str
    path: str
    status: int
    trouble: str | None = None
    hint: str | None = None
    direct: bool = False
    place: str = ""


def judge_use(tunnels: Sequence[Tunnel], sent: Sequence[Sent]) -> Verdict:
    """Return whether a program came to the forward proxy at all."""
    direct = sum(each.direct for each in sent)
    also = f"; {_count(direct, 'request')} came by a route's own URL" if direct else ""
    plain = sum(not each.direct and not each.place for each in sent)
    came = len(tunnels) + plain
    if not came:
        return failed(f"it does not use HTTPS_PROXY: nothing came to the forward proxy{also}", NO_USE)
    if all(each.status == 407 for each in tunnels) and tunnels and not plain:
        return failed(f"it came without the key{also}", NO_KEY)
    let_in = [each for each in tunnels if each.status == 200]
    here = sum(each.intercepted for each in let_in)
    parts = [f"{here} intercepted", f"{len(let_in) - here} tunnelled"]
    parts += [f"{plain} in plain http"] if plain else []
    return passed(f"it uses HTTPS_PROXY: {', '.join(parts)}{also}")


def judge_trust(place: str, tunnels: Iterable[Tunnel]) -> Verdict:
    """Return whether a program accepts our certificate for `place`, a host of a route's."""
    found = [each for each in tunnels if each.place == place and each.intercepted]
    if not found:
        return skipped(f"it did not ask for {place}")
    failures = Counter(each.failure for each in found if each.failure is not None)
    if failures:
        why, count = failures.most_common(1)[0]
        of = f" ({sum(failures.values())} of {len(found)} connections)" if len(found) > 1 else ""
        del count
        return failed(f"{place}: {why}{of}", NO_TRUST)
    named = {each.named for each in found}
    how = "it named no server (SNI)" if named == {None} else "with SNI"
    return passed(f"{place}: our certificate was accepted, {how}")


def judge_requests(sent: Sequence[Sent]) -> Verdict:
    """Return what became of the requests to a route's upstream that came by the forward proxy."""
    if not sent:
        return skipped("no request came that far")
    for each in sent:
        if each.trouble is not None:
            return failed(f"{_told(each)}: {each.trouble}", each.hint)
    for each in sent:
        if each.status in {401, 403}:
            return failed(
                _told(each), f"`authproxy doctor {each.route}` says what the upstream does not like"
            )
    return passed(_list([_told(each) for each in sent]))


def judge_others(tunnels: Iterable[Tunnel]) -> Verdict | None:
    """Return where else a program went; None for nowhere."""
    others = [each for each in tunnels if not each.intercepted and each.status != 407]
    refused = [each for each in others if each.status != 200]
    if refused:
        told = [f"{each.place}: {each.refusal or each.status}" for each in refused]
        return failed(
            _list(told), "`unmatched: refuse` lets it nowhere else; a host may be down, or not be there"
        )
    return passed(_list([each.place for each in others])) if others else None


def _told(sent: Sent) -> str:
    return (
        f"{sent.method} {sent.path} answered {sent.status}" if sent.status else f"{sent.method} {sent.path}"
    )


def _list(told: Iterable[str]) -> str:
    counted = Counter(told)
    shown = [text if count == 1 else f"{text} ({count} times)" for text, count in counted.items()]
    more = len(shown) - MAX_TOLD
    return ", ".join(shown[:MAX_TOLD]) + (f" and {more} more" if more > 0 else "")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
