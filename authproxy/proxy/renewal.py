"""The heart: a request whose token is refused is sent once more, with another one.

    token cached? ── no ──▶ wait for one
        │
        ▼
      send ──▶ refused? ── no ──▶ the reply
                  │
                 yes ──▶ a token other than that one ──▶ send once more ──▶ the reply, whatever it is

A request answered 401 has not been applied (RFC 9110 §15.5.2): that is what makes repeating a POST right.
"""

import time
from collections.abc import Callable

from authproxy import logs
from authproxy.errors import TokenError
from authproxy.observe.standing import Standing
from authproxy.proxy.challenge import lacks_scope
from authproxy.proxy.injection import Injection
from authproxy.proxy.login_redirects import REDIRECTS, LoginRedirects
from authproxy.proxy.send import Outgoing, Sender
from authproxy.proxy.upstream.reply import Reply
from authproxy.tokens.source import CachingSource
from authproxy.tokens.token import Token

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Credential:
    """What one route adds, and what it does when the upstream refuses it.

    `statuses` and `redirects` are what counts as a refusal; `cooldown` is in seconds. With `asks_freely`
    another token may be asked for as often as one likes: it costs nobody anything. `static` is what it is
    called where it stands in the configuration. While `standing` is watching, `accepted` is to be called.
    """

    def __init__(
        self,
        source: CachingSource,
        *,
        injection: Injection,
        statuses: frozenset[int],
        redirects: LoginRedirects | None = None,
        idempotent_only: bool,
        cooldown: float,
        asks_freely: bool = False,
        static: str | None = None,
        standing: Standing | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.source = source
        self.static = static
        self.standing = standing or Standing("", lambda _name, _refusal: None)
        self.injection = injection
        self._edits = injection.edits
        self.statuses = statuses
        self._redirects = redirects
        self._suspects = REDIRECTS if redirects else frozenset()
        self._idempotent_only = idempotent_only
        self._cooldown = cooldown
        self._asks_freely = asks_freely
        self._clock = clock
        self._cool_until = 0.0
        self._on_trial: Token | None = None
        self._token: Token | None = None
        self._lines = b""

    def inject(self, outgoing: Outgoing, token: Token) -> bytes:
        """Return the header lines for `token`, encoded once a token; what goes elsewhere is put there.

        Raises `BadTokenReply` for a token that does not go where it should.
        """
        if self._edits:
            if outgoing.bare is None:
                outgoing.bare = outgoing.head
            outgoing.head = self.injection.edited(outgoing.bare, token)
        if token is not self._token:
            self._token, self._lines = token, self.injection.lines(token)
        return self._lines

    async def send(self, outgoing: Outgoing, sender: Sender, token: Token | None = None) -> Reply:
        """Send `outgoing`, and once more if its token is refused.

        `token` is the one it was begun with, if it was. Raises what `Sender.send` does, and `TokenError`.
        """
        if token is None:
            token = self.source.take() or await self._wait_for_token(outgoing)
        outgoing.token = token
        reply = await sender.send(outgoing, self.inject(outgoing, token))
        self._learn(reply, token, outgoing)
        if not self.refuses(reply, outgoing) or lacks_scope(reply.headers):
            return reply
        fresh = await self._other_than(token, outgoing)
        if fresh is None or not self._may_repeat(outgoing, reply.status):
            return reply
        await outgoing.close()
        outgoing.retried, outgoing.token = True, fresh
        reply = await sender.send(outgoing, self.inject(outgoing, fresh))
        self._learn(reply, fresh, outgoing)
        return reply

    async def _wait_for_token(self, outgoing: Outgoing) -> Token:
        origin = self.source.origin()
        token = await self.source.token()
        outgoing.note("token", origin)
        if outgoing.notes is not None:
            outgoing.notes.origin = origin
        return token

    def refuses(self, reply: Reply, outgoing: Outgoing) -> bool:
        """Whether the upstream says, in answer to `outgoing`, that the token will not do."""
        status = reply.status
        return status in self.statuses or (
            status in self._suspects
            and self._redirects is not None
            and self._redirects.fit(reply.headers, outgoing.head)
        )

    def accepted(self, token: Token, status: int) -> None:
        """Note that `token` does what it should: the upstream answered `status`."""
        if self._on_trial is not None and token == self._on_trial:
            self._on_trial = None
        if status < 400:
            self.standing.recover()
        self.standing.watching = self._on_trial is not None or self.standing.refused is not None

    def _learn(self, reply: Reply, token: Token, outgoing: Outgoing) -> None:
        """Note whether `token` did what it should."""
        if not self.refuses(reply, outgoing):
            self.accepted(token, reply.status)
        elif token == self._on_trial and not lacks_scope(reply.headers):
            # It came in place of a refused one, and is no better.
            self._cool_until = self._clock() + self._cooldown
            self._on_trial = None
            outgoing.refused = True

    def _may_repeat(self, outgoing: Outgoing, status: int) -> bool:
        """Whether a request may be sent once more. Only a 4xx and a 5xx say that it was not applied."""
        if status < 400 and outgoing.method not in SAFE:
            outgoing.not_repeated = f"a {outgoing.method} that is answered {status} may have been applied"
        elif not outgoing.repeatable:
            outgoing.not_repeated = "its body is longer than retry.max_body"
        elif self._idempotent_only and not outgoing.idempotent:
            outgoing.not_repeated = "retry.methods is idempotent"
        return not outgoing.not_repeated

    async def _other_than(self, refused: Token, outgoing: Outgoing) -> Token | None:
        """Return another token, or None when there is none: then the upstream's own answer must do.

        None is asked for while one has just not helped; what is cached may be had all the same.
        """
        if self._clock() < self._cool_until and self.source.take() in {None, refused}:
            outgoing.refused, outgoing.not_repeated = True, "another token did not help a moment ago"
            return None
        try:
            fresh = await self.source.token(instead_of=refused)
        except TokenError as error:
            logs.debug("no other token", cause=error.detail)
            outgoing.not_repeated = "no other token can be had"
            outgoing.note("token", outgoing.not_repeated)
            return None
        if fresh == refused:
            if not self._asks_freely:
                self._cool_until = self._clock() + self._cooldown
            outgoing.refused, outgoing.not_repeated = True, "there is no other token"
            return None
        self._on_trial, self.standing.watching = fresh, True
        outgoing.note("token", "renewed")
        if outgoing.notes is not None:
            outgoing.notes.origin = "renewed"
        return fresh
