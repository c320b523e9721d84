"""What GitHub, GitLab and Planet have in common: a token that somebody got from the vendor's pages."""

import time
from math import inf

from aiohttp import web

from authproxy.demo.standin import Received, StandIn
from authproxy.tokens.source import Clock


class HandedOut(StandIn):
    """One token, good until it is revoked."""

    token_lifetime = inf

    def __init__(self, *, lifetime: float | None = None, clock: Clock = time.time) -> None:
        super().__init__(lifetime=lifetime, clock=clock)
        # What is handed out by hand does not expire.
        self.handed_out = self.tokens.hand_out(inf, f"demo-token-of-{self.name}")

    def sent(self, received: Received) -> str | None:
        """Return the token that came with a request, wherever this vendor looks for it."""
        raise NotImplementedError

    def refusal(self, received: Received) -> web.Response | None:
        token = self.sent(received)
        return None if token is not None and self.tokens.knows(token) else self.challenge()
