"""Which header lines go on, in both directions: strip first, forward, inject last.

Names, order, case and repeats stay as they are. What goes is decided once a name and then remembered:
a table from the raw name to a verdict, so that a request costs one look-up a header.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple

from authproxy.proxy.hiding import Hiding
from authproxy.proxy.plain import PlainReply, Section, Shapes, pairs_of
from authproxy.proxy.rewrite import Asked, Bearings, Rewriting
from authproxy.values import any_spelling

RawHeaders = Sequence[tuple[bytes, bytes]]

# RFC 9110 §7.6.1, and what proxies have always dropped besides. Framing is made anew; `TE` and `Trailer`
# go together with the trailers, which are dropped.
HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer"
    b" transfer-encoding upgrade http2-settings".split()
)
CONDITIONS = frozenset({b"if-match", b"if-none-match"})  # which list entity tags (RFC 9110 §13.1)
OWN_REQUEST_HEADERS = frozenset({b"expect"})  # answered by the proxy, not forwarded
FRAMING = frozenset({b"host", b"content-length"})  # pass, but only spelled like this
# What no client may make vanish by listing it in `Connection`.
KEPT_FROM_CONNECTION = frozenset(b"host content-length content-type authorization cookie".split())
# What is remembered is bounded by number and by size: clients that invent names must not fill our memory.
MAX_VERDICTS = 512
MAX_NAME = 64  # bytes of a name
MAX_LIST = 128  # characters of a `Connection` header

PASS, DROP, HOST, CREDENTIAL, LISTS, REWRITE, CONDITION = range(7)
Verdict = int


class _Verdicts(dict[bytes, Verdict]):
    """What to do with a header, by its raw name; judged when it is first seen."""

    def __init__(self, judge: Callable[[bytes], Verdict]) -> None:
        super().__init__()
        self._judge = judge

    def __missing__(self, name: bytes) -> Verdict:
        verdict = self._judge(name.lower())
        if len(self) < MAX_VERDICTS and len(name) <= MAX_NAME:
            self[name] = verdict
        return verdict


Pick = Callable[[list[bytes]], Iterable[bytes]]


def picker(places: list[int], count: int) -> Pick | None:
    """Return what takes the lines at `places` out of `count` lines; None for all of them."""
    if len(places) == count:
        return None
    if len(places) < 2:  # of one place `itemgetter` returns no tuple, of none it is none
        return lambda lines: [lines[place] for place in places]
    return itemgetter(*places)


class RequestPlan(NamedTuple):
    """What becomes of the lines of a plain request: `pick` is None for all.

    `host` is where `Host` stands among those that are left, `name` how it was written; `credential` tells
    whether the caller brought one of its own, which is not picked.
    """

    pick: Pick | None
    host: int
    name: bytes
    credential: bool


class ReplyPlan(NamedTuple):
    """What becomes of the lines of a plain reply; of those that are left, the ones at `rewritten` change."""

    pick: Pick | None
    rewritten: tuple[int, ...]


def header_lines(pairs: Iterable[tuple[str, str]]) -> bytes:
    """Return header lines, as they stand on the wire."""
    return b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in pairs)


def listed_in(connection: str) -> frozenset[bytes]:
    """Return the names that a `Connection` header lists, those that may be dropped for it."""
    return _remembered(connection) if len(connection) <= MAX_LIST else _listed_in(connection)


def _listed_in(connection: str) -> frozenset[bytes]:
    names = {name.strip().lower().encode("utf-8", "surrogateescape") for name in connection.split(",")}
    return frozenset(names - KEPT_FROM_CONNECTION - {b"", b"close", b"keep-alive"})


_remembered = lru_cache(maxsize=256)(_listed_in)


class RequestHeaders:
    """How one route turns a client's header section into the upstream's.

    `credentials` are the names of the headers that carry the token; `host` is the upstream's, or None to
    keep the client's. What `remove` names is the client's: what is set, and the credential, are
    added afterwards. `restored` turns back entity tags in conditions, where answers have others.
    """

    def __init__(
        self,
        *,
        credentials: Iterable[str] = (),
        host: str | None = None,
        set_pairs: Iterable[tuple[str, str]] = (),
        remove: Iterable[str] = (),
        restored: Callable[[bytes], bytes] | None = None,
    ) -> None:
        pairs = list(set_pairs)
        self._restored = restored
        self._host = host.encode("ascii") if host else None
        self._set = header_lines(pairs)
        named = [*remove, *(name for name, _ in pairs)]
        self._dropped = HOP_BY_HOP | OWN_REQUEST_HEADERS
        self._dropped |= {any_spelling(name).encode() for name in named}
        self._credentials = frozenset(any_spelling(name).encode() for name in credentials)
        self._verdicts = _Verdicts(self._judge)
        self._plans: Shapes[RequestPlan] = Shapes(self._plan)

    def passes(self, name: str) -> bool:
        """Tell whether a client's own header goes further, in so far as nothing is put in its place."""
        return any_spelling(name).encode() not in self._dropped

    def _judge(self, name: bytes) -> Verdict:
        spelled = name.replace(b"_", b"-")
        if spelled in self._dropped or (spelled in FRAMING and spelled != name):
            return DROP
        if spelled in self._credentials:
            return CREDENTIAL
        if self._restored is not None and name in CONDITIONS:
            return CONDITION
        return HOST if name == b"host" else PASS

    def head(
        self,
        start: bytes,
        headers: RawHeaders,
        *,
        listed: frozenset[bytes] | None,
        replace: bool,
        authority: bytes = b"",
    ) -> bytes:
        """Return `start` and the header section, without the empty line that ends it.

        An `authority` that the target named counts for more than `Host` (RFC 9112 §3.2.2). With `replace`
        every spelling of the credential's header is left out, so that ours can follow.
        """
        verdicts = self._verdicts
        out = [start]
        for name, value in headers:
            verdict = verdicts[name]
            if verdict == PASS:
                if listed and name.lower() in listed:
                    continue
                out += (name, b": ", value, b"\r\n")
            elif verdict == HOST:
                out += (name, b": ", self._host or authority or value, b"\r\n")
            elif verdict == CREDENTIAL and not replace:
                out += (name, b": ", value, b"\r\n")
            elif verdict == CONDITION and self._restored is not None:
                out += (name, b": ", self._restored(value), b"\r\n")
        out.append(self._set)
        return b"".join(out)

    def plain(self, section: Section, incoming: str) -> bytes | None:
        """Return the lines of a plain section as `head` does; None when that has to be looked at closer."""
        plan = self._plans[section.names]
        if plan is None or (plan.credential and incoming != "replace"):
            return None
        lines = list(section.lines if plan.pick is None else plan.pick(section.lines))
        if self._host is not None:
            lines[plan.host] = plan.name + b": " + self._host
        return b"\r\n".join(lines) + b"\r\n" + self._set

    def _plan(self, _names: list[bytes], written: tuple[bytes, ...]) -> RequestPlan | None:
        verdicts = [self._verdicts[name] for name in written]
        places = [place for place, verdict in enumerate(verdicts) if verdict in {PASS, HOST}]
        if HOST not in verdicts or CONDITION in verdicts:
            return None
        host = verdicts.index(HOST)
        return RequestPlan(
            picker(places, len(written)), places.index(host), written[host], CREDENTIAL in verdicts
        )


class ResponseHeaders:
    """How one route turns an upstream's header section into the client's.

    `rewriting` is None to leave alone what points at the upstream; `hiding` takes out what we have sent. With
    `cors` the upstream has its say in which pages may read an answer: where nothing of ours is in it.
    """

    def __init__(
        self,
        *,
        set_pairs: Iterable[tuple[str, str]] = (),
        remove: Iterable[str] = (),
        rewriting: Rewriting | None = None,
        hiding: Hiding | None = None,
        cors: bool = False,
    ) -> None:
        pairs = list(set_pairs)
        self._cors = cors
        self._rewriting = rewriting
        self._hiding = hiding
        self._set = header_lines(pairs)
        self._dropped = HOP_BY_HOP | {name.lower().encode() for name in remove}
        self._dropped |= {name.lower().encode() for name, _ in pairs}
        self._verdicts = _Verdicts(self._judge)
        self._plans: Shapes[ReplyPlan] = Shapes(self._plan)

    def _judge(self, name: bytes) -> Verdict:
        # CORS is between the page and us: an upstream's word must not open our door (SPEC: the guard).
        if name == b"connection":
            return LISTS
        if name in self._dropped or (not self._cors and name.startswith(b"access-control-")):
            return DROP
        if self._hiding is not None and self._hiding.concerns(name):
            return REWRITE
        return REWRITE if self._rewriting is not None and self._rewriting.rewrites(name) else PASS

    def _rewritten(self, name: bytes, value: bytes, at: Bearings | None) -> bytes | None:
        """Return the value of a header that is rewritten; None for one that goes."""
        if self._hiding is not None:
            hidden = self._hiding.value(name, value)
            if hidden is None:
                return None
            value = hidden
        if at is None or self._rewriting is None or not self._rewriting.rewrites(name.lower()):
            return value
        return self._rewriting.value(name, value, at)

    def head(self, status: int, reason: bytes, headers: RawHeaders, asked: Asked) -> bytes:
        """Return the status line and the header section for the one who `asked`, without framing and end."""
        verdicts, rewriting = self._verdicts, self._rewriting
        out = [b"HTTP/1.1 %d " % status, reason, b"\r\n"]
        listed: frozenset[bytes] | None = None
        at: Bearings | None = None
        for name, value in headers:
            verdict = verdicts[name]
            if verdict == PASS:
                out += (name, b": ", value, b"\r\n")
            elif verdict == REWRITE:
                at = at or (rewriting.bearings(asked) if rewriting is not None else None)
                if (rewritten := self._rewritten(name, value, at)) is not None:
                    out += (name, b": ", rewritten, b"\r\n")
            elif verdict == LISTS and (named := listed_in(value.decode("latin-1"))):
                listed = (listed or frozenset()) | named
        if listed:
            left = [pair for pair in headers if pair[0].lower() not in listed]
            left = [pair for pair in left if pair[0].lower() != b"connection"]
            return self.head(status, reason, left, asked)
        out.append(self._set)
        return b"".join(out)

    def plain(self, reply: PlainReply, asked: Asked) -> bytes:
        """Return what `head` does, of a plain reply: there `Connection` lists nothing."""
        if (head := reply.worked_out.get(self)) is not None:
            return head
        plan = self._plans[reply.names]
        if plan is None:
            return self.head(reply.status, reply.reason, pairs_of(reply.lines), asked)
        lines = [reply.status_line]
        lines += reply.lines if plan.pick is None else plan.pick(reply.lines)
        if plan.rewritten:
            self._rewrite(lines, plan.rewritten, asked)
        head = b"\r\n".join(lines) + b"\r\n" + self._set
        if not plan.rewritten:
            reply.worked_out[self] = head
        return head

    def _rewrite(self, lines: list[bytes], places: Iterable[int], asked: Asked) -> None:
        """Rewrite the lines at `places`; those that go are taken out."""
        at = self._rewriting.bearings(asked) if self._rewriting is not None else None
        gone = []
        for place in places:
            name, _, value = lines[place].partition(b": ")
            rewritten = self._rewritten(name, value, at)
            if rewritten is None:
                gone.append(place)
            else:
                lines[place] = name + b": " + rewritten
        for place in reversed(gone):
            del lines[place]

    def _plan(self, _names: list[bytes], written: tuple[bytes, ...]) -> ReplyPlan:
        verdicts = [self._verdicts[name] for name in written]
        places = [place for place, verdict in enumerate(verdicts) if verdict in {PASS, REWRITE}]
        rewritten = [at for at, place in enumerate(places, 1) if verdicts[place] == REWRITE]
        return ReplyPlan(picker(places, len(written)), tuple(rewritten))
