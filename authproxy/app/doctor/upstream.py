"""One request with the credential, by the data path's own rules and sender; after a 404, a few without it.

    check_allow ─▶ headers as the route has them ─▶ the token's line ─▶ the answer, judged (`answers.py`)

The credential goes to the route's upstream only, as every request's does: a refused token is replaced once,
and no redirect is followed. What is asked after a 404 goes to the same server, with no header of the
configuration's.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf

from authproxy import __version__
from authproxy.app.doctor.answers import Answered, Asked, Variant, judge, judge_missing, variants
from authproxy.app.doctor.network import Target, is_tls, speaks_tls
from authproxy.app.doctor.steps import Verdict, failed, skipped
from authproxy.app.route_building import injection_of
from authproxy.config.route import RouteConfig
from authproxy.errors import AuthproxyError, BadReply, Forbidden, ResponseTimeout, TokenError, UpstreamError
from authproxy.grants.shape import says_tls
from authproxy.masking import without_query
from authproxy.proxy.judge import check_allow
from authproxy.proxy.route import Route
from authproxy.proxy.router import upstream_target
from authproxy.proxy.send import Outgoing
from authproxy.tokens.token import Token

MAX_BODY = 64 << 10  # bytes of an answer that are looked at
MAX_VARIANTS = 3
BODY_SECONDS = 5.0
TOTAL_SECONDS = 60.0
PROBE_SECONDS = 5.0
USER_AGENT = f"authproxy/{__version__} (doctor)"
METHODS = ("GET", "HEAD")
SLOW = "check whether the upstream is well, name a quicker request with --path, or raise `timeouts.response`"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of an upstream: None leaves it to us."""

    path: str | None = None
    method: str | None = None


@dataclass(frozen=True, slots=True)
class Upstream:
    """A route made ready, its settings, and where it leads; `used` is told each token that was sent."""

    route: Route
    config: RouteConfig
    target: Target
    used: Callable[[Token], None] = lambda _token: None

    async def examine(self, question: Question, token: Token | None) -> Verdict:
        """Ask `question` with `token`, and judge the answer."""
        try:
            method = self._method(question)
        except Forbidden as refused:
            hint = f" ({refused.hint})" if refused.hint else ""
            return skipped(
                f"not asked: {refused.detail}{hint}", "name a request that `allow` lets out: --path, --method"
            )
        asked = self._asked(method, question, token)
        try:
            async with asyncio.timeout(TOTAL_SECONDS):
                asked, answer = await self._send(asked, self._target(question.path), token)
        except TokenError as error:
            return failed(error.detail, error.hint)
        except UpstreamError as error:
            return await self._no_answer(error)
        except TimeoutError:
            return failed(f"{asked.url} sent no whole answer within {TOTAL_SECONDS:g} s", SLOW)
        return await self._judged(asked, answer, question)

    async def _judged(self, asked: Asked, answer: Answered, question: Question) -> Verdict:
        if answer.status == 404 and not asked.refused:
            return await self._missing(asked, question)
        if answer.status == 400 and (says_tls(answer.body) or await self._should_be_tls()):
            return is_tls(self.target)
        return judge(asked, answer)

    # ── the request ──────────────────────────────────────────────────────────────────────────────

    def _method(self, question: Question) -> str:
        """Return the first method that the route lets out. Raises `Forbidden`."""
        path = (question.path or "/").partition("?")[0]
        wanted = [question.method] if question.method else [*METHODS]
        for method in wanted[:-1]:
            try:
                check_allow(self.route, method, self._mounted(path))
            except Forbidden:
                continue
            return method
        check_allow(self.route, wanted[-1], self._mounted(path))
        return wanted[-1]

    def _mounted(self, path: str) -> str:
        """Return the path that a client of the proxy would call."""
        return f"{self.route.path.rstrip('/')}{path}"

    def _target(self, path: str | None) -> str:
        return upstream_target(self._mounted(path or "/"), strip=self.route.strip, base=self.route.base)

    def _asked(self, method: str, question: Question, token: Token | None) -> Asked:
        grant = self.config.grant
        injection = injection_of(grant)
        return Asked(
            method=method,
            url=without_query(f"{self.target.origin}{self._target(question.path)}"),
            origin=str(self.target.origin),
            path=question.path,
            scheme=(injection.scheme or "") if token is not None else None,
            places=injection.said,
            setting=injection.setting,
            static=grant.in_configuration,
        )

    async def _send(self, asked: Asked, target: str, token: Token | None) -> tuple[Asked, Answered]:
        """Return the request as the proxy would have sent it, and its answer."""
        pairs = [(b"Host", self._host()), (b"User-Agent", USER_AGENT.encode()), (b"Accept", b"*/*")]
        head = self.route.request_headers.head(
            f"{asked.method} {target} HTTP/1.1\r\n".encode(), pairs, listed=None, replace=True
        )
        outgoing, refused = Outgoing(asked.method, head), False
        credential = self.route.credential
        try:
            if credential is not None and token is not None:
                reply = await credential.send(outgoing, self.route.sender, token)
                refused = credential.refuses(reply, outgoing)
            else:
                await self.route.sender.send(outgoing, b"")
            return replace(asked, repeated=outgoing.retried, refused=refused), await _read(outgoing)
        finally:
            if outgoing.token is not None:  # another one than `token`, where that was refused
                self.used(outgoing.token)
            await outgoing.close()

    def _host(self) -> bytes:
        """Return what a client would call this route by, which is sent on where `preserve_host` says so."""
        return (self.config.host or self.target.origin.authority).encode("ascii")

    # ── what a person would try next ─────────────────────────────────────────────────────────────

    async def _no_answer(self, error: UpstreamError) -> Verdict:
        if isinstance(error, BadReply) and await self._should_be_tls():
            return is_tls(self.target)
        if isinstance(error, ResponseTimeout):
            return failed(error.detail, SLOW)
        return failed(error.detail, error.hint or "check `upstream`, and whether it speaks HTTP")

    async def _should_be_tls(self) -> bool:
        return self.target.origin.tls is None and self.target.proxy is None and await speaks_tls(self.target)

    async def _missing(self, asked: Asked, question: Question) -> Verdict:
        route = self.route
        path = question.path or "/"
        others = variants(path, base=route.base, prefix=route.path, strips=route.strips)
        if not others:
            return judge_missing(asked, {})
        plainly = await self._plainly(self._target(path).partition("?")[0])
        tried: dict[Variant, int] = {}
        for each in others[:MAX_VARIANTS]:
            found = await self._plainly(each.target)
            if found is not None and _tells(found, named=question.path is not None):
                tried[each] = found.status
        return judge_missing(asked, tried, plainly.status if plainly is not None else None)

    async def _plainly(self, target: str) -> Answered | None:
        """Return the answer to a request that carries nothing of ours, None if there is none."""
        lines = (
            f"GET {target} HTTP/1.1",
            f"Host: {self.target.origin.authority}",
            f"User-Agent: {USER_AGENT}",
            "",
        )
        outgoing = Outgoing("GET", "\r\n".join(lines).encode())
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                reply = await self.route.sender.send(outgoing, b"")
                return Answered(reply.status, list(reply.headers))
        except (AuthproxyError, TimeoutError):
            return None
        finally:
            await outgoing.close()


async def _read(outgoing: Outgoing) -> Answered:
    """Return the answer, its body up to `MAX_BODY`. Raises `UpstreamError`."""
    reply = outgoing.reply
    assert reply is not None  # noqa: S101 - who sent it has its head
    parts, left = [], MAX_BODY if outgoing.method != "HEAD" else -inf
    with suppress(TimeoutError):  # a stream has no end: its head says enough
        async with asyncio.timeout(BODY_SECONDS):
            while left > 0 and (pieces := await reply.read()):
                parts += pieces
                left -= sum(map(len, pieces))
    return Answered(reply.status, list(reply.headers), b"".join(parts)[:MAX_BODY])


def _tells(answer: Answered, *, named: bool) -> bool:
    """Tell whether an answer says that the API is there; a page for people does not.

    Nor does anything but a challenge where the user has not `named` a path.
    """
    if answer.status in {401, 403}:
        return True
    return named and "html" not in answer.header("Content-Type").lower()
