"""A token, and until when it will do.

         issued_at                     refresh_at      usable_until   expires_at
             ├──────────── valid ───────────┼── renew behind ──┼─ wait for ──┤
                                            (background)        a new one

Times are seconds since the epoch: they must mean the same after a suspend, after a restart and in
another process.
"""

from dataclasses import dataclass, field
from math import inf

WAIT_MARGIN = 5.0  # seconds before expiry from which a request waits for a new token…
WAIT_SHARE = 0.05  # …or this share of the lifetime, if that is less


@dataclass(frozen=True, slots=True)
class Token:
    """A token as its grant obtained it. Two are equal when they would make the same header."""

    value: str = field(repr=False)
    expires_at: float = field(default=inf, compare=False)
    issued_at: float = field(default=0.0, compare=False)
    refresh_token: str | None = field(default=None, repr=False, compare=False)
    scope: str | None = field(default=None, compare=False)  # as granted; None when nobody said
    fields: tuple[tuple[str, str], ...] = field(default=(), repr=False, compare=False)
    """What else of its reply is sent, each by its JSON Pointer."""
    usable_until: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        margin = min(WAIT_MARGIN, self.lifetime * WAIT_SHARE)
        object.__setattr__(self, "usable_until", self.expires_at - margin)

    @property
    def lifetime(self) -> float:
        """Seconds from issue to expiry; infinite when nobody said."""
        return self.expires_at - self.issued_at
