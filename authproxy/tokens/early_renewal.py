"""When a token is renewed in the background: before it ends, but not too often.

issued_at                     renew_at      usable_until   expires_at
    ├──────────── valid ───────────┼── background ──┼── wait ──┤
"""

import random
from dataclasses import dataclass
from math import inf

from authproxy.errors import AuthproxyError
from authproxy.tokens.token import Token

REFRESH_BEFORE = 60.0  # `refresh_before: auto` is this many seconds…
REFRESH_SHARE = 0.2  # …or this share of the lifetime, if that is less
JITTER = 0.1  # how much of that it may start earlier, so that replicas do not renew in step
RETRY_SHARE = 0.1  # a failed early renewal is tried again after this share of what is left
MIN_SECONDS = 1.0  # between two renewals that nothing but the token's own end asks for
SHORTEST = 0.9  # seconds that a token lives for which that much would be its whole life: half of it, then


@dataclass(frozen=True, slots=True)
class EarlyRenewal:
    """`refresh_before` is in seconds; None means `auto`. Moments are epoch seconds."""

    refresh_before: float | None = None

    def renew_at(self, token: Token, now: float) -> float:
        """Return when to renew `token`, which has just come."""
        before = self.refresh_before
        if before is None:
            before = min(REFRESH_BEFORE, token.lifetime * REFRESH_SHARE)
        # A margin of more than half the lifetime would renew on nearly every request.
        before = min(before, token.lifetime / 2)
        early = token.expires_at - before * (1 + random.uniform(0, JITTER))  # noqa: S311 - spreads load only
        return max(early, now + _between(token.lifetime))

    def retry_at(self, token: Token, failure: AuthproxyError | None, now: float) -> float:
        """Return when to try again after `failure`, while `token` serves."""
        if failure is not None and failure.retry_after is not None:
            return now + max(MIN_SECONDS, failure.retry_after)
        left = token.usable_until - now
        return now + max(MIN_SECONDS, left * RETRY_SHARE if left < inf else REFRESH_BEFORE)


def _between(lifetime: float) -> float:
    """Return how many seconds there are at least from a token that came to its early renewal."""
    return min(MIN_SECONDS, lifetime / 2) if lifetime >= SHORTEST else MIN_SECONDS
